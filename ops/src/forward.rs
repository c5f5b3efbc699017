//! [`Forward`]: what operators have in common that bring records to targets as they are.

use crate::batch::Batch;
use crate::carrier::{Incoming, Marks, Route};
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::memory::Reservation;
use crate::operator::{Full, InsertError, Receiver};
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::spill::{RunReader, RunWriter, SpillFile};
use crate::windows::Time;
use aeolian_net::{Buf, NetError, OpName};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Messages that are taken in one call of `progress`: other operators and the program want their turn.
const AT_ONCE: usize = 16;

enum Event<T> {
    Batch(Batch<T>),
    /// The next block of the target's spill.
    Spilled,
    Barrier(Rc<Marks>),
    Watermark(Time),
}

/// What waits for a target, in order. Batches that the budget has no room for are on disk.
struct Queue<T> {
    events: VecDeque<Event<T>>,
    /// What is being written; what is read first is in `reading`.
    writing: Option<RunWriter>,
    reading: Option<RunReader>,
}

/// An edge, and a receiver at its end. What a receiver does not take yet waits, in memory as long as the budget has room, else on disk.
pub(crate) struct Forward<T, R> {
    pub(crate) exchange: Exchange<T>,
    receiver: R,
    /// target -> what waits for it
    waiting: Vec<Queue<T>>,
    /// Targets of this rank.
    mine: Vec<u32>,
    events: usize,
    room: Reservation,
    spill: SpillFile,
    damaged: Damaged,
}

/// Set by batches with a record that could not be read, which a receiver may find out later than it got them.
#[derive(Default)]
struct Damaged {
    came: Rc<Cell<bool>>,
    from_disk: Rc<Cell<bool>>,
}

impl<T> Queue<T> {
    /// The next block that was spilled.
    fn read(&mut self) -> Result<Buf> {
        loop {
            if let Some(reading) = &mut self.reading
                && let Some(bytes) = reading.next()?
            {
                return Ok(bytes);
            }
            let Some(written) = self.writing.take() else {
                return Err(NetError::Internal("a spilled batch is nowhere".into()).into());
            };
            self.reading = Some(written.finish()?.read());
        }
    }
}

impl<T: Record, R: Receiver<Batch<T>>> Forward<T, R> {
    /// Each record goes to one target.
    pub(crate) fn to_one(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        receiver: R,
    ) -> Result<Forward<T, R>> {
        Forward::new(flow, Exchange::of_stream(flow, name, plan, Route::ToOne { parts: 1 })?, receiver)
    }

    /// Each record goes to all targets.
    pub(crate) fn to_all(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        receiver: R,
    ) -> Result<Forward<T, R>> {
        Forward::new(flow, Exchange::of_stream(flow, name, plan, Route::ToAll)?, receiver)
    }

    fn new(flow: &Dataflow, exchange: Exchange<T>, receiver: R) -> Result<Forward<T, R>> {
        let plan = exchange.plan();
        let queue = |_: &u32| Queue { events: VecDeque::new(), writing: None, reading: None };
        let waiting = plan.targets().iter().map(queue).collect();
        Ok(Forward {
            mine: plan.targets_of(flow.world().rank()).collect(),
            receiver,
            waiting,
            events: 0,
            room: flow.memory().reserve(),
            spill: flow.spill().file(&exchange.whose().operator),
            damaged: Damaged::default(),
            exchange,
        })
    }

    /// Takes a record for a target (to all: 0), or hands it back.
    #[inline]
    pub(crate) fn insert(&mut self, source: u32, target: u32, record: T) -> Result<(), InsertError<T>> {
        match self.exchange.may_insert(source)? {
            true => self.exchange.put_own(target, record),
            false => Err(InsertError::Full(record)),
        }
    }

