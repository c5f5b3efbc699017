//! [`Direct`]: from each source to the target of the same number.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result};
use crate::forward::Forward;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;

static NAME: OpName = OpName("direct");

/// N sources to N targets, source `i` to target `i`, in order.
///
/// *Cost*: as [`Partition`](crate::Partition). *Memory*: one batch for each source; at the targets what a receiver does not take yet; what
/// the budget has no room for spills.
///
/// ```
/// use aeolian_ops::{Dataflow, Direct, Insert, LogicalPlan, Operator, taking};
/// let got = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     // Source 0 is on rank 0, its target on rank 1, and the other way round.
///     let plan = LogicalPlan::each_rank(&world).targets_on(&[1, 0])?;
///     let mut came = Vec::new();
///     let mut op = Direct::new(&flow, &plan, taking(|_target, batch| came.extend(batch)))?;
///     op.insert_all(world.rank(), [world.rank() as u64; 3])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(came)
/// })?;
/// assert_eq!(got, [[1, 1, 1], [0, 0, 0]]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Direct<T, R> {
    forward: Forward<T, R>,
}

impl<T: Record, R: Receiver<Batch<T>>> Direct<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if the plan is for a world of another size or has not as many targets as sources.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, receiver: R) -> Result<Direct<T, R>> {
        let (sources, targets) = (plan.sources().len(), plan.targets().len());
        if sources != targets {
            return Err(OpsError::Plan(format!("{} from {sources} sources to {targets} targets", NAME.0)));
        }
        Ok(Direct { forward: Forward::to_one(flow, &NAME, plan, receiver)? })
    }
}

operator!(Direct<T, R> by forward where T: Record, R: Receiver<Batch<T>>);

impl<T: Record, R: Receiver<Batch<T>>> Insert<T> for Direct<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        self.forward.insert(source, source, record)
    }
}
