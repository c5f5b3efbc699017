//! [`Reduction`]: what Reduce and AllReduce have in common.

use crate::batch::{self, Batch};
use crate::carrier::{Incoming, Route};
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::filling;
use crate::operator::{Full, InsertError, Receiver};
use crate::plan::LogicalPlan;
use crate::record::{Reader, Record};
use aeolian_net::{Buf, OpName};
use std::cell::Cell;
use std::rc::Rc;

/// One value of each source, and at the targets one of all.
///
/// A source's values are reduced where they are inserted, in their order; targets reduce those of the sources in the order of their
/// numbers. So the result does not depend on the ranks that tasks are on, to the last bit.
pub(crate) struct Reduction<T, F, R> {
    pub(crate) exchange: Exchange<(u32, T)>,
    combine: F,
    receiver: R,
    /// Targets of this rank.
    mine: Vec<u32>,
    /// source -> its value so far, of those on this rank
    here: Vec<Option<T>>,
    /// Sources of this rank whose value has gone.
    gone: usize,
    /// source -> its value, at a rank with targets
    came: Vec<Option<T>>,
    /// The value of all, as bytes, and how many targets have it.
    result: Option<(Buf, usize)>,
    refused: Option<T>,
    damaged: Rc<Cell<bool>>,
    is_done: bool,
}

impl<T: Record, F: FnMut(&mut T, T), R: Receiver<T>> Reduction<T, F, R> {
    pub(crate) fn new(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        route: Route,
        combine: F,
        receiver: R,
    ) -> Result<Reduction<T, F, R>> {
        let mut reduction = Reduction {
            exchange: Exchange::new(flow, name, plan, route)?,
            combine,
            receiver,
            mine: plan.targets_of(flow.world().rank()).collect(),
            here: Vec::new(),
            gone: 0,
            came: Vec::new(),
            result: None,
            refused: None,
            damaged: Rc::default(),
            is_done: false,
        };
        reduction.open();
        Ok(reduction)
    }

    pub(crate) fn open(&mut self) {
        let sources = self.exchange.plan().sources().len();
        self.here = (0..sources).map(|_| None).collect();
        self.came = (0..sources).map(|_| None).collect();
        self.gone = 0;
        self.result = None;
        self.is_done = false;
    }

    pub(crate) fn insert(&mut self, source: u32, value: T) -> Result<(), InsertError<T>> {
        if !self.exchange.may_insert(source)? {
            return Err(InsertError::Full(value));
        }
        match &mut self.here[source as usize] {
            Some(there) => (self.combine)(there, value),
            empty => *empty = Some(value),
        }
        Ok(())
    }

    /// Puts the values of this rank's sources, each once; false if there is no room.
    fn put_all(&mut self) -> Result<bool> {
        while let Some(place) = self.here.get_mut(self.gone) {
            if let Some(value) = place.take() {
                let pair = (self.gone as u32, value);
                if !self.exchange.put(0, &pair)? {
                    *place = Some(pair.1);
                    return Ok(false);
                }
            }
            self.gone += 1;
        }
        Ok(true)
    }

    pub(crate) fn progress(&mut self) -> Result<bool> {
        let mut moved = false;
        if !self.exchange.is_about_to_end() || self.put_all()? {
            moved |= self.exchange.progress()?;
        }
        while let Some(incoming) = self.exchange.receive()? {
            moved = true;
            match incoming {
                Incoming::Batch { bytes, .. } | Incoming::ForAll(bytes) => {
                    for (source, value) in Batch::<(u32, T)>::new(bytes, self.damaged.clone()) {
                        match self.came.get_mut(source as usize) {
                            Some(place @ None) => *place = Some(value),
                            _ => self.damaged.set(true),
                        }
                    }
                    if self.damaged.get() {
                        return Err(self.exchange.whose().unreadable::<T>("a batch"));
                    }
                }
                Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => {
                    self.mine.iter().for_each(|target| self.receiver.barrier(*target, &marks));
                }
            }
        }
        if self.exchange.has_ended() && !self.is_done {
            moved |= self.give()?;
        }
        Ok(moved)
    }

    /// Hands the value of all to the targets of this rank.
    fn give(&mut self) -> Result<bool> {
        if self.result.is_none() {
            let all = self.came.iter_mut().filter_map(Option::take).reduce(|mut all, value| {
                (self.combine)(&mut all, value);
                all
            });
            let Some(all) = all else {
                self.is_done = true;
                return Ok(true);
            };
            // A record need not be one that can be copied; its bytes can.
            let (bytes, _) = filling::begin(&all, 0).map_err(|_| self.exchange.whose().unwritable::<T>())?;
            self.result = Some((bytes, 0));
        }
        let Some((bytes, given)) = &mut self.result else { return Ok(false) };
        let mut moved = false;
        while let Some(target) = self.mine.get(*given) {
            let value = match self.refused.take() {
                Some(value) => value,
                None => match batch::get(&mut Reader::new(bytes)) {
                    Some(value) => value,
                    None => return Err(self.exchange.whose().unreadable::<T>("the result")),
                },
            };
            let taken = self.receiver.receive(*target, value);
            if let Some(error) = self.receiver.error() {
                return Err(error);
            }
            if let Err(Full(value)) = taken {
                self.refused = Some(value);
                return Ok(moved);
            }
            *given += 1;
            moved = true;
        }
        self.is_done = true;
        Ok(true)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.exchange.is_over() && self.is_done
    }

    pub(crate) fn is_held_up(&self) -> bool {
        self.refused.is_some()
    }
}
