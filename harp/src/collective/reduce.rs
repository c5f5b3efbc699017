//! Reduce.

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

/// The table of `root` becomes the combination, by partition id, of all tables in rank order; the other tables become
/// empty, as their partitions have moved.
///
/// Ranks that share memory each combine a share of the bytes from where the partitions lie into the root's. Else a binomial tree onto rank 0, which keeps rank order, then one
/// message to `root`: `ceil(log2 n)` rounds (plus one); of nodes with several ranks one each, after the ranks of the node.
///
/// ```
/// use aeolian_harp::{Sum, Table, reduce};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = Table::<u64, Sum>::new(Sum);
///     t.add(5, vec![1])?;
///     reduce(&mut world, &mut t, 1)?;
///     assert_eq!(t.get(5).map(|p| p[0]), (world.rank() == 1).then_some(3));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn reduce<D: Data, C: Combiner<D::Unit>>(
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
        Some(Plan { shape: Table::shape(table), ..Plan::one(only(table, ALL)?, wait) })
    });
    let take = |view: &View<'_>, world: &World, table: &mut Table<D, C>| {
        if world.rank() == root {
            return brief::combine(view, world, table);
        }
        table.clear();
        Ok(true)
    };
    brief::blocking(world, Op::Reduce, agree, table, plan, take, async |call, table| {
        body(call, table, root).await
    })
}

/// Starts a [`reduce`]; the table comes back full at the root, empty elsewhere.
pub fn ireduce<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
    root: u32,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &root.to_le_bytes());
    starting(world, Op::Reduce, agree, async move |call| {
        body(call, &mut table, root).await?;
        Ok(table)
    })
}

pub(crate) async fn body<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let root = call.root(root)?;
    if call.near() {
        return node::reduced(call, table, Some(root)).await;
    }
    far::reduce::reduce(call, table, root).await
}
