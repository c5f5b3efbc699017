//! Rows into splits of equal work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Where each of some rows is.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    /// The split of each row.
    pub(crate) split: Vec<u32>,
    /// Its place there.
    pub(crate) place: Vec<u32>,
    /// Rows of each split.
    pub(crate) sizes: Vec<usize>,
}

/// Deals out rows with so many ratings each: the one with most of those that are left goes to the split that has fewest so far. Those of
/// many ratings come first in their split, so that what is used most lies together.
pub(crate) fn cut(ratings: &[u32], splits: usize) -> Cut {
    let mut order: Vec<u32> = (0..ratings.len() as u32).collect();
    order.sort_by_key(|row| Reverse(ratings[*row as usize]));
    let mut cut =
        Cut { split: vec![0; ratings.len()], place: vec![0; ratings.len()], sizes: vec![0; splits] };
    let mut least: BinaryHeap<Reverse<(u64, u32)>> = (0..splits as u32).map(|s| Reverse((0, s))).collect();
    for row in order {
        let Some(Reverse((load, split))) = least.pop() else { break };
        let size = &mut cut.sizes[split as usize];
        (cut.split[row as usize], cut.place[row as usize]) = (split, *size as u32);
        *size += 1;
        // A row costs something too, even without ratings.
        least.push(Reverse((load + u64::from(ratings[row as usize]) + 1, split)));
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_place_of_its_own_and_loads_are_even() {
        for (rows, splits) in [(0, 3), (1, 1), (5, 8), (1000, 7)] {
            let ratings: Vec<u32> = (0..rows).map(|i| 2000 / (i + 1)).collect();
            let cut = cut(&ratings, splits);
            let mut seen: Vec<(u32, u32)> =
                cut.split.iter().copied().zip(cut.place.iter().copied()).collect();
            seen.sort_unstable();
            let all = cut.sizes.iter().zip(0..).flat_map(|(n, s)| (0..*n as u32).map(move |p| (s, p)));
            assert!(seen.into_iter().eq(all), "{rows} {splits}");
            let mut loads = vec![0; splits];
            cut.split.iter().zip(&ratings).for_each(|(s, n)| loads[*s as usize] += n + 1);
            if rows == 1000 {
                // The row with most ratings has more than a share.
                assert!(loads.iter().skip(1).all(|l| l.abs_diff(loads[1]) < 100), "{loads:?}");
            }
        }
    }
}
