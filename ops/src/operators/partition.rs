//! [`Partition`]: each record to the target that a selector gives.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::forward::Forward;
use crate::operator::{
    Insert, InsertError, Operator, Receiver, insert_many, insert_when_there_is_room, operator,
};
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::scatter::suits;
use crate::selector::Selector;
use aeolian_net::OpName;

static NAME: OpName = OpName("partition");

/// M sources to N targets: each record goes to the target that the [`Selector`] gives.
///
/// A target gets batches as they come: those of one source's records in the order in which they were inserted, those of several sources
/// in any.
///
/// *Cost*: each record is written once into the batch for its target, and read from it where it came; no lengths or frames for records of
/// one size. One round; a message a full batch, and one a rank with sources to each rank with targets at the end. *Memory*: one batch for
/// each target at each rank with sources; at the targets what a receiver does not take yet; what the budget has no room for spills.
///
/// ```
/// use aeolian_ops::{ByHash, Dataflow, Insert, LogicalPlan, Operator, Partition, taking};
/// use std::{cell::RefCell, collections::BTreeSet};
/// let words = aeolian_net::World::local(3, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mine = RefCell::new(BTreeSet::new());
///     let take = taking(|_target, batch| mine.borrow_mut().extend(batch));
///     let mut op = Partition::new(&flow, &LogicalPlan::each_rank(&world), ByHash, take)?;
///     op.insert_all(world.rank(), ["a", "rose", "is", "a", "rose"].map(String::from))?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(mine.into_inner().len())
/// })?;
/// // Each word is on one rank.
/// assert_eq!(words.iter().sum::<usize>(), 3);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Partition<T, S, R> {
    forward: Forward<T, R>,
    selector: S,
    targets: u32,
}

impl<T: Record, S: Selector<T>, R: Receiver<Batch<T>>> Partition<T, S, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, selector: S, receiver: R) -> Result<Partition<T, S, R>> {
        plan.needs_targets(NAME.0)?;
        let forward = Forward::to_one(flow, &NAME, plan, receiver)?;
        Ok(Partition { forward, selector, targets: plan.targets().len() as u32 })
    }

    #[inline]
    fn put(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        let target = self.selector.select(source, &record, self.targets);
        self.forward.exchange.put_own(target, record)?;
        self.selector.commit(source);
        Ok(())
    }
}

operator!(Partition<T, S, R> by forward where T: Record, S: Selector<T>, R: Receiver<Batch<T>>);

impl<T: Record, S: Selector<T>, R: Receiver<Batch<T>>> Insert<T> for Partition<T, S, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        match self.forward.exchange.may_insert(source)? {
            true => self.put(source, record),
            false => Err(InsertError::Full(record)),
        }
    }

    fn insert_all_beside(
        &mut self,
        source: u32,
        records: impl IntoIterator<Item = T>,
        others: &mut [&mut dyn Operator],
    ) -> Result<()> {
        let may_insert = |op: &Self| op.forward.exchange.may_insert(source);
        if !suits::<T>(self.targets as usize) {
            let put = |op: &mut Self, record| op.put(source, record);
            return insert_many(self, source, records, others, |op, _| may_insert(op), put);
        }
        // (Where a record goes is decided, though it may have to wait.)
        fn choose<T, S: Selector<T>>(selector: &mut S, source: u32, record: &T, targets: u32) -> u32 {
            let target = selector.select(source, record, targets);
            selector.commit(source);
            target
        }
        // Once it has ended it is not asked again, as there are some that would go on.
        let mut records = records.into_iter().fuse();
        let mut waiting = None;
        if !may_insert(self)? {
            let Some(record) = records.next() else { return Ok(()) };
            waiting = Some((choose(&mut self.selector, source, &record, self.targets), record));
        }
        loop {
            if let Some((target, record)) = waiting {
                let insert = |op: &mut Self, record| op.forward.insert(source, target, record);
                insert_when_there_is_room(self, record, others, insert)?;
            }
            let (selector, targets) = (&mut self.selector, self.targets);
            let choose = |record: &T| choose(selector, source, record, targets);
            let refused = self.forward.exchange.put_many(&mut records, choose);
            let Some((target, record)) = refused else { return Ok(()) };
            waiting = match self.forward.exchange.put_own(target, record) {
                Ok(()) => None,
                Err(InsertError::Full(record)) => Some((target, record)),
                Err(InsertError::Failed(e)) => return Err(e),
            };
        }
    }
}
