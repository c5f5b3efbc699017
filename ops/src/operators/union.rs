//! [`Union`]: the records of several inputs as one.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::forward::Forward;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;

static NAME: OpName = OpName("union");

/// M sources, of any number of inputs, to N targets: all records, as they are.
///
/// The records of a source stay on its rank if there is a target: sources take the targets of their rank in turn. Others go to the target
/// of their number, modulo N. Those of one source stay in order; equal ones stay as many as they are ([`Distinct`](crate::Distinct) makes
/// them one).
///
/// *Cost*, *memory*: as [`Partition`](crate::Partition); what stays on its rank is not copied on its way.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, LogicalPlan, Operator, Union, taking};
/// let got = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     // Two inputs with a source on each rank: 0 and 1, 2 and 3.
///     let plan = LogicalPlan::each_rank(&world).sources_on(&[0, 1, 0, 1])?;
///     let mut came: Vec<String> = Vec::new();
///     let mut op = Union::new(&flow, &plan, taking(|_target, batch| came.extend(batch)))?;
///     op.insert_all(world.rank(), [format!("left {}", world.rank())])?;
///     op.insert_all(2 + world.rank(), [format!("right {}", world.rank())])?;
///     op.finish(world.rank())?;
///     op.finish(2 + world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(came)
/// })?;
/// assert_eq!(got, [["left 0", "right 0"], ["left 1", "right 1"]]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Union<T, R> {
    forward: Forward<T, R>,
    /// source -> its target
    targets: Vec<u32>,
}

impl<T: Record, R: Receiver<Batch<T>>> Union<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, receiver: R) -> Result<Union<T, R>> {
        plan.needs_targets(NAME.0)?;
        let mut turn = vec![0; flow.world().size() as usize];
        let target = |(source, rank): (u32, &u32)| {
            let here: Vec<u32> = plan.targets_of(*rank).collect();
            let turn = turn.get_mut(*rank as usize)?;
            let target = here.get(*turn % here.len().max(1)).copied();
            *turn += 1;
            Some(target.unwrap_or(source % plan.targets().len() as u32))
        };
        let targets = (0..).zip(plan.sources()).filter_map(target).collect();
        Ok(Union { forward: Forward::to_one(flow, &NAME, plan, receiver)?, targets })
    }
}

operator!(Union<T, R> by forward where T: Record, R: Receiver<Batch<T>>);

impl<T: Record, R: Receiver<Batch<T>>> Insert<T> for Union<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        // (A source that is not there is told so.)
        let target = self.targets.get(source as usize).copied().unwrap_or(0);
        self.forward.insert(source, target, record)
    }
}