    /// Hands over what waits for a target; false if the receiver does not take it.
    fn offer(&mut self, target: u32) -> Result<bool> {
        let queue = &mut self.waiting[target as usize];
        while let Some(mut event) = queue.events.pop_front() {
            if matches!(event, Event::Spilled) {
                let bytes = queue.read()?;
                self.room.take(bytes.len() as u64);
                event = Event::Batch(Batch::new(bytes, self.damaged.from_disk.clone()));
            }
            match event {
                Event::Spilled => {}
                Event::Barrier(marks) => self.receiver.barrier(target, &marks),
                Event::Watermark(time) => self.receiver.watermark(target, time),
                Event::Batch(batch) => {
                    let bytes = batch.bytes() as u64;
                    let taken = self.receiver.receive(target, batch);
                    self.room.shrink(bytes);
                    if let Some(error) = self.receiver.error() {
                        return Err(error);
                    }
                    if let Err(Full(batch)) = taken {
                        // (What it gives back may be less, or another batch.)
                        self.room.take(batch.bytes() as u64);
                        queue.events.push_front(Event::Batch(batch));
                        return Ok(false);
                    }
                }
            }
            self.events -= 1;
            if self.damaged.came.get() {
                return Err(self.exchange.whose().unreadable::<T>("a batch"));
            }
            if self.damaged.from_disk.get() {
                return Err(self.exchange.whose().unreadable::<T>("a spilled run"));
            }
        }
        Ok(true)
    }

    /// Something has come for a target: it gets it when it has taken what came before.
    fn bring(&mut self, target: u32, event: Event<T>) -> Result<()> {
        let queue = &mut self.waiting[target as usize];
        let event = match event {
            // The first one is offered at once, and may not have to wait.
            Event::Batch(batch) if queue.events.is_empty() => {
                self.room.take(batch.bytes() as u64);
                Event::Batch(batch)
            }
            Event::Batch(batch) if !self.room.grow(batch.bytes() as u64) => {
                queue.writing.get_or_insert_with(|| self.spill.run()).write(batch.into_bytes())?;
                Event::Spilled
            }
            event => event,
        };
        queue.events.push_back(event);
        self.events += 1;
        self.offer(target).map(drop)
    }

    pub(crate) fn progress(&mut self) -> Result<bool> {
        let mut moved = self.exchange.progress()?;
        if self.events > 0 {
            let before = (self.events, self.room.bytes());
            for at in 0..self.mine.len() {
                self.offer(self.mine[at])?;
            }
            moved |= (self.events, self.room.bytes()) != before;
        }
        for _ in 0..AT_ONCE {
            // What a stream's receiver does not take holds up what comes after it, and so its sources.
            if self.exchange.is_stream() && self.events > 0 {
                break;
            }
            let Some(incoming) = self.exchange.receive()? else { break };
            moved = true;
            match incoming {
                Incoming::Batch { slot: target, bytes, .. } => {
                    self.bring(target, Event::Batch(Batch::new(bytes, self.damaged.came.clone())))?;
                }
                Incoming::ForAll(bytes) => {
                    let mut bytes = Some(bytes);
                    for at in 0..self.mine.len() {
                        let is_last = at + 1 == self.mine.len();
                        let one = if is_last { bytes.take() } else { bytes.clone() };
                        let batch = Batch::new(one.unwrap_or_default(), self.damaged.came.clone());
                        self.bring(self.mine[at], Event::Batch(batch))?;
                    }
                }
                Incoming::Barrier(marks) => {
                    let marks = Rc::new(marks);
                    for at in 0..self.mine.len() {
                        self.bring(self.mine[at], Event::Barrier(marks.clone()))?;
                    }
                }
                Incoming::Watermark(time) => {
                    for at in 0..self.mine.len() {
                        self.bring(self.mine[at], Event::Watermark(time))?;
                    }
                }
            }
        }
        Ok(moved)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.events == 0 && self.exchange.is_over()
    }

    pub(crate) fn is_held_up(&self) -> bool {
        self.events > 0
    }

    /// Nothing is left of a round.
    pub(crate) fn open(&mut self) {}
}
