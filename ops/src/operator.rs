//! What all operators have in common: [`Operator`], [`Insert`], [`Receiver`].

use crate::error::{OpsError, Result, Whose};
use crate::windows::Time;
use aeolian_net::{NetError, OpName, World};
use std::time::Duration;

/// A value that was not taken: it comes back, to be tried again after some [`Operator::progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// An insert that failed, or a value that was not taken yet.
pub enum InsertError<T> {
    /// There is no room yet: the value comes back, to be tried again after some [`Operator::progress`].
    Full(T),
    /// Something is wrong.
    Failed(OpsError),
}

impl<T> InsertError<T> {
    /// The same with another value.
    pub fn map<U>(self, other: impl FnOnce(T) -> U) -> InsertError<U> {
        match self {
            InsertError::Full(value) => InsertError::Full(other(value)),
            InsertError::Failed(e) => InsertError::Failed(e),
        }
    }
}

impl<T> std::fmt::Debug for InsertError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InsertError::Full(_) => f.write_str("Full(..)"),
            InsertError::Failed(e) => write!(f, "Failed({e:?})"),
        }
    }
}

impl<T> From<OpsError> for InsertError<T> {
    fn from(e: OpsError) -> InsertError<T> {
        InsertError::Failed(e)
    }
}

impl<T> From<NetError> for InsertError<T> {
    fn from(e: NetError) -> InsertError<T> {
        InsertError::Failed(e.into())
    }
}

/// Gets what an operator brings to a target on this rank.
///
/// A closure is one: of a target and what it gets, which it takes (`Ok`) or gives back ([`Full`], of a batch also
/// the rest) to be offered again later. One that takes everything is made by [`taking`]. It runs on the thread that progresses the operator.
pub trait Receiver<I> {
    /// Something for a target.
    fn receive(&mut self, target: u32, item: I) -> Result<(), Full<I>>;

    /// A barrier has come from all sources. `marks` are the sources with what they gave to [`Operator::barrier`], ascending.
    ///
    /// Where records come as they come, what was received so far was inserted before it, and nothing after it. Operators that give records
    /// only when all sources have finished tell of all barriers before that.
    fn barrier(&mut self, target: u32, marks: &[(u32, Vec<u8>)]) {
        let _ = (target, marks);
    }

    /// Of a stream: no record with a time before `time` is to be expected any more, since all sources have said so ([`Operator::watermark`]), or
    /// are idle. It never goes back, and comes after all that was inserted before it was said. `Time::MAX` comes when all have finished.
    fn watermark(&mut self, target: u32, time: Time) {
        let _ = (target, time);
    }

    /// What went wrong with what it got last: it ends the operator on this rank, with this error. (Asked after each [`Receiver::receive`].)
    fn error(&mut self) -> Option<OpsError> {
        None
    }
}

impl<I, F: FnMut(u32, I) -> Result<(), Full<I>>> Receiver<I> for F {
    fn receive(&mut self, target: u32, item: I) -> Result<(), Full<I>> {
        self(target, item)
    }
}

/// A receiver that takes everything.
pub fn taking<I>(mut take: impl FnMut(u32, I)) -> impl FnMut(u32, I) -> Result<(), Full<I>> {
    move |target, item| {
        take(target, item);
        Ok(())
    }
}

/// A receiver that takes everything, or fails: made by [`trying`].
#[derive(Debug)]
pub struct Trying<F> {
    take: F,
    error: Option<OpsError>,
}

