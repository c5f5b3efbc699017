//! [`Combining`]: sources reduce all they have for other ranks before any of it goes there.

use crate::batch;
use crate::dataflow::Dataflow;
use crate::error::{Result, Whose};
use crate::key::Key;
use crate::memory::Memory;
use crate::parts::{Pairs, Parts};
use crate::record::Record;
use aeolian_net::Buf;
use std::rc::Rc;

/// Pairs that are kept back may take so many bytes, or an eighth of the budget.
const MOST: u64 = 64 << 20;
/// With more slots there is no more than a batch for each in that.
const SLOTS: usize = 1 << 10;
/// It pays if what is given is at most one in so many bytes of what was kept back.
const PAYS: u64 = 2;

/// Batches for slots of other ranks, which are not sent but added up here as at a target, until they take too much or their sources end. What is sent then
/// is a pair a key: the more often keys come again, the less.
pub(crate) struct Combining<K: Key, V: Record> {
    memory: Rc<Memory>,
    parts: Parts<K, V>,
    slots: usize,
    most: u64,
    /// Bytes of batches that came since the last time that all was given, and of pairs given.
    kept: u64,
    given: u64,
    /// The same of all times before, in this round.
    before: (u64, u64),
    pays: bool,
    giving: Option<Giving<K, V>>,
}

/// What is being given.
struct Giving<K: Key, V: Record> {
    /// Slots that are left.
    left: std::ops::Range<usize>,
    pairs: Option<(u32, Pairs<K, V>)>,
    /// A pair that there was no room for.
    refused: Option<(K, V)>,
    /// Because they took too much: then it is asked whether it pays.
    is_full: bool,
}

impl<K: Key, V: Record> Combining<K, V> {
    pub(crate) fn new(flow: &Dataflow, whose: Whose, slots: usize) -> Combining<K, V> {
        Combining {
            memory: flow.memory().clone(),
            parts: Parts::in_memory(flow, whose, slots),
            slots,
            most: MOST.min(flow.memory().limit() / 8),
            kept: 0,
            given: 0,
            before: (0, 0),
            pays: slots <= SLOTS,
            giving: None,
        }
    }

    /// In this round: bytes of batches that came, and of pairs that were given.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.before.0 + self.kept, self.before.1 + self.given)
    }

    /// As at the beginning of a round.
    pub(crate) fn open(&mut self) {
        self.before = (0, 0);
        self.pays = self.slots <= SLOTS;
    }

    /// Whether full batches are to come here.
    pub(crate) fn is_on(&self) -> bool {
        self.pays && self.giving.is_none()
    }

    /// Whether something is being given: what is inserted meanwhile has to wait.
    pub(crate) fn is_giving(&self) -> bool {
        self.giving.is_some()
    }

    /// Takes a batch for a slot.
    pub(crate) fn add(&mut self, slot: u32, bytes: Buf, combine: &mut impl FnMut(&mut V, V)) -> Result<()> {
        self.kept += bytes.len() as u64;
        self.parts.add(slot as usize, bytes, combine)?;
        if self.parts.bytes() > self.most || self.memory.is_over() {
            self.begin(true);
        }
        Ok(())
    }

    fn begin(&mut self, is_full: bool) {
        self.giving = Some(Giving { left: 0..self.slots, pairs: None, refused: None, is_full });
    }

    /// Gives all pairs to `put`; false if that has no room, to be called again.
    pub(crate) fn empty(
        &mut self,
        combine: &mut impl FnMut(&mut V, V),
        mut put: impl FnMut(u32, &(K, V)) -> Result<bool>,
    ) -> Result<bool> {
        if self.kept == 0 {
            return Ok(true);
        }
        if self.giving.is_none() {
            self.begin(false);
        }
        while let Some(giving) = &mut self.giving {
            let Some((slot, pairs)) = &mut giving.pairs else {
                match giving.left.next() {
                    Some(slot) => giving.pairs = Some((slot as u32, self.parts.take(slot, combine)?)),
                    None => {
                        // (One that has ended will not come to have more.)
                        self.pays &= !giving.is_full || self.given <= self.kept / PAYS;
                        self.before = self.bytes();
                        (self.kept, self.given, self.giving) = (0, 0, None);
                    }
                }
                continue;
            };
            let next = match giving.refused.take() {
                None => pairs.next(combine)?,
                refused => refused,
            };
            match next {
                None => giving.pairs = None,
                Some(pair) if put(*slot, &pair)? => self.given += batch::size(&pair) as u64,
                refused => {
                    giving.refused = refused;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
