//! [`Distinct`]: each record once.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result};
use crate::key::Key;
use crate::operator::{Full, Insert, InsertError, Receiver, operator};
use crate::operators::KeyedReduce;
use crate::plan::LogicalPlan;
use aeolian_net::OpName;

static NAME: OpName = OpName("distinct");

/// M sources to N targets: each record comes once, to the target of its hash, however often it was inserted. Which are the same, [`Key`]
/// says.
///
/// Semantics otherwise, cost and memory are those of [`KeyedReduce`], with records as keys and no values: it spills as that does.
///
/// ```
/// use aeolian_ops::{Dataflow, Distinct, Insert, LogicalPlan, Operator, taking};
/// let words = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut mine: Vec<String> = Vec::new();
///     let mut op = Distinct::new(&flow, &LogicalPlan::each_rank(&world), taking(|_, batch| mine.extend(batch)))?;
///     op.insert_all(world.rank(), "a rose is a rose".split(' ').map(String::from))?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(mine)
/// })?;
/// let mut words = words.concat();
/// words.sort();
/// assert_eq!(words, ["a", "is", "rose"]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Distinct<T: Key, R> {
    reduce: KeyedReduce<T, (), Nothing, WithoutValues<R>>,
}

/// What becomes of two values that are none.
type Nothing = fn(&mut (), ());

/// Hands keys to a receiver of records.
struct WithoutValues<R>(R);

impl<T: Key, R: Receiver<Batch<T>>> Receiver<Batch<(T, ())>> for WithoutValues<R> {
    fn receive(&mut self, target: u32, batch: Batch<(T, ())>) -> Result<(), Full<Batch<(T, ())>>> {
        // (A value of no bytes leaves those of the key as they are.)
        self.0.receive(target, batch.retyped()).map_err(|Full(batch)| Full(batch.retyped()))
    }

    fn barrier(&mut self, target: u32, marks: &[(u32, Vec<u8>)]) {
        self.0.barrier(target, marks);
    }

    fn error(&mut self) -> Option<OpsError> {
        self.0.error()
    }
}

impl<T: Key, R: Receiver<Batch<T>>> Distinct<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, receiver: R) -> Result<Distinct<T, R>> {
        let nothing: Nothing = |(), ()| ();
        Ok(Distinct { reduce: KeyedReduce::named(flow, &NAME, plan, nothing, WithoutValues(receiver))? })
    }
}

operator!(Distinct<T, R> by reduce where T: Key, R: Receiver<Batch<T>>);

impl<T: Key, R: Receiver<Batch<T>>> Insert<T> for Distinct<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        self.reduce.insert(source, (record, ())).map_err(|e| e.map(|(record, ())| record))
    }
}
