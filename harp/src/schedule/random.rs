//! Random numbers that are the same everywhere for one seed (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).

use crate::partitioner::mix;

#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The sequence of a seed and a number of its own (an epoch, a run).
    pub(super) fn new(seed: u64, number: u64) -> Random {
        let mut random = Random(seed);
        random.0 = random.next() ^ number;
        random.0 = random.next();
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of 0..n (0 if that is empty). The bias is below n / 2^64.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// 0..n in a random order (Fisher-Yates).
    pub(super) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_are_permutations_and_depend_on_both_numbers() {
        for n in [0, 1, 2, 17] {
            let mut p = Random::new(3, 4).permutation(n);
            p.sort_unstable();
            assert_eq!(p, (0..n).collect::<Vec<_>>());
        }
        let of = |seed, number| Random::new(seed, number).permutation(30);
        assert_eq!(of(1, 2), of(1, 2));
        assert!(of(1, 2) != of(2, 1) && of(1, 2) != of(1, 3) && of(1, 2) != of(2, 2));
    }

    #[test]
    fn below_reaches_all() {
        let mut random = Random::new(0, 0);
        let mut seen = [0; 5];
        (0..500).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|&n| n > 50));
        assert_eq!(random.below(0), 0);
    }
}
