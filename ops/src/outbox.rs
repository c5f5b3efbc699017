//! [`Outbox`]: what an operator has made for its targets, a batch at a time, as receivers take it.

use crate::batch::Batch;
use crate::error::{Result, Whose};
use crate::filling::Filling;
use crate::operator::{Full, Receiver};
use crate::record::Record;
use aeolian_net::Buf;
use std::cell::Cell;
use std::rc::Rc;

/// Bytes of a batch that an operator makes.
const BYTES: usize = 32 << 10;

/// So many of them are handed over in one call of `progress`: what is on its way to other ranks must move meanwhile, or they wait.
pub(crate) const BATCHES: usize = 16;

/// Records on their way to the receiver: at most one batch, which is made when the one before it was taken, and a record of the next.
pub(crate) struct Outbox<T> {
    whose: Whose,
    filling: Filling,
    /// A batch that the receiver has given back, and its target.
    refused: Option<(u32, Batch<T>)>,
    damaged: Rc<Cell<bool>>,
}

impl<T: Record> Outbox<T> {
    pub(crate) fn new(whose: Whose) -> Outbox<T> {
        Outbox { whose, filling: Filling::new(BYTES), refused: None, damaged: Rc::default() }
    }

    pub(crate) fn whose(&self) -> &Whose {
        &self.whose
    }

    /// Offers what was refused once more; false if it is so again.
    fn offer(&mut self, receiver: &mut impl Receiver<Batch<T>>) -> Result<bool> {
        if let Some((target, batch)) = self.refused.take()
            && let Err(Full(batch)) = receiver.receive(target, batch)
        {
            self.refused = Some((target, batch));
        }
        if let Some(error) = receiver.error() {
            return Err(error);
        }
        match self.damaged.get() {
            true => Err(self.whose.unreadable::<T>("a batch")),
            false => Ok(self.refused.is_none()),
        }
    }

    /// Whether the receiver has taken all that was handed to it.
    pub(crate) fn is_empty(&self) -> bool {
        self.refused.is_none()
    }

    /// Hands the next records over, one batch; false if the receiver does not take it now, or there are none. `next` gives records until
    /// there are no more.
    pub(crate) fn hand_over(
        &mut self,
        receiver: &mut impl Receiver<Batch<T>>,
        target: u32,
        mut next: impl FnMut() -> Result<Option<T>>,
    ) -> Result<bool> {
        self.hand_over_filled(receiver, target, |filling, whose| filling.fill(whose, &mut next))
    }

    /// The same; `fill` fills a batch and returns it, or the last one when there are no more records.
    pub(crate) fn hand_over_filled(
        &mut self,
        receiver: &mut impl Receiver<Batch<T>>,
        target: u32,
        fill: impl FnOnce(&mut Filling, &Whose) -> Result<Option<Buf>>,
    ) -> Result<bool> {
        if !self.offer(receiver)? {
            return Ok(false);
        }
        match fill(&mut self.filling, &self.whose)? {
            Some(bytes) => self.hand(receiver, target, bytes),
            None => Ok(false),
        }
    }

    /// The same for a batch that is there already.
    pub(crate) fn hand_over_batch(
        &mut self,
        receiver: &mut impl Receiver<Batch<T>>,
        target: u32,
        next: impl FnOnce(usize) -> Result<Option<Buf>>,
    ) -> Result<bool> {
        if !self.offer(receiver)? {
            return Ok(false);
        }
        match next(BYTES)? {
            Some(bytes) => self.hand(receiver, target, bytes),
            None => Ok(false),
        }
    }

    fn hand(&mut self, receiver: &mut impl Receiver<Batch<T>>, target: u32, bytes: Buf) -> Result<bool> {
        self.refused = Some((target, Batch::new(bytes, self.damaged.clone())));
        self.offer(receiver)
    }
}
