//! Allreduce.

use super::{broadcast, gather};
use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::codec::encode;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::join::both;
use crate::node::{self, ALL};
use crate::table::Table;
use aeolian_net::World;

/// Every table becomes the combination, by partition id, of all tables in rank order, with the same bits everywhere.
///
/// Ranks that share memory combine small tables from each other's boards, every rank all of it; of larger ones each rank combines a share of the bytes
/// where they lie, and writes the result to all: one pass over the memory. Else recursive doubling; ranks beyond the largest power of two first fold into a neighbour (Thakur, Rabenseifner, Gropp:
/// *Optimization of Collective Communication Operations in MPICH*, 2005): `ceil(log2 n)` rounds of one table a rank, plus
/// two for other rank counts.
///
/// ```
/// use aeolian_harp::{Max, Table, allreduce};
/// aeolian_net::World::local(5, |mut world| {
///     let mut t = Table::<u32, Max>::new(Max);
///     t.add(u64::from(world.rank() % 2), vec![world.rank()])?;
///     allreduce(&mut world, &mut t)?;
///     assert_eq!((t.get(0).unwrap()[0], t.get(1).unwrap()[0]), (4, 3));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn allreduce<D: Data, C: Combiner<D::Unit>>(world: &mut World, table: &mut Table<D, C>) -> Result<()> {
    let agree = agree(table, &[]);
    let plan = brief::plan::<Table<D, C>, _>(|world, table| {
        Some(Plan { shape: Table::shape(table), part: Some(only(table, ALL)?), wait: 0..world.size() })
    });
    brief::blocking(world, Op::Allreduce, agree, table, plan, brief::combine, body)
}

/// Starts an [`allreduce`]; the table comes back combined.
///
/// ```
/// use aeolian_harp::{Sum, Table, iallreduce};
/// aeolian_net::World::local(3, |world| {
///     let mut t = Table::<f64, Sum>::new(Sum);
///     t.add(0, vec![1.5])?;
///     let pending = iallreduce(&world, t)?;
///     while !pending.test()? {
///         // ... compute something that does not need it ...
///     }
///     assert_eq!(pending.wait()?.get(0).unwrap()[..], [4.5]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn iallreduce<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &[]);
    starting(world, Op::Allreduce, agree, async move |call| {
        body(call, &mut table).await?;
        Ok(table)
    })
}

pub(crate) async fn body<D: Data, C: Combiner<D::Unit>>(call: &Call, table: &mut Table<D, C>) -> Result<()> {
    let (rank, size) = (call.rank(), call.size());
    if size == 1 {
        return Ok(());
    }
    if call.near() {
        return node::reduced(call, table, None).await;
    }
    if !table.combiner().law().associative {
        gather::body(call, table, 0).await?;
        let mine = if rank == 0 { Some(encode::<D>(table.iter())?) } else { None };
        if let Some(all) = broadcast::spread::<D>(call, 0, mine).await? {
            table.combine_above(all, 0)?;
        }
        return Ok(());
    }
    let power = 1 << size.ilog2();
    let extra = size - power;
    // The first 2 * extra ranks fold pairwise, so that neighbours stay neighbours and rank order is kept.
    let place = if rank < 2 * extra {
        if rank % 2 == 1 {
            call.send_parts::<D>(rank - 1, table.take()).await?;
            let all = call.recv_parts::<D>(rank - 1).await?;
            return table.combine_above(all, rank - 1);
        }
        let higher = call.recv_parts::<D>(rank + 1).await?;
        table.check(higher.iter().map(|(id, part)| (*id, part)))?;
        table.combine_above(higher, rank + 1)?;
        rank / 2
    } else {
        rank - extra
    };
    let rank_of = |place: u32| if place < extra { 2 * place } else { place + extra };
    let mut step = 1;
    while step < power {
        let peer = rank_of(place ^ step);
        let ((), other) = both(call.send_table(peer, table), call.recv_parts::<D>(peer)).await?;
        table.check(other.iter().map(|(id, part)| (*id, part)))?;
        if place & step == 0 {
            table.combine_above(other, peer)?;
        } else {
            table.combine_below(other, peer)?;
        }
        step *= 2;
    }
    if rank < 2 * extra {
        call.send_table(rank + 1, table).await?;
    }
    Ok(())
}
