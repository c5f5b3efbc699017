//! Allreduce: the sums of all ranks are combined on all of them, and each divides.
//!
//! One collective. A table of `8 k (d + 1)` bytes and two numbers goes through an [`allreduce`]: between nodes in `log2 n` rounds, each of
//! the whole table; on one node every rank combines its `n`-th part where it lies and copies the others, two rounds. All ranks do
//! the `k d` divisions. The fewest waits, so the best where the table is small beside the points: the default.

use aeolian::World;
use aeolian::harp::{Sum, Table, allreduce};
use aeolian_examples::Result;

use super::whole::{Sums, Totals};

const SUMS: u64 = 0;
const COUNTS: u64 = 1;
const SCALARS: u64 = 2;

/// See [`super::whole::Exchange`].
pub(super) fn exchange(world: &mut World, mine: &Sums<'_>) -> Result<Totals> {
    let mut table = Table::<f64, Sum>::new(Sum);
    table.add(SUMS, mine.sums)?;
    table.add(COUNTS, &mine.counts[..])?;
    table.add(SCALARS, &mine.scalars[..])?;
    allreduce(world, &mut table)?;
    let take = |id| table.get(id).map(|a| a.to_vec()).unwrap_or_default();
    let scalars = take(SCALARS);
    Ok(Totals { values: take(SUMS), divided: false, counts: take(COUNTS), scalars: [scalars[0], scalars[1]] })
}
