//! [`Freed`]: which places of a spill file are free again, and what the file system can be told of it.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a file in use up to an end, with free ranges between.
#[derive(Default)]
pub(super) struct Freed {
    /// First byte that was never used, or is free up to the end.
    end: u64,
    /// Begin -> end of each free range before it; no two of them touch.
    ranges: BTreeMap<u64, u64>,
}

/// What can be given back to the file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Give {
    /// Everything from here on.
    From(u64),
    /// Whole pages of the file system.
    Hole(Range<u64>),
    Nothing,
}

impl Freed {
    /// A place at the end.
    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let at = self.end;
        self.end += bytes;
        at
    }

    /// Frees a place. Blocks do not begin on pages of the file system: a page is given back with the last block on it.
    pub(super) fn free(&mut self, place: Range<u64>, page: u64) -> Give {
        let mut whole = place.clone();
        if let Some((&begin, &end)) = self.ranges.range(..=place.start).next_back()
            && end == place.start
        {
            self.ranges.remove(&begin);
            whole.start = begin;
        }
        if let Some(end) = self.ranges.remove(&place.end) {
            whole.end = end;
        }
        if whole.end == self.end {
            self.end = whole.start;
            return Give::From(whole.start);
        }
        self.ranges.insert(whole.start, whole.end);
        let begin = whole.start.next_multiple_of(page).max(place.start - place.start % page);
        let end = (whole.end - whole.end % page).min(place.end.next_multiple_of(page));
        if begin < end { Give::Hole(begin..end) } else { Give::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_goes_with_its_last_block() {
        let mut freed = Freed::default();
        let blocks: Vec<_> = (0..4).map(|_| freed.take(3000)).map(|at| at..at + 3000).collect();
        assert_eq!(freed.free(blocks[0].clone(), 4096), Give::Nothing);
        assert_eq!(freed.free(blocks[2].clone(), 4096), Give::Nothing);
        assert_eq!(freed.free(blocks[1].clone(), 4096), Give::Hole(0..8192));
        assert_eq!(freed.free(blocks[3].clone(), 4096), Give::From(0));
        assert_eq!(freed.take(1), 0);
    }

    proptest! {
        #[test]
        fn pages_are_given_back_once_all_of_them_is_free(
            lengths in prop::collection::vec(1u64..40, 1..40), order in any::<prop::sample::Index>(), page in 1u64..20,
        ) {
            let mut freed = Freed::default();
            let mut blocks: Vec<_> = lengths.iter().map(|&n| { let at = freed.take(n); at..at + n }).collect();
            let total = freed.end;
            let mut in_use = vec![true; total as usize];
            let mut held = in_use.clone();
            while !blocks.is_empty() {
                let block = blocks.swap_remove(order.index(blocks.len()));
                in_use[block.start as usize..block.end as usize].fill(false);
                match freed.free(block, page) {
                    Give::From(at) => held[at as usize..].fill(false),
                    Give::Hole(hole) => held[hole.start as usize..hole.end as usize].fill(false),
                    Give::Nothing => {}
                }
                for first in (0..total).step_by(page as usize) {
                    let bytes = first as usize..(first + page).min(total) as usize;
                    let used = in_use[bytes.clone()].contains(&true);
                    // The last page may be cut, but not beyond what is in use.
                    prop_assert!(used || !held[bytes.clone()].contains(&true));
                    for i in bytes {
                        prop_assert!(held[i] || !in_use[i]);
                    }
                }
            }
            prop_assert_eq!(freed.end, 0);
        }
    }
}
