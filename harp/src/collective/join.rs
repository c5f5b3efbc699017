//! Join of two tables by id.

use super::regroup::by_rank;
use crate::call::{Call, Op, Pending, agree, blocking, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::exchange;
use crate::partitioner::{Partitioner, place};
use crate::table::Table;
use aeolian_net::World;

/// The partitions of `moving` go to the ranks whose `fixed` tables have their ids, so that both are in one place (Harp's graph join); ids
/// that no rank has in `fixed` go where `partitioner` says. Those that meet are combined in rank order.
///
/// Both tables may be of different types. The ranks first tell each other the ids of `fixed`, then the partitions move in one pairwise
/// exchange.
///
/// ```
/// use aeolian_harp::{Custom, Modulo, Serde, Sum, Table, join};
/// // Names are with rank 2; numbers come to them.
/// aeolian_net::World::local(3, |mut world| {
///     let keep = Custom::new("keep", |_: &mut String, _: &String| {});
///     let mut names = Table::<Serde<String>, _>::new(keep);
///     if world.rank() == 2 {
///         names.add(4, "four".to_string())?;
///     }
///     let mut numbers = Table::<u32, Sum>::new(Sum);
///     numbers.add(4, vec![1])?;
///     join(&mut world, &mut numbers, &names, &Modulo)?;
///     assert_eq!(numbers.get(4).map(|p| p[0]), (world.rank() == 2).then_some(3));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn join<D, C, E, B, P>(
    world: &mut World,
    moving: &mut Table<D, C>,
    fixed: &Table<E, B>,
    partitioner: &P,
) -> Result<()>
where
    D: Data,
    C: Combiner<D::Unit>,
    E: Data,
    B: Combiner<E::Unit>,
    P: Partitioner + ?Sized,
{
    let agree = agree(moving, partitioner.name().as_bytes());
    let ids = fixed.ids().collect();
    blocking(world, Op::Join, agree, async |call| body(call, moving, ids, partitioner).await)
}

/// Starts a [`join`] with the table that has these ids; the moved table comes back.
pub fn ijoin<D: Data, C: Combiner<D::Unit> + 'static, P: Partitioner + 'static>(
    world: &World,
    mut moving: Table<D, C>,
    fixed: impl IntoIterator<Item = u64>,
    partitioner: P,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&moving, partitioner.name().as_bytes());
    let ids = fixed.into_iter().collect();
    starting(world, Op::Join, agree, async move |call| {
        body(call, &mut moving, ids, &partitioner).await?;
        Ok(moving)
    })
}

async fn body<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    call: &Call,
    moving: &mut Table<D, C>,
    fixed: Vec<u64>,
    partitioner: &P,
) -> Result<()> {
    let owners = exchange::owners(call, fixed).await?;
    let outgoing = by_rank::<D>(moving.take(), call.size(), |id| match owners.get(&id) {
        Some(&rank) => Ok(rank),
        None => place(partitioner, id, call.size()),
    })?;
    for (parts, from) in exchange::parts::<D>(call, outgoing).await?.into_iter().zip(0..) {
        moving.combine_above(parts, from)?;
    }
    Ok(())
}
