//! Broadcast.

use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::far;
use crate::node::{ALL, Lent, Shows, copied, is_small};
use crate::table::Table;
use aeolian_net::World;
use aeolian_net::shared::{Glance, View};

/// Adds copies of the partitions of `root`'s table to all other tables (an id that is there already is combined).
///
/// Ranks that share memory copy the partitions from where the root has them, all at the same time. Else the ids and the short partitions go along a binomial tree, in `ceil(log2 n)` rounds. Long partitions follow in pieces along a chain
/// of the ranks: each rank receives every byte once and passes it on while the next comes, so the time does not grow with the
/// ranks (pipelined chain; Harp's chain broadcast). Of nodes with several ranks one takes part in that, so that every byte comes to a node once, and the
/// others copy it from there. Where all ranks of a job talk by MPI, partitions of 64 KiB and more go by its own broadcast (`MPI_Ibcast`).
///
/// ```
/// use aeolian_harp::{Sum, Table, broadcast};
/// aeolian_net::World::local(4, |mut world| {
///     let mut model = Table::<f32, Sum>::new(Sum);
///     if world.rank() == 2 {
///         model.add(0, vec![0.5, 0.25])?;
///     }
///     broadcast(&mut world, &mut model, 2)?;
///     assert_eq!(model.get(0).unwrap().to_vec(), [0.5, 0.25]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn broadcast<D: Data, C: Combiner<D::Unit>>(
    world: &mut World,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let agree = agree(table, &root.to_le_bytes());
    let plan = brief::plan::<Table<D, C>, _>(|world, table| match world.rank() == root {
        true => Some(Plan::one(only(table, ALL)?, 0..0)),
        false if root < world.size() => Some(Plan::of_others(root..root + 1)),
        false => None,
    });
    let take = |view: &View<'_>, world: &World, table: &mut Table<D, C>| match view.of(root) {
        Glance::One(shown) if world.rank() != root => {
            table.add_bytes(shown.id, shown.bytes, root).map(|()| true)
        }
        Glance::More => Ok(false),
        _ => Ok(true),
    };
    brief::blocking(world, Op::Broadcast, agree, table, plan, take, async |call, table| {
        body(call, table, root).await
    })
}

/// Starts a [`broadcast`]; the table comes back with what was added.
pub fn ibroadcast<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
    root: u32,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &root.to_le_bytes());
    starting(world, Op::Broadcast, agree, async move |call| {
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
    if call.size() == 1 {
        return Ok(());
    }
    if call.near() {
        return near(call, table, root).await;
    }
    far::broadcast::broadcast(call, table, root).await
}

/// The root shows its table; the others copy it from there.
pub(crate) async fn near<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    if call.rank() != root {
        let mut view = call.show(0, Shows::new).await?;
        view.of(root).await?;
        for shown in view.shown(root) {
            table.add_bytes(shown.id, shown.bytes, root)?;
        }
        return view.back().await.map(drop);
    }
    if is_small(table) {
        let view = call.show(0, || copied(table, ALL)).await?;
        return view.back().await.map(drop);
    }
    let (lent, parts) = Lent::of(table)?;
    let view = call.show(0, || parts).await?;
    lent.back(table, view.back().await?)
}
