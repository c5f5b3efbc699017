//! Push + pull: the global table of centroids is spread over the ranks; sums are pushed into it, new centroids pulled out of it. A
//! parameter server whose servers are the ranks.
//!
//! [`push`] and [`pull`] are five exchanges: owners (who has which ids) and partitions, then owners, requests and
//! partitions. A rank sends `8 k (d + 1) (n - 1) / n` bytes of sums and receives as many of centroids, and lists of ids
//! besides: here short ones, as a partition is a block of `k / n` centroids. Each rank does its `k d / n` divisions. The most waits of all; worth them where a
//! rank needs only some of the partitions, which in k-means it does not.

use aeolian::World;
use aeolian::harp::{Modulo, Sum, Table, pull, push};
use aeolian_examples::Result;

use super::blocks::Blocks;
use super::whole::{Sums, Totals};

/// See [`super::whole::Exchange`].
pub(super) fn exchange(world: &mut World, mine: &Sums<'_>) -> Result<Totals> {
    let blocks = Blocks::of(mine, world.size() as usize);
    let mut local = blocks.table(mine)?;
    let mut global = Table::<f64, Sum>::new(Sum);
    push(world, &local, &mut global, &Modulo)?;
    blocks.divide(&mut global);
    pull(world, &mut local, &global)?;
    Ok(blocks.totals(&local))
}
