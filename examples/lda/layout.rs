//! Which words go round the ranks together.
//!
//! Words are dealt out to groups; a group is a partition of the word-topic table. As many groups as a rank has blocks of documents
//! are a slice, and each rank is the home of [`SLICES`] slices: one is sampled while another moves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Slices that a rank has.
pub(crate) const SLICES: usize = 2;

/// The same on every rank.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Blocks of documents of a rank, and groups of a slice.
    pub(crate) blocks: usize,
    /// Group of each word.
    group: Vec<u32>,
    /// And its place therein.
    place: Vec<u32>,
    pub(crate) groups: Vec<Group>,
}

/// Words that travel together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// By place.
    pub(crate) words: Vec<u32>,
    /// Where the row of each begins in the partition, and at last the length of the partition.
    pub(crate) starts: Vec<usize>,
}

impl Layout {
    /// Deals words out, the most frequent first, each to the group that has the fewest tokens so far.
    pub(crate) fn new(counts: &[u64], topics: usize, ranks: usize, blocks: usize) -> Layout {
        let n = ranks * SLICES * blocks;
        let mut groups: Vec<Group> = (0..n).map(|_| Group { words: Vec::new(), starts: vec![0] }).collect();
        let mut least: BinaryHeap<Reverse<(u64, usize)>> = (0..n).map(|g| Reverse((0, g))).collect();
        let (mut group, mut place) = (vec![0; counts.len()], vec![0; counts.len()]);
        for (word, count) in counts.iter().enumerate() {
            let Some(mut first) = least.peek_mut() else { break };
            let Reverse((tokens, g)) = *first;
            *first = Reverse((tokens + count, g));
            let to = &mut groups[g];
            (group[word], place[word]) = (g as u32, to.words.len() as u32);
            to.words.push(word as u32);
            // A word has at most as many topics as tokens; one more element says how many.
            let row = 1 + topics.min(usize::try_from(*count).unwrap_or(topics));
            to.starts.push(to.starts[to.starts.len() - 1] + row);
        }
        Layout { blocks, group, place, groups }
    }

    /// Group and place of a word.
    pub(crate) fn of(&self, word: u32) -> (usize, u32) {
        (self.group[word as usize] as usize, self.place[word as usize])
    }

    /// The groups of slice `slice` of rank `rank`.
    pub(crate) fn slice(&self, rank: usize, slice: usize) -> std::ops::Range<usize> {
        let first = (rank * SLICES + slice) * self.blocks;
        first..first + self.blocks
    }

    /// Elements of all partitions together.
    pub(crate) fn elements(&self) -> usize {
        self.groups.iter().map(|g| g.starts[g.starts.len() - 1]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_row_and_groups_are_alike() {
        let counts: Vec<u64> = (0..1000u64).map(|i| 1 + 5000 / (i + 1)).collect();
        let layout = Layout::new(&counts, 20, 3, 2);
        assert_eq!(layout.groups.len(), 12);
        let mut tokens = [0; 12];
        for (word, count) in counts.iter().enumerate() {
            let (g, place) = layout.of(word as u32);
            let group = &layout.groups[g];
            assert_eq!(group.words[place as usize], word as u32);
            let row = group.starts[place as usize + 1] - group.starts[place as usize];
            assert_eq!(row, 1 + 20.min(*count as usize));
            tokens[g] += count;
        }
        // One word alone has more tokens than the others' groups.
        tokens.sort_unstable();
        assert!(tokens[10] - tokens[0] <= counts[1], "{tokens:?}");
        let slices: Vec<usize> = (0..3)
            .flat_map(|r| (0..SLICES).map(move |s| (r, s)))
            .flat_map(|(r, s)| layout.slice(r, s))
            .collect();
        assert_eq!(slices, (0..12).collect::<Vec<_>>());
    }
}
