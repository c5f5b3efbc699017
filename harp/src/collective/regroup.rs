//! Regroup.

use crate::brief::{self, Plan};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::far;
use crate::node::{self, Leaving};
use crate::partitioner::{Partitioner, place};
use crate::table::{Parts, Table};
use aeolian_net::World;
use aeolian_net::shared::View;
use std::cell::Cell;

/// All partitions move to the rank that `partitioner` gives for their id; those that meet there are combined in rank order.
///
/// On tables with the same ids everywhere this is MPI's reduce-scatter. One pairwise exchange, in which every partition is sent
/// once, straight to where it belongs, and of many ranks only those send that have something to say. Nodes of as many ranks each combine inside first, so that of each
/// partition one comes from a node.
///
/// ```
/// use aeolian_harp::{Modulo, Sum, Table, regroup};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = Table::<u32, Sum>::new(Sum);
///     for id in 0..6 {
///         t.add(id, vec![1])?;
///     }
///     regroup(&mut world, &mut t, &Modulo)?;
///     let (me, three) = (u64::from(world.rank()), vec![3]);
///     assert_eq!(t.iter().map(|(id, p)| (id, p.to_vec())).collect::<Vec<_>>(), [(me, three.clone()), (me + 3, three)]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn regroup<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    world: &mut World,
    table: &mut Table<D, C>,
    partitioner: &P,
) -> Result<()> {
    let agree = agree(table, partitioner.name().as_bytes());
    let leaves = Cell::new(Leaving::new());
    let plan = brief::plan::<Table<D, C>, _>(|world, table| {
        Some(Plan::new(brief::leaving(world, table, partitioner, &leaves)?, 0..world.size()))
    });
    let take = |view: &View<'_>, world: &World, table: &mut Table<D, C>| {
        if (0..world.size()).any(|rank| view.parts(rank).is_none()) {
            return Ok(false);
        }
        leaves.take().iter().for_each(|&(id, _)| drop(table.remove(id)));
        node::combine_coming(world, table, |from| brief::for_me(view, world, from))?;
        Ok(true)
    };
    let body = async |call: &Call, table: &mut _| body(call, table, partitioner).await;
    brief::blocking(world, Op::Regroup, agree, table, plan, take, body)
}

/// Starts a [`regroup`]; the table comes back with this rank's partitions.
pub fn iregroup<D: Data, C: Combiner<D::Unit> + 'static, P: Partitioner + 'static>(
    world: &World,
    mut table: Table<D, C>,
    partitioner: P,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, partitioner.name().as_bytes());
    starting(world, Op::Regroup, agree, async move |call| {
        body(call, &mut table, &partitioner).await?;
        Ok(table)
    })
}

pub(crate) async fn body<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    call: &Call,
    table: &mut Table<D, C>,
    partitioner: &P,
) -> Result<()> {
    let rank_of = |id| place(partitioner, id, call.size());
    if call.near() {
        return node::regrouped(call, table, rank_of).await;
    }
    far::regroup::regroup(call, table, rank_of).await
}

/// Partitions by the rank that they go to.
pub(crate) fn by_rank<D: Data>(
    parts: Parts<D>,
    size: u32,
    rank_of: impl Fn(u64) -> Result<u32>,
) -> Result<Vec<Parts<D>>> {
    let mut outgoing: Vec<Parts<D>> = (0..size).map(|_| Vec::new()).collect();
    for (id, part) in parts {
        outgoing[rank_of(id)? as usize].push((id, part));
    }
    Ok(outgoing)
}
