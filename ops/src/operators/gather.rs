//! [`Gather`]: all records to one target, with their sources.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result};
use crate::forward::Forward;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;

static NAME: OpName = OpName("gather");

/// M sources to one target, which gets pairs of the source and the record: those of one source in order.
///
/// *Cost*: as [`Partition`](crate::Partition), and four bytes a record for the source. *Memory*: one batch at each rank with sources; at
/// the target what its receiver does not take yet; what the budget has no room for spills.
///
/// ```
/// use aeolian_ops::{Dataflow, Gather, Insert, LogicalPlan, Operator, taking};
/// let got = aeolian_net::World::local(3, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut came = Vec::new();
///     let mut op = Gather::new(&flow, &LogicalPlan::new(&world, 3, 1), taking(|_, batch| came.extend(batch)))?;
///     op.insert_all(world.rank(), [format!("from {}", world.rank())])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     came.sort();
///     Ok(came)
/// })?;
/// assert_eq!(got[0], [(0, "from 0".into()), (1, "from 1".into()), (2, "from 2".into())]);
/// assert!(got[1].is_empty() && got[2].is_empty());
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Gather<T, R> {
    forward: Forward<(u32, T), R>,
}

impl<T: Record, R: Receiver<Batch<(u32, T)>>> Gather<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if the plan is for a world of another size or has not one target.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, receiver: R) -> Result<Gather<T, R>> {
        match plan.targets() {
            [_] => Ok(Gather { forward: Forward::to_one(flow, &NAME, plan, receiver)? }),
            targets => Err(OpsError::Plan(format!("{} to {} targets, not one", NAME.0, targets.len()))),
        }
    }
}

operator!(Gather<T, R> by forward where T: Record, R: Receiver<Batch<(u32, T)>>);

impl<T: Record, R: Receiver<Batch<(u32, T)>>> Insert<T> for Gather<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        self.forward.insert(source, 0, (source, record)).map_err(|e| e.map(|(_, record)| record))
    }
}
