//! [`Exchange`]: an edge for records of one type.

use crate::carrier::{Carrier, Route};
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result};
use crate::filling;
use crate::operator::InsertError;
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::scatter::scatter;
use aeolian_net::{Buf, OpName};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A [`Carrier`], and what puts records into its batches. (All else is there: it is compiled once, not for each type.)
pub(crate) struct Exchange<T> {
    carrier: Carrier,
    records: PhantomData<fn(T)>,
}

impl<T> Deref for Exchange<T> {
    type Target = Carrier;

    #[inline(always)]
    fn deref(&self) -> &Carrier {
        &self.carrier
    }
}

impl<T> DerefMut for Exchange<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Carrier {
        &mut self.carrier
    }
}

impl<T: Record> Exchange<T> {
    /// The edge of an operator.
    pub(crate) fn new(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        route: Route,
    ) -> Result<Exchange<T>> {
        Exchange::numbered(flow, name, flow.number(), "", plan, route)
    }

    /// The same of an operator that may be a stream's.
    pub(crate) fn of_stream(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        route: Route,
    ) -> Result<Exchange<T>> {
        let record = std::any::type_name::<T>();
        let carrier = Carrier::new(flow, name, flow.number(), "", plan, route, record)?;
        Ok(Exchange { carrier, records: PhantomData })
    }

    /// One of several edges of the operator with this number; errors name it by what goes on it.
    pub(crate) fn numbered(
        flow: &Dataflow,
        name: &'static OpName,
        number: u64,
        what: &'static str,
        plan: &LogicalPlan,
        route: Route,
    ) -> Result<Exchange<T>> {
        if flow.streams().is_some() {
            let what =
                format!("{} gives nothing before all sources have finished: it is not for streams", name.0);
            return Err(OpsError::Plan(what));
        }
        let record = std::any::type_name::<T>();
        let carrier = Carrier::new(flow, name, number, what, plan, route, record)?;
        Ok(Exchange { carrier, records: PhantomData })
    }

    /// Takes a record for a slot; false if there is no room now.
    #[inline]
    pub(crate) fn put(&mut self, slot: u32, record: &T) -> Result<bool> {
        match self.put_here(slot, record) {
            true => Ok(true),
            false => self.put_into_another(slot, record),
        }
    }

    /// Takes a record for a slot if the batch that is being filled has room for it.
    #[inline(always)]
    pub(crate) fn put_here(&mut self, slot: u32, record: &T) -> bool {
        self.free.get_mut(slot as usize).is_some_and(|free| free.put(record))
    }

    /// As [`Exchange::put`]; a record that there is no room for comes back. (Only if the batch is full anything is called with the record, and by
    /// value: so it can be in registers until then. One that is written to the stack in parts, and read from there as a whole, waits for that.)
    #[inline(always)]
    pub(crate) fn put_own(&mut self, slot: u32, record: T) -> Result<(), InsertError<T>> {
        match self.put_here(slot, &record) {
            true => Ok(()),
            false => self.put_own_into_another(slot, record),
        }
    }

    #[cold]
    fn put_own_into_another(&mut self, slot: u32, record: T) -> Result<(), InsertError<T>> {
        match self.put_into_another(slot, &record)? {
            true => Ok(()),
            false => Err(InsertError::Full(record)),
        }
    }

    /// Takes records as long as there is certainly room for them in the batches of `slot_of`, and returns the first one for which there may be
    /// none. (If there are few slots and records are of one size: else that is the very first.)
    #[inline]
    pub(crate) fn put_many(
        &mut self,
        records: &mut impl Iterator<Item = T>,
        slot_of: impl FnMut(&T) -> u32,
    ) -> Option<(u32, T)> {
        scatter(&mut self.free, records, slot_of)
    }

    /// As [`Exchange::put`] for the bytes of a record.
    #[inline]
    pub(crate) fn put_bytes(&mut self, slot: u32, record: &[u8]) -> Result<bool> {
        let mut one = Some((slot, record));
        Ok(self.put_all_bytes(|| one.take())?.is_none())
    }

    /// The same for the bytes of all records that `next` gives; returns the first that there is no room for now.
    #[inline]
    pub(crate) fn put_all_bytes<'b>(
        &mut self,
        mut next: impl FnMut() -> Option<(u32, &'b [u8])>,
    ) -> Result<Option<&'b [u8]>> {
        loop {
            let free = &mut self.free[..];
            let (slot, record) = loop {
                let Some((slot, record)) = next() else { return Ok(None) };
                if !free.get_mut(slot as usize).is_some_and(|free| free.put_bytes::<T>(record)) {
                    break (slot, record);
                }
            };
            let begin = |most: usize| {
                let mut bytes = Buf::private(most.max(record.len()));
                bytes[..record.len()].copy_from_slice(record);
                Ok((bytes, record.len()))
            };
            if !self.put_by(slot, begin)? {
                return Ok(Some(record));
            }
        }
    }

    /// There is no batch for this slot, or it is full.
    #[cold]
    fn put_into_another(&mut self, slot: u32, record: &T) -> Result<bool> {
        self.put_by(slot, |most| filling::begin(record, most))
    }

    /// Puts a record into a batch of its own, which `begin` makes of as many bytes.
    fn put_by(
        &mut self,
        slot: u32,
        begin: impl FnOnce(usize) -> Result<(Buf, usize), filling::Unwritable>,
    ) -> Result<bool> {
        if !self.make_room(slot)? {
            return Ok(false);
        }
        let Ok((bytes, filled)) = begin(self.batch_bytes()) else {
            self.do_not_begin();
            return Err(self.whose_edge().unwritable::<T>());
        };
        self.begin(slot, bytes, filled)?;
        Ok(true)
    }
}
