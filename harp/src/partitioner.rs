//! [`Partitioner`]: which rank a partition belongs to.

use crate::error::{HarpError, Result};
use std::collections::HashMap;

/// Says to which rank the partition of an id belongs. All ranks must use the same one.
pub trait Partitioner {
    /// The rank of `id` among `size` ranks; a number from `size` on is an error of the call that asked.
    fn rank_of(&self, id: u64, size: u32) -> u32;

    /// Its name, which all ranks must agree on.
    fn name(&self) -> &'static str;
}

/// Asks a partitioner, and refuses a rank that does not exist.
pub(crate) fn place<P: Partitioner + ?Sized>(partitioner: &P, id: u64, size: u32) -> Result<u32> {
    let rank = partitioner.rank_of(id, size);
    if rank < size {
        return Ok(rank);
    }
    Err(HarpError::Partitioner { name: partitioner.name(), id, rank, size })
}

/// Id modulo the number of ranks: Harp's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modulo;

impl Partitioner for Modulo {
    fn rank_of(&self, id: u64, size: u32) -> u32 {
        (id % u64::from(size)) as u32
    }

    fn name(&self) -> &'static str {
        "modulo"
    }
}

/// A hash of the id: spreads ids of any pattern (multiples, addresses) evenly.
///
/// The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), and the reduction to a rank is Lemire's
/// multiplication, so it is the same on all machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashed;

impl Partitioner for Hashed {
    fn rank_of(&self, id: u64, size: u32) -> u32 {
        ((u128::from(mix(id)) * u128::from(size)) >> 64) as u32
    }

    fn name(&self) -> &'static str {
        "hashed"
    }
}

/// The finaliser of SplitMix64.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Consecutive ids together: rank `r` has those from `bounds[r - 1]` up to, and without, `bounds[r]`; the last rank has the rest.
///
/// ```
/// use aeolian_harp::{Partitioner, Ranges};
/// let ranges = Ranges::new(vec![10, 20]);
/// assert_eq!([0, 9, 10, 19, 20, u64::MAX].map(|id| ranges.rank_of(id, 3)), [0, 0, 1, 1, 2, 2]);
/// assert_eq!(Ranges::even(100, 4).rank_of(49, 4), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    bounds: Vec<u64>,
}

impl Ranges {
    /// Ranges that end before these ids; they are sorted first.
    pub fn new(mut bounds: Vec<u64>) -> Ranges {
        bounds.sort_unstable();
        Ranges { bounds }
    }

    /// The ids below `ids` in `size` ranges of the same length, give or take one.
    pub fn even(ids: u64, size: u32) -> Ranges {
        let bound = |r: u32| (u128::from(ids) * u128::from(r) / u128::from(size.max(1))) as u64;
        Ranges { bounds: (1..size).map(bound).collect() }
    }
}

impl Partitioner for Ranges {
    fn rank_of(&self, id: u64, _: u32) -> u32 {
        self.bounds.partition_point(|&bound| bound <= id) as u32
    }

    fn name(&self) -> &'static str {
        "ranges"
    }
}

/// An explicit rank for each id; others go where [`Modulo`] says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explicit {
    ranks: HashMap<u64, u32>,
}

impl Explicit {
    /// The rank of each id.
    pub fn new(ranks: impl IntoIterator<Item = (u64, u32)>) -> Explicit {
        Explicit { ranks: ranks.into_iter().collect() }
    }
}

impl Partitioner for Explicit {
    fn rank_of(&self, id: u64, size: u32) -> u32 {
        self.ranks.get(&id).copied().unwrap_or_else(|| Modulo.rank_of(id, size))
    }

    fn name(&self) -> &'static str {
        "explicit"
    }
}

/// A partitioner made of a function of id and number of ranks.
///
/// ```
/// use aeolian_harp::{ById, Partitioner};
/// let by_high_half = ById::new("high half", |id, size| (id >> 32) as u32 % size);
/// assert_eq!(by_high_half.rank_of(5 << 32, 4), 1);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ById<F> {
    name: &'static str,
    function: F,
}

impl<F: Fn(u64, u32) -> u32> ById<F> {
    /// `name` is shown in errors and must be the same on all ranks.
    pub fn new(name: &'static str, function: F) -> ById<F> {
        ById { name, function }
    }
}

impl<F: Fn(u64, u32) -> u32> Partitioner for ById<F> {
    fn rank_of(&self, id: u64, size: u32) -> u32 {
        (self.function)(id, size)
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_spreads_multiples() {
        for stride in [1, 2, 7, 64, 4096] {
            let mut count = [0u32; 7];
            (0..7000u64).for_each(|i| count[Hashed.rank_of(i * stride, 7) as usize] += 1);
            assert!(count.iter().all(|&c| (800..1200).contains(&c)), "stride {stride}: {count:?}");
        }
    }

    #[test]
    fn even_ranges_cover_and_hardly_differ() {
        for (ids, size) in [(0, 3), (1, 4), (10, 3), (u64::MAX, 5), (7, 1)] {
            let ranges = Ranges::even(ids, size);
            assert_eq!(ranges.rank_of(0, size), if ids == 0 { size - 1 } else { ranges.rank_of(0, size) });
            assert!((0..ids.min(50)).all(|id| ranges.rank_of(id, size) < size));
        }
        assert!(matches!(
            place(&Ranges::new(vec![1, 2, 3]), 9, 2),
            Err(HarpError::Partitioner { id: 9, rank: 3, size: 2, .. })
        ));
    }
}
