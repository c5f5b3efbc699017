//! [`Outbox`]: what an operator has made for its targets, a batch at a time, as receivers take it.

use crate::batch::{self, Batch};
use crate::error::Result;
use crate::operator::{Full, Receiver};
use crate::record::{Record, Writer};
use aeolian_net::Buf;
use std::cell::Cell;
use std::rc::Rc;

/// Bytes of a batch that an operator makes.
const BYTES: usize = 64 << 10;

/// Records on their way to the receiver: at most one batch, which is made when the one before it was taken.
pub(crate) struct Outbox<T> {
    /// A batch that the receiver has given back, and its target.
    refused: Option<(u32, Batch<T>)>,
    damaged: Rc<Cell<bool>>,
}

impl<T: Record> Outbox<T> {
    pub(crate) fn new() -> Outbox<T> {
        Outbox { refused: None, damaged: Rc::default() }
    }

    /// Offers what was refused once more; false if it is so again.
    fn offer(&mut self, receiver: &mut impl Receiver<Batch<T>>) -> bool {
        let Some((target, batch)) = self.refused.take() else { return true };
        match receiver.receive(target, batch) {
            Ok(()) => true,
            Err(Full(batch)) => {
                self.refused = Some((target, batch));
                false
            }
        }
    }

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
        if !self.offer(receiver) {
            return Ok(false);
        }
        let mut bytes = Buf::stale(BYTES);
        let mut filled = 0;
        while filled < BYTES / 2 {
            let Some(record) = next()? else { break };
            let mut writer = Writer::new(&mut bytes, filled);
            if batch::put(&record, &mut writer).is_some() {
                filled = writer.position();
                continue;
            }
            // It is large: a longer batch ends with it.
            let mut longer = Buf::stale(filled + batch::size(&record));
            longer[..filled].copy_from_slice(&bytes[..filled]);
            let mut writer = Writer::new(&mut longer, filled);
            if batch::put(&record, &mut writer).is_some() {
                filled = writer.position();
                bytes = longer;
            }
            break;
        }
        if filled == 0 {
            return Ok(false);
        }
        bytes.truncate(filled);
        self.refused = Some((target, Batch::new(bytes, self.damaged.clone())));
        Ok(self.offer(receiver))
    }
}