/// A receiver that takes everything until something goes wrong, which then ends the operator (a result that cannot be written, say).
///
/// ```
/// use aeolian_net::{NetError, World};
/// use aeolian_ops::{Batch, Dataflow, Gather, Insert, LogicalPlan, Operator, trying};
/// let world = World::alone();
/// let flow = Dataflow::new(&world)?;
/// let take = trying(|_target, batch: Batch<(u32, u32)>| match batch.count() {
///     0..3 => Ok(()),
///     n => Err(NetError::Above { code: 73, what: format!("no room for {n} records") }),
/// });
/// let mut op = Gather::new(&flow, &LogicalPlan::each_rank(&world), take)?;
/// op.insert_all(0, 0..5u32)?;
/// op.finish(0)?;
/// let error = op.complete().unwrap_err();
/// assert_eq!((error.exit_code(), error.to_string().as_str()), (73, "no room for 5 records"));
/// # Ok::<(), aeolian_ops::OpsError>(())
/// ```
pub fn trying<I, E: Into<OpsError>, F: FnMut(u32, I) -> Result<(), E>>(take: F) -> Trying<F> {
    Trying { take, error: None }
}

impl<I, E: Into<OpsError>, F: FnMut(u32, I) -> Result<(), E>> Receiver<I> for Trying<F> {
    fn receive(&mut self, target: u32, item: I) -> Result<(), Full<I>> {
        if self.error.is_none() {
            self.error = (self.take)(target, item).err().map(E::into);
        }
        Ok(())
    }

    fn error(&mut self) -> Option<OpsError> {
        self.error.take()
    }
}

/// A dataflow operator on this rank.
///
/// Nothing moves unless somebody calls [`Operator::progress`] (of this operator, for its own part) or waits in a call of the world.
/// Any number of operators may be under way on one world.
pub trait Operator {
    /// This source, which is on this rank, has nothing more to insert.
    ///
    /// Returns at once: what is still here goes out while the operator is progressed. (Of a source at a barrier that is not told yet, the end
    /// comes after it.)
    ///
    /// # Errors
    /// [`OpsError::Usage`] if the source is not on this rank or has finished.
    fn finish(&mut self, source: u32) -> Result<()>;

    /// A barrier: receivers hear of it when it has come from all sources, after all that was inserted before it and before all that is
    /// inserted after it. Until all sources of this rank are there, those that are insert nothing ([`InsertError::Full`]). A source that
    /// has finished counts as there.
    ///
    /// # Errors
    /// [`OpsError::Usage`] if the source is not on this rank, has finished, or [is at a barrier](Operator::is_at_barrier) already.
    fn barrier(&mut self, source: u32, mark: Vec<u8>) -> Result<()>;

    /// Whether this source, which is on this rank, has come to a barrier that its rank has not told yet: until then it inserts nothing, and comes
    /// to no other.
    fn is_at_barrier(&self, source: u32) -> bool;

    /// This source of a [stream](crate::Dataflow::streaming) will insert no record with a time before `time`. Receivers hear of the earliest that all sources say, in its
    /// place between the records. One that is before the last changes nothing. (A source that was idle is not so any more.)
    ///
    /// # Errors
    /// [`OpsError::Usage`] if the source is not on this rank or has finished, or it is not a stream.
    fn watermark(&mut self, source: u32, time: Time) -> Result<()> {
        let _ = (source, time);
        Err(not_a_stream(self.name(), &self.world()))
    }

    /// This source of a stream has nothing for now: until its next [`Operator::watermark`] the others do not wait for it. Records that it inserts after all may be
    /// late.
    ///
    /// # Errors
    /// As [`Operator::watermark`].
    fn idle(&mut self, source: u32) -> Result<()> {
        let _ = source;
        Err(not_a_stream(self.name(), &self.world()))
    }

