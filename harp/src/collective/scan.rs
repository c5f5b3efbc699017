//! Scan and exscan: prefix combinations.

use crate::call::{Call, Op, Pending, agree, blocking, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::node;
use crate::table::Table;
use aeolian_net::World;

/// The table of rank `r` becomes the combination of those of ranks `0..=r`, by partition id.
///
/// Ranks that share memory combine what the others show. Else recursive doubling (Hillis and Steele, CACM 1986): `ceil(log2 n)` rounds of one table a rank; a combiner that is not associative goes from
/// rank to rank, in `n - 1`.
///
/// ```
/// use aeolian_harp::{Sum, Table, scan};
/// let sums = aeolian_net::World::local(4, |mut world| {
///     let mut t = Table::<u32, Sum>::new(Sum);
///     t.add(0, vec![world.rank() + 1])?;
///     scan(&mut world, &mut t)?;
///     world.finish()?;
///     Ok(t.get(0).unwrap()[0])
/// })?;
/// assert_eq!(sums, [1, 3, 6, 10]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn scan<D: Data, C: Combiner<D::Unit>>(world: &mut World, table: &mut Table<D, C>) -> Result<()> {
    let agree = agree(table, &[]);
    blocking(world, Op::Scan, agree, async |call| body(call, table).await)
}

/// Starts a [`scan`]; the table comes back combined.
pub fn iscan<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &[]);
    starting(world, Op::Scan, agree, async move |call| {
        body(call, &mut table).await?;
        Ok(table)
    })
}

/// The table of rank `r` becomes the combination of those of ranks `0..r`; that of rank 0 becomes empty.
///
/// A [`scan`] of which every rank passes the result on to the next: one round more.
///
/// ```
/// use aeolian_harp::{Sum, Table, exscan};
/// // Where the rows of each rank begin, if they have 5, 6, 7 rows.
/// let begins = aeolian_net::World::local(3, |mut world| {
///     let mut rows = Table::<u64, Sum>::new(Sum);
///     rows.add(0, vec![5 + u64::from(world.rank())])?;
///     exscan(&mut world, &mut rows)?;
///     world.finish()?;
///     Ok(rows.get(0).map_or(0, |p| p[0]))
/// })?;
/// assert_eq!(begins, [0, 5, 11]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn exscan<D: Data, C: Combiner<D::Unit>>(world: &mut World, table: &mut Table<D, C>) -> Result<()> {
    let agree = agree(table, &[]);
    blocking(world, Op::Exscan, agree, async |call| exclusive(call, table).await)
}

/// Starts an [`exscan`]; the table comes back combined.
pub fn iexscan<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &[]);
    starting(world, Op::Exscan, agree, async move |call| {
        exclusive(call, &mut table).await?;
        Ok(table)
    })
}

async fn body<D: Data, C: Combiner<D::Unit>>(call: &Call, table: &mut Table<D, C>) -> Result<()> {
    let (rank, size) = (call.rank(), call.size());
    if call.near() {
        return node::gathered(call, table, 0..rank + 1, None).await;
    }
    if !table.combiner().law().associative {
        if rank > 0 {
            let lower = call.recv_parts::<D>(rank - 1).await?;
            table.combine_below(lower, rank - 1)?;
        }
        if rank + 1 < size {
            call.send_table(rank + 1, table).await?;
        }
        return Ok(());
    }
    let mut step = 1;
    while step < size {
        // Before it receives, a rank's table is that of the `step` ranks up to itself.
        if rank + step < size {
            call.send_table(rank + step, table).await?;
        }
        if rank >= step {
            let lower = call.recv_parts::<D>(rank - step).await?;
            table.check(lower.iter().map(|(id, part)| (*id, part)))?;
            table.combine_below(lower, rank - step)?;
        }
        step *= 2;
    }
    Ok(())
}

async fn exclusive<D: Data, C: Combiner<D::Unit>>(call: &Call, table: &mut Table<D, C>) -> Result<()> {
    let (rank, size) = (call.rank(), call.size());
    if call.near() {
        return node::gathered(call, table, 0..rank, None).await;
    }
    body(call, table).await?;
    if rank + 1 < size {
        call.send_parts::<D>(rank + 1, table.take()).await?;
    }
    table.clear();
    if rank > 0 {
        let lower = call.recv_parts::<D>(rank - 1).await?;
        table.combine_above(lower, rank - 1)?;
    }
    Ok(())
}
