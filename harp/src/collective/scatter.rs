//! Scatter.

use super::regroup::by_rank;
use crate::brief::{self, Plan};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::node::{self, Leaving};
use crate::partitioner::{Partitioner, place};
use crate::table::{Parts, Table};
use aeolian_net::World;
use aeolian_net::shared::View;
use std::cell::Cell;

/// The partitions of `root`'s table move to the ranks that `partitioner` gives for their ids (those that stay, stay); on the
/// other ranks they are added to the table, combined into what is there.
///
/// The root sends to each rank what is its own: one round, and every byte is sent once.
///
/// ```
/// use aeolian_harp::{Modulo, Sum, Table, scatter};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = Table::<u64, Sum>::new(Sum);
///     if world.rank() == 0 {
///         for id in 0..3 {
///             t.add(id, vec![10 * id])?;
///         }
///     }
///     scatter(&mut world, &mut t, 0, &Modulo)?;
///     let me = u64::from(world.rank());
///     assert_eq!((t.len(), t.get(me).unwrap()[0]), (1, 10 * me));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn scatter<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    world: &mut World,
    table: &mut Table<D, C>,
    root: u32,
    partitioner: &P,
) -> Result<()> {
    let agree = agree(table, &[&root.to_le_bytes(), partitioner.name().as_bytes()].concat());
    let leaves = Cell::new(Leaving::new());
    let plan = brief::plan::<Table<D, C>, _>(|world, table| {
        if root >= world.size() || world.rank() != root {
            return (root < world.size()).then(|| Plan::of_others(root..root + 1));
        }
        Some(Plan::new(brief::leaving(world, table, partitioner, &leaves)?, 0..0))
    });
    let take = |view: &View<'_>, world: &World, table: &mut Table<D, C>| {
        if view.parts(root).is_none() {
            return Ok(false);
        }
        leaves.take().iter().for_each(|&(id, _)| drop(table.remove(id)));
        for shown in brief::for_me(view, world, root) {
            table.add_bytes(shown.id, shown.bytes, root)?;
        }
        Ok(true)
    };
    let body = async |call: &Call, table: &mut _| body(call, table, root, partitioner).await;
    brief::blocking(world, Op::Scatter, agree, table, plan, take, body)
}

/// Starts a [`scatter`]; the table comes back with this rank's partitions.
pub fn iscatter<D: Data, C: Combiner<D::Unit> + 'static, P: Partitioner + 'static>(
    world: &World,
    mut table: Table<D, C>,
    root: u32,
    partitioner: P,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &[&root.to_le_bytes(), partitioner.name().as_bytes()].concat());
    starting(world, Op::Scatter, agree, async move |call| {
        body(call, &mut table, root, &partitioner).await?;
        Ok(table)
    })
}

async fn body<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
    partitioner: &P,
) -> Result<()> {
    let root = call.root(root)?;
    if call.near() {
        let mut outgoing: Vec<Parts<D>> = (0..call.size()).map(|_| Vec::new()).collect();
        if call.rank() == root {
            outgoing = by_rank::<D>(table.take(), call.size(), |id| place(partitioner, id, call.size()))?;
        }
        let mut incoming = node::exchanged::<D>(call, outgoing).await?;
        return table.combine_above(std::mem::take(&mut incoming[root as usize]), root);
    }
    if call.rank() != root {
        let came = call.recv_parts::<D>(root).await?;
        return table.combine_above(came, root);
    }
    let outgoing = by_rank::<D>(table.take(), call.size(), |id| place(partitioner, id, call.size()))?;
    for (parts, to) in outgoing.into_iter().zip(0..) {
        if to == root {
            table.combine_above(parts, root)?;
        } else {
            call.send_parts::<D>(to, parts).await?;
        }
    }
    Ok(())
}
