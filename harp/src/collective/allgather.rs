//! Allgather.

use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::far;
use crate::node::{self, ALL};
use crate::table::Table;
use aeolian_net::World;

/// Every table becomes the union of all (equal ids are combined in rank order), with the same bits everywhere.
///
/// Ranks that share memory copy the partitions from where they lie. Else short tables come to all in `ceil(log2 n)` rounds (Bruck, Ho, Kipnis, Upfal,
/// Weathersby 1997), and long ones follow around a ring (Thakur, Rabenseifner, Gropp 2005; Harp's bucket allgather), in which each rank passes on to the next
/// what it got from the one before. Of nodes with several ranks one each does this, for all of them. Where all ranks of a
/// job talk by Open MPI, long partitions go by its broadcasts (`MPI_Ibcast`), one from each rank.
///
/// ```
/// use aeolian_harp::{Sum, Table, allgather};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = Table::<u16, Sum>::new(Sum);
///     t.add(u64::from(world.rank()), vec![1; world.rank() as usize])?;
///     allgather(&mut world, &mut t)?;
///     assert_eq!(t.iter().map(|(_, p)| p.len()).collect::<Vec<_>>(), [0, 1, 2]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn allgather<D: Data, C: Combiner<D::Unit>>(world: &mut World, table: &mut Table<D, C>) -> Result<()> {
    let agree = agree(table, &[]);
    let plan =
        brief::plan::<Table<D, C>, _>(|world, table| Some(Plan::one(only(table, ALL)?, 0..world.size())));
    brief::blocking(world, Op::Allgather, agree, table, plan, brief::unite, body)
}

/// Starts an [`allgather`]; the table comes back as the union of all.
pub fn iallgather<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &[]);
    starting(world, Op::Allgather, agree, async move |call| {
        body(call, &mut table).await?;
        Ok(table)
    })
}

pub(crate) async fn body<D: Data, C: Combiner<D::Unit>>(call: &Call, table: &mut Table<D, C>) -> Result<()> {
    let size = call.size();
    if size == 1 {
        return Ok(());
    }
    if call.near() {
        return node::gathered(call, table, 0..size, None).await;
    }
    far::allgather::allgather(call, table).await
}
