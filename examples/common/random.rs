//! Random numbers that depend on where they are used, not on who draws them: the same on any number of ranks.

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit.
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The number at place (`stream`, `index`) of the sequence that belongs to `seed`.
pub fn at(seed: u64, stream: u64, index: u64) -> u64 {
    mix(mix(mix(seed) ^ stream) ^ index)
}

/// The same, as a whole number in `0..n` (`n` > 0).
///
/// ```
/// assert!((0..1000).all(|i| aeolian_examples::random::below(7, 0, i, 10) < 10));
/// ```
pub fn below(seed: u64, stream: u64, index: u64, n: u64) -> u64 {
    ((u128::from(at(seed, stream, index)) * u128::from(n)) >> 64) as u64
}

/// `k` distinct numbers of `0..n` (Floyd's algorithm), in the order in which they were drawn. `k` must not exceed `n`.
pub fn distinct(seed: u64, stream: u64, k: usize, n: u64) -> Vec<u64> {
    let mut seen = std::collections::HashSet::with_capacity(k);
    (n - k as u64..n)
        .map(|j| {
            let t = below(seed, stream, j, j + 1);
            let pick = if seen.contains(&t) { j } else { t };
            seen.insert(pick);
            pick
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_enough() {
        let mut counts = [0u32; 10];
        (0..100_000).for_each(|i| counts[below(1, 2, i, 10) as usize] += 1);
        // Five standard deviations of a binomial count; the sequence is fixed, so this either always holds or never.
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 475), "{counts:?}");
    }

    #[test]
    fn distinct_rows() {
        for (k, n) in [(0, 5), (5, 5), (3, 1000), (999, 1000)] {
            let mut rows = distinct(3, 0, k, n);
            rows.sort_unstable();
            rows.dedup();
            assert!(rows.len() == k && rows.iter().all(|r| *r < n));
        }
        assert_ne!(distinct(1, 0, 5, 1000), distinct(2, 0, 5, 1000));
    }
}
