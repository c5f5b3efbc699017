//! [`KeyedPartition`]: pairs to the targets of their keys.

use crate::operators::Partition;
use crate::selector::ByKey;

/// A [`Partition`] of pairs of a key and a value, by the key: all pairs of a key come to one target.
///
/// Semantics, cost and memory are those of [`Partition`].
///
/// ```
/// use aeolian_ops::{ByKey, Dataflow, Insert, KeyedPartition, LogicalPlan, Operator, taking};
/// let done = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut pairs: Vec<(String, u64)> = Vec::new();
///     let mut op = KeyedPartition::new(
///         &flow,
///         &LogicalPlan::each_rank(&world),
///         ByKey,
///         taking(|_target, batch| pairs.extend(batch)),
///     )?;
///     op.insert_all(world.rank(), [("even".into(), 2), ("odd".into(), 3)])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(pairs.len())
/// })?;
/// assert!(done == [4, 0] || done == [0, 4] || done == [2, 2]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub type KeyedPartition<K, V, R, S = ByKey> = Partition<(K, V), S, R>;
