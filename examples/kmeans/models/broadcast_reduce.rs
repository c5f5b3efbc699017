//! Broadcast + reduce: rank 0 combines the sums of all, computes the centroids and tells the others. Harp's master and workers.
//!
//! Two collectives, one after the other, each of a table of `8 k (d + 1)` bytes and two numbers: a [`reduce`] (between nodes a binomial
//! tree, `log2 n` rounds; on one node one) and a [`broadcast`] (a tree, or a pipelined chain of what is long; on one node one copy). Twice
//! the waits of allreduce, and the `k d` divisions are done once. For a program in which only one rank may decide: one that reads
//! something, draws random numbers or writes the model in between.

use aeolian::World;
use aeolian::harp::{broadcast, reduce};
use aeolian_examples::Result;

use super::blocks::Blocks;
use super::whole::{Sums, Totals};

const ROOT: u32 = 0;

/// See [`super::whole::Exchange`].
pub(super) fn exchange(world: &mut World, mine: &Sums<'_>) -> Result<Totals> {
    let blocks = Blocks::of(mine, 1);
    let mut table = blocks.table(mine)?;
    reduce(world, &mut table, ROOT)?;
    // Elsewhere it is empty now.
    blocks.divide(&mut table);
    broadcast(world, &mut table, ROOT)?;
    Ok(blocks.totals(&table))
}
