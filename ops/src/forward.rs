//! [`Forward`]: what operators have in common that bring records to targets as they are.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::exchange::{Exchange, Incoming, Route};
use crate::memory::Reservation;
use crate::operator::{Full, InsertError, Receiver};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Messages that are taken in one call of `progress`: other operators and the program want their turn.
const AT_ONCE: usize = 16;

/// Sources' marks at a barrier.
type Marks = Rc<Vec<(u32, Vec<u8>)>>;

enum Event<T> {
    Batch(Batch<T>),
    Barrier(Marks),
}

/// An edge, and a receiver at its end. What a receiver does not take yet waits in memory, as long as the budget has room; then the edge
/// is not read, and so sources are held up.
pub(crate) struct Forward<T, R> {
    pub(crate) exchange: Exchange<T>,
    receiver: R,
    /// target -> what waits for it
    waiting: Vec<VecDeque<Event<T>>>,
    /// Targets of this rank.
    mine: Vec<u32>,
    events: usize,
    room: Reservation,
    damaged: Rc<Cell<bool>>,
}

impl<T: Record, R: Receiver<Batch<T>>> Forward<T, R> {
    /// Each record goes to one target.
    pub(crate) fn to_one(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        receiver: R,
    ) -> Result<Forward<T, R>> {
        Forward::new(flow, Exchange::new(flow, name, plan, Route::ToOne { parts: 1 })?, receiver)
    }

    /// Each record goes to all targets.
    pub(crate) fn to_all(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        receiver: R,
    ) -> Result<Forward<T, R>> {
        Forward::new(flow, Exchange::new(flow, name, plan, Route::ToAll)?, receiver)
    }

    fn new(flow: &Dataflow, exchange: Exchange<T>, receiver: R) -> Result<Forward<T, R>> {
        let plan = exchange.plan();
        let mut waiting = Vec::new();
        waiting.resize_with(plan.targets().len(), VecDeque::new);
        Ok(Forward {
            mine: plan.targets_of(flow.world().rank()).collect(),
            exchange,
            receiver,
            waiting,
            events: 0,
            room: flow.memory().reserve(),
            damaged: Rc::default(),
        })
    }

    /// Takes a record for a target (to all: 0), or hands it back.
    #[inline]
    pub(crate) fn insert(&mut self, source: u32, target: u32, record: T) -> Result<(), InsertError<T>> {
        match self.exchange.may_insert(source)? && self.exchange.put(target, &record)? {
            true => Ok(()),
            false => Err(InsertError::Full(record)),
        }
    }

    /// Hands over what waits for a target; false if the receiver does not take it.
    fn offer(&mut self, target: u32) -> Result<bool> {
        let queue = &mut self.waiting[target as usize];
        while let Some(event) = queue.pop_front() {
            match event {
                Event::Barrier(marks) => self.receiver.barrier(target, &marks),
                Event::Batch(batch) => {
                    let bytes = batch.bytes() as u64;
                    if let Err(Full(batch)) = self.receiver.receive(target, batch) {
                        // It may have taken some records of it.
                        self.room.shrink(bytes - batch.bytes() as u64);
                        queue.push_front(Event::Batch(batch));
                        return Ok(false);
                    }
                    self.room.shrink(bytes);
                }
            }
            self.events -= 1;
            if self.damaged.get() {
                return Err(self.exchange.unreadable("a batch".into()));
            }
        }
        Ok(true)
    }

    /// Something has come for a target: it gets it when it has taken what came before.
    fn bring(&mut self, target: u32, event: Event<T>) -> Result<()> {
        if let Event::Batch(batch) = &event {
            self.room.take(batch.bytes() as u64);
        }
        self.waiting[target as usize].push_back(event);
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
            // One batch may always be there, or nothing would ever come.
            if self.events > 0 && !self.room.grow(0) {
                break;
            }
            let Some(incoming) = self.exchange.receive()? else { break };
            moved = true;
            match incoming {
                Incoming::Batch(target, bytes) => {
                    self.bring(target, Event::Batch(Batch::new(bytes, self.damaged.clone())))?;
                }
                Incoming::ForAll(bytes) => {
                    let mut bytes = Some(bytes);
                    for at in 0..self.mine.len() {
                        let is_last = at + 1 == self.mine.len();
                        let one = if is_last { bytes.take() } else { bytes.clone() };
                        let batch = Batch::new(one.unwrap_or_default(), self.damaged.clone());
                        self.bring(self.mine[at], Event::Batch(batch))?;
                    }
                }
                Incoming::Barrier(marks) => {
                    let marks = Rc::new(marks);
                    for at in 0..self.mine.len() {
                        self.bring(self.mine[at], Event::Barrier(marks.clone()))?;
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

    pub(crate) fn reset(&mut self) -> Result<()> {
        match self.events {
            0 => self.exchange.reset(),
            _ => Err(self.exchange.usage("reset before its receiver has taken all".into())),
        }
    }
}