    /// Sends what a stream has kept back for more to go with it: who will not insert for a while, and does not wait in a call of this crate, says so.
    ///
    /// # Errors
    /// Of the wires.
    fn hurry(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Moves this operator on; true if anything moved. Receivers get what has come, and what they have refused, from in here.
    ///
    /// # Errors
    /// Of the wires, of the disk, or [`OpsError::Decode`].
    fn progress(&mut self) -> Result<bool>;

    /// Whether all sources have finished, and the targets of this rank have got all there was for them.
    fn is_complete(&self) -> bool;

    /// Whether a receiver has refused something, which it will be offered again.
    fn is_held_up(&self) -> bool;

    /// Makes a complete operator ready for another round with the same tasks. Ranks may be in other rounds meanwhile.
    ///
    /// # Errors
    /// [`OpsError::Usage`] if it is not complete.
    fn reset(&mut self) -> Result<()>;

    /// The world that it is on.
    fn world(&self) -> World;

    /// Its name and number, for whoever watches.
    fn name(&self) -> (&'static OpName, u64);

    /// Moves it on until it is complete. Idle waiting costs no processor time.
    ///
    /// Other operators of this rank do not move meanwhile: ranks that wait for several do so in the same order, or move them together
    /// ([`complete_all`]).
    ///
    /// # Errors
    /// As [`Operator::progress`].
    fn complete(&mut self) -> Result<()> {
        drive(self, |op| Ok(op.is_complete().then_some(())))
    }
}

pub(crate) fn not_a_stream((name, number): (&OpName, u64), world: &World) -> OpsError {
    let rank = world.job_rank(world.rank()).unwrap_or(world.rank());
    let whose = Whose { operator: format!("{} #{number}", name.0), rank };
    whose.usage("it is not a stream's, which Dataflow::streaming makes".into())
}

/// Moves several operators, and the world, on until all are complete.
///
/// ```
/// # use aeolian_ops::{Batch, Dataflow, Insert, LogicalPlan, Operator, Partition, RoundRobin, complete_all, taking};
/// # let world = aeolian_net::World::alone();
/// # let (flow, plan) = (Dataflow::new(&world)?, LogicalPlan::each_rank(&world));
/// let mut counts = [0, 0];
/// let [few, many] = &mut counts;
/// let mut numbers = Partition::new(&flow, &plan, RoundRobin::default(), taking(|_, b: Batch<u32>| *few += b.count()))?;
/// let mut words = Partition::new(&flow, &plan, RoundRobin::default(), taking(|_, b: Batch<String>| *many += b.count()))?;
/// // A rank that waits for room in one takes what comes for the other: it is no matter how many records each rank has for which.
/// numbers.insert_all_beside(0, 0..7, &mut [&mut words])?;
/// words.insert_all_beside(0, ["a", "b"].map(String::from), &mut [&mut numbers])?;
/// numbers.finish(0)?;
/// words.finish(0)?;
/// complete_all(&mut [&mut numbers, &mut words])?;
/// drop((numbers, words));
/// assert_eq!(counts, [7, 2]);
/// # Ok::<(), aeolian_ops::OpsError>(())
/// ```
///
/// # Errors
/// As [`Operator::progress`].
pub fn complete_all(ops: &mut [&mut dyn Operator]) -> Result<()> {
    let Some((first, others)) = ops.split_first_mut() else { return Ok(()) };
    drive_beside(*first, others, |first, others| {
        Ok((first.is_complete() && others.iter().all(|op| op.is_complete())).then_some(()))
    })
}

/// Moves an operator and the world on until `ready` returns a value.
pub fn drive<O: Operator + ?Sized, T>(
    op: &mut O,
    mut ready: impl FnMut(&mut O) -> Result<Option<T>>,
) -> Result<T> {
    drive_beside(op, &mut [], |op, _| ready(op))
}

/// The same, with others that move beside it.
pub(crate) fn drive_beside<O: Operator + ?Sized, T>(
    op: &mut O,
    others: &mut [&mut dyn Operator],
    mut ready: impl FnMut(&mut O, &[&mut dyn Operator]) -> Result<Option<T>>,
) -> Result<T> {
    let mut world = op.world();
    let (name, number) = op.name();
    world.enter(name, number);
    let done = turns(&mut world, op, others, &mut ready);
    world.leave();
    done
}

/// A receiver that refuses is asked again after so long at most.
const ASK_AGAIN: Duration = Duration::from_millis(1);

fn turns<O: Operator + ?Sized, T>(
    world: &mut World,
    op: &mut O,
    others: &mut [&mut dyn Operator],
    ready: &mut impl FnMut(&mut O, &[&mut dyn Operator]) -> Result<Option<T>>,
) -> Result<T> {
    let mut asked = 0u32;
    loop {
        // As long as it moves by itself, there is something to do before the world is waited for.
        let mut step = |world: &mut World| -> Result<Option<Option<T>>> {
            loop {
                let mut moved = op.progress()?;
                let mut held_up = op.is_held_up();
                for other in others.iter_mut() {
                    moved |= other.progress()?;
                    held_up |= other.is_held_up();
                }
                match ready(op, others)? {
                    Some(value) => return Ok(Some(Some(value))),
                    // Not for other ranks: who waits for them in vain is told that all wait for one another.
                    None if held_up => return Ok(Some(None)),
                    None if moved => {
                        asked = 0;
                        // Others may wait for what this rank has sent.
                        world.progress()?;
                    }
                    None => {
                        // Who waits has nothing that more could go with.
                        let mut hurried = op.hurry()?;
                        for other in others.iter_mut() {
                            hurried |= other.hurry()?;
                        }
                        if !hurried {
                            return Ok(None);
                        }
                    }
                }
            }
        };
        if let Some(value) = world.wait_until(|world| Ok(step(world).transpose()))?? {
            return Ok(value);
        }
        if !world.progress()? {
            std::thread::sleep(ASK_AGAIN.min(Duration::from_micros(1 << asked.min(10))));
        }
        asked += 1;
    }
}

/// An operator that records are inserted into.
pub trait Insert<T>: Operator {
    /// Takes a record of a source that is on this rank, or hands it back.
    ///
    /// # Errors
    /// [`InsertError::Full`] if there is no room now; [`OpsError::Usage`] if the source is not on this rank or has finished.
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>>;

    /// Inserts all of these, moving the operator on where there is no room.
    ///
    /// Other operators of this rank do not move meanwhile. Where another rank waits for room in one of those, that is a deadlock, which is found and
    /// named: let them move too, by [`Insert::insert_all_beside`].
    ///
    /// # Errors
    /// As [`Insert::insert`] and [`Operator::progress`].
    fn insert_all(&mut self, source: u32, records: impl IntoIterator<Item = T>) -> Result<()>
    where
        Self: Sized,
    {
        self.insert_all_beside(source, records, &mut [])
    }

    /// The same, and others move too where there is no room ([an example](complete_all)).
    ///
    /// # Errors
    /// As [`Insert::insert`] and [`Operator::progress`].
    fn insert_all_beside(
        &mut self,
        source: u32,
        records: impl IntoIterator<Item = T>,
        others: &mut [&mut dyn Operator],
    ) -> Result<()>
    where
        Self: Sized,
    {
        for record in records {
            match self.insert(source, record) {
                Ok(()) => {}
                Err(InsertError::Full(record)) => {
                    insert_when_there_is_room(self, record, others, |op, record| op.insert(source, record))?;
                }
                Err(InsertError::Failed(e)) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Moves an operator on until `insert` takes this record.
pub(crate) fn insert_when_there_is_room<T, O: Operator>(
    op: &mut O,
    record: T,
    others: &mut [&mut dyn Operator],
    mut insert: impl FnMut(&mut O, T) -> Result<(), InsertError<T>>,
) -> Result<()> {
    let mut refused = Some(record);
    drive_beside(op, others, |op, _| {
        let Some(record) = refused.take() else { return Ok(Some(())) };
        match insert(op, record) {
            Ok(()) => Ok(Some(())),
            Err(InsertError::Full(record)) => {
                refused = Some(record);
                Ok(None)
            }
            Err(InsertError::Failed(e)) => Err(e),
        }
    })
}

/// Inserts all of these. Whether the source may insert is asked once for many records (nothing that `put` does changes it), and again where one
/// was refused.
pub(crate) fn insert_many<T, O: Operator>(
    op: &mut O,
    source: u32,
    records: impl IntoIterator<Item = T>,
    others: &mut [&mut dyn Operator],
    may_insert: impl Fn(&O, u32) -> Result<bool>,
    mut put: impl FnMut(&mut O, T) -> Result<(), InsertError<T>>,
) -> Result<()> {
    let mut records = records.into_iter();
    loop {
        let mut refused = None;
        if may_insert(op, source)? {
            for record in records.by_ref() {
                match put(op, record) {
                    Ok(()) => {}
                    Err(InsertError::Full(record)) => {
                        refused = Some(record);
                        break;
                    }
                    Err(InsertError::Failed(e)) => return Err(e),
                }
            }
            if refused.is_none() {
                return Ok(());
            }
        }
        let Some(record) = refused.or_else(|| records.next()) else { return Ok(()) };
        insert_when_there_is_room(op, record, others, |op, record| match may_insert(op, source)? {
            true => put(op, record),
            false => Err(InsertError::Full(record)),
        })?;
    }
}

/// Implements [`Operator`] by methods of the type itself, or of one of its fields (`by`): `progress`, `is_complete`, `is_held_up`, and
/// `open`, which makes it as at the beginning of a round. Its `exchange` is its own, or that field's, or another's (`in`).
macro_rules! operator {
    ($name:ident<$($parameter:ident),+> in $place:ident where $($bounds:tt)+) => {
        $crate::operator::operator!($name<$($parameter),+> [] [.$place] where $($bounds)+);
    };
    ($name:ident<$($parameter:ident),+> $(by $field:ident)? where $($bounds:tt)+) => {
        $crate::operator::operator!($name<$($parameter),+> [$(.$field)?] [$(.$field)?] where $($bounds)+);
    };
    ($name:ident<$($parameter:ident),+> [$($own:tt)*] [$($place:tt)*] where $($bounds:tt)+) => {
        impl<$($parameter),+> $crate::Operator for $name<$($parameter),+>
        where
            $($bounds)+
        {
            fn finish(&mut self, source: u32) -> $crate::Result<()> {
                self$($place)*.exchange.finish(source)
            }

            fn barrier(&mut self, source: u32, mark: Vec<u8>) -> $crate::Result<()> {
                self$($place)*.exchange.barrier(source, mark)
            }

            fn is_at_barrier(&self, source: u32) -> bool {
                self$($place)*.exchange.is_at_barrier(source)
            }

            fn watermark(&mut self, source: u32, time: $crate::windows::Time) -> $crate::Result<()> {
                self$($place)*.exchange.tell_time(source, $crate::stream::Told::Time(time))
            }

            fn idle(&mut self, source: u32) -> $crate::Result<()> {
                self$($place)*.exchange.tell_time(source, $crate::stream::Told::Idle)
            }

            fn hurry(&mut self) -> $crate::Result<bool> {
                self$($place)*.exchange.hurry()
            }

            fn progress(&mut self) -> $crate::Result<bool> {
                self$($own)*.progress()
            }

            fn is_complete(&self) -> bool {
                self$($own)*.is_complete()
            }

            fn is_held_up(&self) -> bool {
                self$($own)*.is_held_up()
            }

            fn reset(&mut self) -> $crate::Result<()> {
                let whole = self$($own)*.is_complete();
                self$($place)*.exchange.reset(whole)?;
                self$($own)*.open();
                Ok(())
            }

            fn world(&self) -> aeolian_net::World {
                self$($place)*.exchange.world().handle()
            }

            fn name(&self) -> (&'static aeolian_net::OpName, u64) {
                self$($place)*.exchange.name()
            }
        }
    };
}

pub(crate) use operator;
