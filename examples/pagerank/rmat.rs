//! R-MAT graphs (Chakrabarti, Zhan, Faloutsos: *R-MAT: A Recursive Model for Graph Mining*, SDM 2004) with Graph500's
//! parameters. Edge `i` depends on the seed and `i` alone, so any number of ranks makes the same graph.

use aeolian_examples::random::{at, mix};

// 0.57, 0.57 + 0.19 and 0.57 + 0.19 + 0.19 of 2^32: the borders between the quarters of the matrix.
const A: u32 = 2_448_131_358;
const AB: u32 = 3_264_175_144;
const ABC: u32 = 4_080_218_931;

/// A random graph of `2^scale` vertices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rmat {
    scale: u32,
    seed: u64,
    /// Odd multipliers of the renumbering.
    odd: [u32; 3],
}

impl Rmat {
    /// `scale` is 1 to 31.
    pub(crate) fn new(scale: u32, seed: u64) -> Rmat {
        Rmat { scale, seed, odd: [1, 2, 3].map(|k| at(seed, 1, k) as u32 | 1) }
    }

    /// How many vertices.
    pub(crate) fn vertices(&self) -> u64 {
        1 << self.scale
    }

    /// Source and target of edge `i`.
    #[inline]
    pub(crate) fn edge(&self, i: u64) -> (u32, u32) {
        let (mut source, mut target) = (0, 0);
        let mut word = at(self.seed, 0, i);
        for level in 0..self.scale {
            // Two draws from each word.
            let draw = if level % 2 == 0 { word as u32 } else { (word >> 32) as u32 };
            let (down, right) = (draw >= AB, (A..AB).contains(&draw) || draw >= ABC);
            source = source << 1 | u32::from(down);
            target = target << 1 | u32::from(right);
            if level % 2 == 1 {
                word = mix(word);
            }
        }
        (self.renumber(source), self.renumber(target))
    }

    /// A permutation of the vertices, as Graph500 asks for: otherwise low numbers have most edges.
    #[inline]
    fn renumber(&self, mut vertex: u32) -> u32 {
        let mask = (1u32 << self.scale) - 1;
        for odd in self.odd {
            vertex = vertex.wrapping_mul(odd).wrapping_add(odd >> 7) & mask;
            vertex ^= vertex >> (self.scale / 2).max(1);
        }
        vertex
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renumbering_is_a_permutation() {
        for scale in [1, 2, 3, 10, 11] {
            let rmat = Rmat::new(scale, 7);
            let mut all: Vec<u32> = (0..1 << scale).map(|v| rmat.renumber(v)).collect();
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..1 << scale), "{scale}");
        }
    }

    #[test]
    fn quarters_have_their_shares() {
        let rmat = Rmat { odd: [1; 3], ..Rmat::new(1, 3) };
        let mut counts = [0u32; 4];
        (0..100_000).map(|i| rmat.edge(i)).for_each(|(s, t)| counts[(s * 2 + t) as usize] += 1);
        // Renumbering may exchange the two vertices.
        if counts[3] > counts[0] {
            counts.reverse();
        }
        for (count, share) in counts.iter().zip([0.57, 0.19, 0.19, 0.05]) {
            assert!((f64::from(*count) / 1e5 - share).abs() < 0.01, "{counts:?}");
        }
    }
}
