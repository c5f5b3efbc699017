//! [`Reduce`]: all values to one, at one target.

use crate::carrier::Route;
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result};
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::reduction::Reduction;
use aeolian_net::OpName;

static NAME: OpName = OpName("reduce");

/// M sources to one target, which gets the one value that all values were reduced to: none, if none was inserted.
///
/// `combine` must be associative. A source's values are combined in the order in which they were inserted, then those of the sources in
/// the order of their numbers: the same bits whatever ranks they are on.
///
/// *Cost*: one value a source goes to the target's rank, one round. *Memory*: one value a source of the rank; at the target's rank one of
/// each source. Nothing spills.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, LogicalPlan, Operator, Reduce, taking};
/// let got = aeolian_net::World::local(3, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut longest = None;
///     let plan = LogicalPlan::new(&world, 3, 1);
///     let combine = |a: &mut String, b: String| if b.len() > a.len() { *a = b };
///     let mut op = Reduce::new(&flow, &plan, combine, taking(|_, word| longest = Some(word)))?;
///     op.insert_all(world.rank(), ["a", "rose", "is", ["red", "pink", "white"][world.rank() as usize]].map(String::from))?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(longest)
/// })?;
/// assert_eq!(got, [Some("white".to_string()), None, None]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Reduce<T, F, R> {
    reduction: Reduction<T, F, R>,
}

impl<T: Record, F: FnMut(&mut T, T), R: Receiver<T>> Reduce<T, F, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver. `combine` puts its second value into its first.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if the plan is for a world of another size or has not one target.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, combine: F, receiver: R) -> Result<Reduce<T, F, R>> {
        if plan.targets().len() != 1 {
            return Err(OpsError::Plan(format!("{} to {} targets, not one", NAME.0, plan.targets().len())));
        }
        let reduction = Reduction::new(flow, &NAME, plan, Route::ToOne { parts: 1 }, combine, receiver)?;
        Ok(Reduce { reduction })
    }
}

operator!(Reduce<T, F, R> by reduction where T: Record, F: FnMut(&mut T, T), R: Receiver<T>);

impl<T: Record, F: FnMut(&mut T, T), R: Receiver<T>> Insert<T> for Reduce<T, F, R> {
    fn insert(&mut self, source: u32, value: T) -> Result<(), InsertError<T>> {
        self.reduction.insert(source, value)
    }
}
