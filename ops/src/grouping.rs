//! [`Grouping`]: how keyed operators cut the keys of a target into parts.
//!
//! A hash table of many keys misses the cache with every record. So sources already sort records into parts of a target by their hash
//! (radix partitioning: Manegold, Boncz, Kersten, *Optimizing main-memory join on modern hardware*, 2002): a batch is for one part, and the
//! table of one part stays in the cache while the batch is worked off. Parts are also what is spilled, as a whole (*grace* hashing).

use crate::key::Key;
use crate::selector::SEED;

/// So many parts that the batches which one rank fills stay in its second-level cache.
const SLOTS: u32 = 64;

/// The parts of the targets of a keyed operator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grouping {
    /// Parts of each target: a power of two.
    pub(crate) parts: u32,
    targets: u32,
}

impl Grouping {
    /// For so many targets; the same on all ranks.
    pub(crate) fn new(targets: usize) -> Grouping {
        let targets = targets.max(1) as u32;
        let parts = (SLOTS / targets).clamp(1, SLOTS);
        Grouping { parts: 1 << parts.ilog2(), targets }
    }

    /// The same with one part for each target.
    pub(crate) fn whole(targets: usize) -> Grouping {
        Grouping { parts: 1, targets: targets.max(1) as u32 }
    }

    /// The slot of a key by its hash: the target as [`target_of`](crate::target_of) gives it, the part by lower bits.
    #[inline]
    pub(crate) fn slot_of_hash(&self, hash: u64) -> u32 {
        // (How far inside its target it is, in parts, is what a number that is `parts` times as large has beside the target.)
        ((u128::from(hash) * self.slots() as u128) >> 64) as u32
    }

    /// The part of a key by its hash, which is the same for all targets.
    #[inline]
    pub(crate) fn part_of_hash(&self, hash: u64) -> u32 {
        self.slot_of_hash(hash) % self.parts
    }

    /// The hash that slots are found by.
    #[inline]
    pub(crate) fn hash<K: Key>(key: &K) -> u64 {
        key.hash(SEED)
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.targets as usize * self.parts as usize
    }

    /// The slots of a target.
    pub(crate) fn slots_of(&self, target: u32) -> std::ops::Range<u32> {
        target * self.parts..(target + 1) * self.parts
    }

    /// The target of a slot.
    pub(crate) fn target(&self, slot: u32) -> u32 {
        slot / self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::target_of;

    #[test]
    fn parts_are_of_the_target_and_even() {
        for targets in [1, 2, 3, 5, 64, 100] {
            let grouping = Grouping::new(targets);
            let slots = targets * grouping.parts as usize;
            let mut keys = vec![0; slots];
            for key in 0..200 * slots as u64 {
                let slot = grouping.slot_of_hash(Grouping::hash(&key));
                assert!(grouping.slots_of(grouping.target(slot)).contains(&slot));
                assert_eq!(grouping.target(slot), target_of(&key, targets as u32));
                keys[slot as usize] += 1;
            }
            assert!(keys.iter().all(|n| (120..300).contains(n)), "{targets}: {keys:?}");
        }
    }
}
