//! Aggregate.

use super::{allgather, regroup};
use crate::call::{Op, Pending, agree, blocking, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::partitioner::Partitioner;
use crate::table::Table;
use aeolian_net::World;

/// [`regroup`](crate::regroup), then `function` on each combined partition where it has come together, then
/// [`allgather`](crate::allgather): every rank ends with all results.
///
/// What an allreduce cannot do: `function` sees a combined partition once, on one rank (divide sums by counts, say), and the work is spread
/// over the ranks.
///
/// ```
/// use aeolian_harp::{Modulo, Sum, Table, aggregate};
/// // The mean of what the ranks have: sum and count together, divided once.
/// aeolian_net::World::local(4, |mut world| {
///     let mut t = Table::<f64, Sum>::new(Sum);
///     t.add(0, vec![f64::from(world.rank()), 1.0])?;
///     aggregate(&mut world, &mut t, &Modulo, |_, sum| sum[0] /= sum[1])?;
///     assert_eq!(t.get(0).unwrap()[0], 1.5);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn aggregate<D: Data, C: Combiner<D::Unit>, P: Partitioner + ?Sized>(
    world: &mut World,
    table: &mut Table<D, C>,
    partitioner: &P,
    function: impl FnMut(u64, &mut D::Unit),
) -> Result<()> {
    let agree = agree(table, partitioner.name().as_bytes());
    blocking(world, Op::Aggregate, agree, async |call| {
        regroup::body(call, table, partitioner).await?;
        table.apply(function);
        allgather::body(call, table).await
    })
}

/// Starts an [`aggregate`]; the table comes back with all results.
pub fn iaggregate<D: Data, C: Combiner<D::Unit> + 'static, P: Partitioner + 'static>(
    world: &World,
    mut table: Table<D, C>,
    partitioner: P,
    function: impl FnMut(u64, &mut D::Unit) + 'static,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, partitioner.name().as_bytes());
    starting(world, Op::Aggregate, agree, async move |call| {
        regroup::body(call, &mut table, &partitioner).await?;
        table.apply(function);
        allgather::body(call, &mut table).await?;
        Ok(table)
    })
}
