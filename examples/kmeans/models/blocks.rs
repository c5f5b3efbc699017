//! Centroids in blocks of consecutive ones: partitions that ranks can own.

use std::ops::Range;

use aeolian::harp::{Sum, Table};
use aeolian_examples::Result;

use super::whole::{Sums, Totals};

/// `k` centroids of `d` numbers in a number of blocks, of which the first has the scalars too.
///
/// The partition of a block: the sums of its centroids, their counts, and in the first one inertia and the vote to stop.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub(super) k: usize,
    pub(super) d: usize,
    pub(super) count: usize,
}

impl Blocks {
    /// For what a rank has found.
    pub(super) fn of(mine: &Sums<'_>, count: usize) -> Blocks {
        let k = mine.counts.len();
        Blocks { k, d: mine.sums.len() / k.max(1), count }
    }

    /// The centroids of a block.
    pub(super) fn range(self, block: usize) -> Range<usize> {
        self.k * block / self.count..self.k * (block + 1) / self.count
    }

    /// Those of `centroids` (`k x d`) that are in a block.
    pub(super) fn rows_of(self, block: usize, centroids: &[f64]) -> &[f64] {
        let rows = self.range(block);
        &centroids[rows.start * self.d..rows.end * self.d]
    }

    /// A partition for each block.
    pub(super) fn table(self, mine: &Sums<'_>) -> Result<Table<f64, Sum>> {
        let mut table = Table::new(Sum);
        for block in 0..self.count {
            let rows = self.range(block);
            let mut part = self.rows_of(block, mine.sums).to_vec();
            part.extend_from_slice(&mine.counts[rows]);
            part.extend_from_slice(if block == 0 { &mine.scalars } else { &[] });
            table.add(block as u64, part)?;
        }
        Ok(table)
    }

    /// Sums to means, in the partitions that are here: what their owner does. Clusters without points stay as they are.
    pub(super) fn divide(self, table: &mut Table<f64, Sum>) {
        table.apply(|block, part| {
            let (sums, rest) = part.split_at_mut(self.range(block as usize).len() * self.d);
            for (sum, count) in sums.chunks_exact_mut(self.d).zip(rest).filter(|(_, c)| **c > 0.0) {
                sum.iter_mut().for_each(|s| *s /= *count);
            }
        });
    }

    /// All blocks, after their owners have divided.
    pub(super) fn totals(self, table: &Table<f64, Sum>) -> Totals {
        let (mut values, mut counts) = (Vec::with_capacity(self.k * self.d), Vec::with_capacity(self.k));
        let mut scalars = [0.0; 2];
        for (block, part) in table.iter() {
            let rows = self.range(block as usize).len();
            let (means, rest) = part.split_at(rows * self.d);
            values.extend_from_slice(means);
            counts.extend_from_slice(&rest[..rows]);
            if block == 0 {
                scalars.copy_from_slice(&rest[rows..]);
            }
        }
        Totals { values, divided: true, counts, scalars }
    }
}
