//! Push.

use super::regroup::by_rank;
use crate::call::{Call, Op, Pending, agree, blocking, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::exchange;
use crate::partitioner::{Partitioner, place};
use crate::table::Table;
use aeolian_net::World;

/// Copies of the partitions of `local` go to the rank whose `global` table has their id, and are combined into it in rank order;
/// ids that no rank has yet go where `partitioner` says. `local` stays as it is.
///
/// The ranks first tell each other the ids of `global`, then the partitions go in one pairwise exchange. An id that several ranks
/// have in `global` belongs to the lowest of them.
///
/// ```
/// use aeolian_harp::{Modulo, Sum, Table, push};
/// // Rank 1 owns id 7; all ranks add one to it.
/// aeolian_net::World::local(3, |mut world| {
///     let (mut local, mut global) = (Table::<u64, Sum>::new(Sum), Table::<u64, Sum>::new(Sum));
///     local.add(7, vec![1])?;
///     if world.rank() == 1 {
///         global.add(7, vec![100])?;
///     }
///     push(&mut world, &local, &mut global, &Modulo)?;
///     assert_eq!(global.get(7).map(|p| p[0]), (world.rank() == 1).then_some(103));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn push<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    world: &mut World,
    local: &Table<D, C>,
    global: &mut Table<D, C>,
    partitioner: &P,
) -> Result<()> {
    let agree = agree(global, partitioner.name().as_bytes());
    blocking(world, Op::Push, agree, async |call| body(call, local.clone(), global, partitioner).await)
}

/// Starts a [`push`], of which the global table comes back.
pub fn ipush<D: Data, C: Combiner<D::Unit> + 'static, P: Partitioner + 'static>(
    world: &World,
    local: Table<D, C>,
    mut global: Table<D, C>,
    partitioner: P,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&global, partitioner.name().as_bytes());
    starting(world, Op::Push, agree, async move |call| {
        body(call, local, &mut global, &partitioner).await?;
        Ok(global)
    })
}

async fn body<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    call: &Call,
    mut local: Table<D, C>,
    global: &mut Table<D, C>,
    partitioner: &P,
) -> Result<()> {
    let owners = exchange::owners(call, global.ids().collect()).await?;
    let outgoing = by_rank::<D>(local.take(), call.size(), |id| match owners.get(&id) {
        Some(&rank) => Ok(rank),
        None => place(partitioner, id, call.size()),
    })?;
    for (parts, from) in exchange::parts::<D>(call, outgoing).await?.into_iter().zip(0..) {
        global.combine_above(parts, from)?;
    }
    Ok(())
}
