//! [`AllReduce`]: all values to one, at all targets.

use crate::carrier::Route;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::reduction::Reduction;
use aeolian_net::OpName;

static NAME: OpName = OpName("all_reduce");

/// M sources to N targets, each of which gets the one value that all values were reduced to: none, if none was inserted.
///
/// `combine` must be associative. A source's values are combined in the order in which they were inserted, then those of the sources in
/// the order of their numbers: the same bits at all targets, and whatever ranks they are on.
///
/// *Cost*: one value a source goes to each rank with targets, which combines them: one round, and no middle that all goes through. (For
/// long arrays on many ranks, the collective `allreduce` of Harp moves less.) *Memory*: one value of each source at each rank. Nothing
/// spills.
///
/// ```
/// use aeolian_ops::{AllReduce, Dataflow, Insert, LogicalPlan, Operator, taking};
/// let got = aeolian_net::World::local(3, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut sums = Vec::new();
///     let mut op = AllReduce::new(&flow, &LogicalPlan::each_rank(&world), |a: &mut f64, b| *a += b, taking(|_, sum| sums.push(sum)))?;
///     op.insert_all(world.rank(), [0.5, f64::from(world.rank())])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(sums)
/// })?;
/// assert_eq!(got, [[4.5]; 3]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct AllReduce<T, F, R> {
    reduction: Reduction<T, F, R>,
}

impl<T: Record, F: FnMut(&mut T, T), R: Receiver<T>> AllReduce<T, F, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver. `combine` puts its second value into its first.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, combine: F, receiver: R) -> Result<AllReduce<T, F, R>> {
        let reduction = Reduction::new(flow, &NAME, plan, Route::ToAll, combine, receiver)?;
        Ok(AllReduce { reduction })
    }
}

operator!(AllReduce<T, F, R> by reduction where T: Record, F: FnMut(&mut T, T), R: Receiver<T>);

impl<T: Record, F: FnMut(&mut T, T), R: Receiver<T>> Insert<T> for AllReduce<T, F, R> {
    fn insert(&mut self, source: u32, value: T) -> Result<(), InsertError<T>> {
        self.reduction.insert(source, value)
    }
}
