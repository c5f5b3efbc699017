//! Gather.

use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::far;
use crate::node::{self, ALL};
use crate::table::Table;
use aeolian_net::World;
use aeolian_net::shared::View;

/// All partitions move to the table of `root` (equal ids are combined in rank order); the other tables become empty.
///
/// If the ranks share memory the root copies the partitions from where they lie. Else every rank sends straight to the root, in one round;
/// of nodes with several ranks one each, for all of them.
///
/// ```
/// use aeolian_harp::{Sum, Table, gather};
/// aeolian_net::World::local(4, |mut world| {
///     let mut t = Table::<u8, Sum>::new(Sum);
///     t.add(u64::from(world.rank()), vec![9])?;
///     gather(&mut world, &mut t, 0)?;
///     assert_eq!(t.len(), if world.rank() == 0 { 4 } else { 0 });
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn gather<D: Data, C: Combiner<D::Unit>>(
    world: &mut World,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let agree = agree(table, &root.to_le_bytes());
    let plan = brief::plan::<Table<D, C>, _>(|world, table| {
        if root >= world.size() {
            return None;
        }
        let wait = if world.rank() == root { 0..world.size() } else { 0..0 };
        Some(Plan::one(only(table, ALL)?, wait))
    });
    let take = |view: &View<'_>, world: &World, table: &mut Table<D, C>| {
        if world.rank() == root {
            return brief::unite(view, world, table);
        }
        table.clear();
        Ok(true)
    };
    let body = async |call: &Call, table: &mut _| body(call, table, call.root(root)?).await;
    brief::blocking(world, Op::Gather, agree, table, plan, take, body)
}

/// Starts a [`gather`]; the table comes back full at the root, empty elsewhere.
pub fn igather<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
    root: u32,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &root.to_le_bytes());
    starting(world, Op::Gather, agree, async move |call| {
        body(call, &mut table, call.root(root)?).await?;
        Ok(table)
    })
}

/// Also what a reduction does whose combiner is not associative: it combines one by one, in rank order.
pub(crate) async fn body<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    if call.near() {
        return node::gathered(call, table, 0..call.size(), Some(root)).await;
    }
    far::gather::gather(call, table, root).await
}
