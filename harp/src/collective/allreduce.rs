//! Allreduce.

use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::far;
use crate::node::{self, ALL};
use crate::table::Table;
use aeolian_net::World;

/// Every table becomes the combination, by partition id, of all tables in rank order, with the same bits everywhere.
///
/// Ranks that share memory combine small tables from each other's boards, every rank all of it; of larger ones each rank combines a share of the bytes
/// where they lie, and writes the result to all: one pass over the memory.
///
/// Else small tables go by recursive doubling, in `ceil(log2 n)` rounds; of larger ones, if all have the same partitions and the combiner works element by element,
/// each rank combines a share, by recursive halving or around a ring, and the shares are gathered (Thakur, Rabenseifner, Gropp: *Optimization of
/// Collective Communication Operations in MPICH*, 2005): every rank sends and receives about two tables, whatever the number of ranks. Of nodes with several
/// ranks one each does this, after the ranks of the node have been combined: between two nodes one table goes each way.
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
        Some(Plan { shape: Table::shape(table), ..Plan::one(only(table, ALL)?, 0..world.size()) })
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
    if call.size() == 1 {
        return Ok(());
    }
    if call.near() {
        return node::reduced(call, table, None).await;
    }
    far::allreduce::allreduce(call, table).await
}
