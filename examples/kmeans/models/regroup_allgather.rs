//! Regroup + allgather: each rank combines the sums of its block of centroids, divides, and all gather the blocks.
//!
//! Two collectives: a [`regroup`] (`n - 1` rounds between nodes) and an [`allgather`] (`n - 1` rounds; both one on a node). A rank sends
//! `8 k (d + 1) (n - 1) / n` bytes in each, so about twice the table whatever the number of ranks, where an allreduce sends
//! it `log2 n` times; and each does its `k d / n` divisions. It is an allreduce of large tables (Rabenseifner's) with the division in the
//! middle: for many centroids of many columns on many ranks.

use aeolian::World;
use aeolian::harp::{Modulo, allgather, regroup};
use aeolian_examples::Result;

use super::blocks::Blocks;
use super::whole::{Sums, Totals};

/// See [`super::whole::Exchange`].
pub(super) fn exchange(world: &mut World, mine: &Sums<'_>) -> Result<Totals> {
    let blocks = Blocks::of(mine, world.size() as usize);
    let mut table = blocks.table(mine)?;
    regroup(world, &mut table, &Modulo)?;
    blocks.divide(&mut table);
    allgather(world, &mut table)?;
    Ok(blocks.totals(&table))
}
