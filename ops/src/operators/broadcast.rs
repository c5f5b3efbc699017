//! [`Broadcast`]: each record to all targets.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::forward::Forward;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;

static NAME: OpName = OpName("broadcast");

/// M sources (one, as a rule) to N targets, each of which gets all records: those of one source in order.
///
/// *Cost*: each record is written once; a batch goes once to each rank with targets, however many it has, and is copied there for each but
/// one. *Memory*: one batch at each rank with sources; at the targets what a receiver does not take yet; what the budget has no room for
/// spills.
///
/// ```
/// use aeolian_ops::{Batch, Broadcast, Dataflow, Insert, LogicalPlan, Operator, taking};
/// let got = aeolian_net::World::local(3, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut sum = 0;
///     let mut op = Broadcast::new(&flow, &LogicalPlan::new(&world, 1, 3), taking(|_, batch: Batch<u64>| sum += batch.sum::<u64>()))?;
///     if world.rank() == 0 {
///         op.insert_all(0, 1..=100u64)?;
///         op.finish(0)?;
///     }
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(sum)
/// })?;
/// assert_eq!(got, [5050; 3]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Broadcast<T, R> {
    forward: Forward<T, R>,
}

impl<T: Record, R: Receiver<Batch<T>>> Broadcast<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, receiver: R) -> Result<Broadcast<T, R>> {
        Ok(Broadcast { forward: Forward::to_all(flow, &NAME, plan, receiver)? })
    }
}

operator!(Broadcast<T, R> by forward where T: Record, R: Receiver<Batch<T>>);

impl<T: Record, R: Receiver<Batch<T>>> Insert<T> for Broadcast<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        self.forward.insert(source, 0, record)
    }
}
