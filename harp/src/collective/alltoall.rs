//! Alltoall.

use crate::brief::{self, FEW, Plan};
use crate::call::{Call, Op, Pending, fingerprint, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::exchange;
use crate::node;
use crate::table::{Parts, Table};
use aeolian_net::World;
use aeolian_net::shared::{Shown, View};

/// Sends `tables[r]` to rank `r`, whatever its size, and returns the tables that came, by the rank that sent them: MPI's alltoallv.
///
/// Ranks that share memory take what is theirs from where it lies; large arrays of the same lengths change places there. Else a pairwise
/// exchange: `n - 1` rounds.
///
/// # Errors
/// [`HarpError::Usage`] if there is not one table for each rank.
///
/// ```
/// use aeolian_harp::{Sum, Table, alltoall};
/// aeolian_net::World::local(3, |mut world| {
///     let me = world.rank();
///     let tables = (0..3u32).map(|to| {
///         let mut t = Table::<u32, Sum>::new(Sum);
///         t.add(0, vec![10 * me + to])?;
///         Ok(t)
///     });
///     let came = alltoall(&mut world, tables.collect::<aeolian_harp::Result<_>>()?)?;
///     let values: Vec<u32> = came.iter().map(|t| t.get(0).unwrap()[0]).collect();
///     assert_eq!(values, [me, 10 + me, 20 + me]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn alltoall<D: Data, C: Combiner<D::Unit>>(
    world: &mut World,
    mut tables: Vec<Table<D, C>>,
) -> Result<Vec<Table<D, C>>> {
    let agree = agreed(&tables);
    let plan = brief::plan::<Vec<Table<D, C>>, _>(|world, tables| {
        let to_others = || (0..).zip(tables).filter(|&(to, _)| to != world.rank());
        let count: usize = to_others().map(|(_, table)| table.len()).sum();
        if tables.len() != world.size() as usize || count > FEW || D::element().is_none() {
            return None;
        }
        let mut plan = Plan::of_others(0..world.size());
        for (to, table) in to_others() {
            plan.parts.extend(table.iter().map(|(id, part)| Shown { id, to, bytes: D::bytes(part) }));
        }
        Some(plan)
    });
    let take = |view: &View<'_>, world: &World, tables: &mut Vec<Table<D, C>>| {
        if (0..world.size()).any(|rank| view.parts(rank).is_none()) {
            return Ok(false);
        }
        for (from, table) in (0..).zip(tables).filter(|&(from, _)| from != world.rank()) {
            let for_me = brief::for_me(view, world, from);
            table.become_bytes(for_me.map(|shown| (shown.id, shown.bytes)), from)?;
        }
        Ok(true)
    };
    brief::blocking(world, Op::Alltoall, agree, &mut tables, plan, take, async |call, tables| {
        *tables = body(call, std::mem::take(tables)).await?;
        Ok(())
    })?;
    Ok(tables)
}

/// Starts an [`alltoall`]; the tables that came come back.
pub fn ialltoall<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    tables: Vec<Table<D, C>>,
) -> Result<Pending<Vec<Table<D, C>>>> {
    starting(world, Op::Alltoall, agreed(&tables), async move |call| body(call, tables).await)
}

fn agreed<D: Data, C: Combiner<D::Unit>>(tables: &[Table<D, C>]) -> u32 {
    let combiner = tables.first().map_or("", |t| t.combiner().name());
    fingerprint(&[D::name().as_bytes(), combiner.as_bytes()])
}

async fn body<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    mut tables: Vec<Table<D, C>>,
) -> Result<Vec<Table<D, C>>> {
    if tables.len() != call.size() as usize {
        return Err(HarpError::Usage(format!(
            "alltoall of {} tables in a world of {} ranks\n  help: give one table for each rank, empty where there is nothing to send",
            tables.len(),
            call.size()
        )));
    }
    if call.near() && D::element().is_some() {
        node::swapped(call, &mut tables).await?;
        return Ok(tables);
    }
    let outgoing: Vec<Parts<D>> = tables.iter_mut().map(Table::take).collect();
    for (parts, (table, from)) in
        exchange::parts::<D>(call, outgoing).await?.into_iter().zip(tables.iter_mut().zip(0..))
    {
        table.combine_above(parts, from)?;
    }
    Ok(tables)
}
