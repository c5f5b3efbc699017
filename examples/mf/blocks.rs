//! A rank's ratings by block: those of one split of its users and one split of the items.

use aeolian_examples::random::at;
use aeolian_examples::workers::Workers;
use rayon::prelude::*;

/// A rating in its block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    /// The user's place in its split.
    pub(crate) user: u32,
    /// The item's place in its split.
    pub(crate) item: u32,
    /// The rating, less the mean of all.
    pub(crate) value: f32,
}

/// How many splits there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Splits of a rank's users.
    pub(crate) rows: usize,
    /// Splits of the items of a slice.
    pub(crate) cols: usize,
    /// Slices of all ranks.
    pub(crate) slices: usize,
}

/// Ratings that a block should have, or more: fewer are not worth a thread's way to them.
const GRAIN: u64 = 2048;
/// Bytes of a split's factors that should not be exceeded: two splits should fit the cache of a core.
const CACHE: u64 = 256 << 10;
/// Splits of a kind beyond which more threads find no more work.
const MOST: u64 = 64;
/// Ratings that a row should have in a block, so that it is brought into the cache once for some of them.
const USES: u64 = 8;
/// Splits of a kind that there should be for threads, however few ratings a row has.
const LEAST: u64 = 4;

impl Grid {
    /// For `ratings` of so many users and items, of all ranks, whose rows have so many bytes. It does not depend on the number of threads,
    /// which so has no say in what comes out.
    pub(crate) fn new(
        ratings: u64,
        [users, items]: [u64; 2],
        bytes: u64,
        ranks: u64,
        slices_each: u64,
    ) -> Grid {
        let slices = ranks * slices_each;
        let each = ratings / (ranks * slices).max(1);
        let side = (each / GRAIN).isqrt().clamp(1, MOST);
        let uses = |n: u64, parts: u64| (ratings / (n * parts * USES).max(1)).max(side.min(LEAST));
        let rows = (users * bytes / ranks / CACHE).max(side).min(uses(items, ranks));
        let cols = (items * bytes / slices / CACHE).max(side).min(uses(users, slices));
        Grid { rows: rows as usize, cols: cols as usize, slices: slices as usize }
    }

    fn blocks(self) -> usize {
        self.slices * self.rows * self.cols
    }

    fn block(self, slice: usize, row: usize, col: usize) -> usize {
        (slice * self.rows + row) * self.cols + col
    }
}

/// Ratings, block after block.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    entries: Vec<Entry>,
    /// Where each block begins, and where the last one ends.
    starts: Vec<usize>,
}

impl Blocks {
    /// Sorts ratings into blocks; `place` tells split of the user, split of the item (of all slices), and the rating there. Within a
    /// block they are shuffled: neighbours then seldom share a user, so that their updates need not wait for each other.
    pub(crate) fn new<T: Sync>(
        workers: &Workers,
        grid: Grid,
        seed: u64,
        ratings: &[T],
        place: impl Fn(&T) -> (u32, u32, Entry) + Sync,
    ) -> Blocks {
        let key = |(rating, i): (&T, u32)| {
            let (row, split, _) = place(rating);
            let (slice, col) = (split as usize / grid.cols, split as usize % grid.cols);
            let block = grid.block(slice, row as usize, col) as u64;
            (block << 32 | at(seed, 0xb10c, u64::from(i)) >> 32, i)
        };
        let mut order: Vec<(u64, u32)> = ratings.iter().zip(0..).map(key).collect();
        if workers.threads() > 1 {
            workers.install(|| order.par_sort_unstable());
        } else {
            order.sort_unstable();
        }
        let block_of = |(key, _): &(u64, u32)| (key >> 32) as usize;
        let starts = (0..=grid.blocks()).map(|b| order.partition_point(|o| block_of(o) < b)).collect();
        let entries = order.iter().map(|(_, i)| place(&ratings[*i as usize]).2).collect();
        Blocks { entries, starts }
    }

    /// The ratings of a block.
    pub(crate) fn get(&self, grid: Grid, slice: usize, row: usize, col: usize) -> &[Entry] {
        let block = grid.block(slice, row, col);
        &self.entries[self.starts[block]..self.starts[block + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_all_ratings_where_they_belong() {
        let grid = Grid { rows: 3, cols: 2, slices: 4 };
        let ratings: Vec<(u32, u32)> = (0..500).map(|i| (i * i % 3, i * 7 % 8)).collect();
        for threads in [1, 2] {
            let workers = Workers::new(threads).unwrap();
            let place =
                |&(row, split): &(u32, u32)| (row, split, Entry { user: row, item: split, value: 1.0 });
            let blocks = Blocks::new(&workers, grid, 1, &ratings, place);
            let mut seen = 0;
            for slice in 0..4 {
                for (row, col) in (0..3).flat_map(|r| (0..2).map(move |c| (r, c))) {
                    let block = blocks.get(grid, slice, row, col);
                    assert!(block.iter().all(|e| (e.user, e.item) == (row as u32, (slice * 2 + col) as u32)));
                    seen += block.len();
                }
            }
            assert_eq!(seen, 500);
        }
    }

    #[test]
    fn grids_suit_the_data() {
        let of = |ratings, rows, ranks| {
            let grid = Grid::new(ratings, rows, 132, ranks, 2);
            (grid.rows, grid.cols)
        };
        assert_eq!(of(10, [100, 100], 1), (1, 1));
        assert_eq!(of(10, [100, 100], 16), (1, 1));
        assert_eq!(of(0, [1, 1], 3), (1, 1));
        assert_eq!(of(100_000, [700, 9000], 1), (4, 4));
        // Each user has 200 ratings, each item 2000.
        assert_eq!(of(20_000_000, [100_000, 10_000], 1), (64, 12));
        // Many rows, few ratings of each.
        assert_eq!(of(10_000_000, [8 << 20, 8 << 20], 1), (4, 4));
    }
}
