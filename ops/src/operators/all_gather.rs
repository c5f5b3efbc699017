//! [`AllGather`]: all records to all targets, with their sources.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::forward::Forward;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;

static NAME: OpName = OpName("all_gather");

/// M sources to N targets, each of which gets all pairs of a source and its record: those of one source in order.
///
/// *Cost* and *memory*: as [`Broadcast`](crate::Broadcast), and four bytes a record for the source.
///
/// ```
/// use aeolian_ops::{AllGather, Dataflow, Insert, LogicalPlan, Operator, taking};
/// let got = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut came = Vec::new();
///     let plan = LogicalPlan::each_rank(&world);
///     let mut op = AllGather::new(&flow, &plan, taking(|_, batch| came.extend(batch)))?;
///     op.insert_all(world.rank(), [10.5 * f64::from(world.rank())])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     came.sort_by_key(|(source, _)| *source);
///     Ok(came)
/// })?;
/// assert_eq!(got, [[(0, 0.0), (1, 10.5)], [(0, 0.0), (1, 10.5)]]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct AllGather<T, R> {
    forward: Forward<(u32, T), R>,
}

impl<T: Record, R: Receiver<Batch<(u32, T)>>> AllGather<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, receiver: R) -> Result<AllGather<T, R>> {
        Ok(AllGather { forward: Forward::to_all(flow, &NAME, plan, receiver)? })
    }
}

operator!(AllGather<T, R> by forward where T: Record, R: Receiver<Batch<(u32, T)>>);

impl<T: Record, R: Receiver<Batch<(u32, T)>>> Insert<T> for AllGather<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        self.forward.insert(source, 0, (source, record)).map_err(|e| e.map(|(_, record)| record))
    }
}
