//! [`InOrder`]: the records of batches in memory, in order.

use super::Rule;
use super::radix::{self, Entry};
use crate::batch::{self, width};
use crate::error::{Result, Whose};
use crate::memory::Reservation;
use crate::record::{Reader, Writer};
use aeolian_net::Buf;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::marker::PhantomData;

/// Where a record is that has not the length of all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    batch: u32,
    from: u32,
    bytes: u64,
}

/// Records of one size are found by their batch (32 bits) and offset in it; others by their number, in `places`.
///
/// (A batch is longer than 4 GiB only if a single record is so.)
pub(crate) struct InOrder<R: Rule> {
    batches: Vec<Buf>,
    /// Entries, in order.
    entries: Buf,
    places: Vec<Place>,
    /// Of records that are their prefix: only these, in order; and the bytes of the next record.
    prefixes: Buf,
    one: [u8; 8],
    next: usize,
    /// Of batches and entries; given back when they are gone.
    room: Reservation,
    rule: PhantomData<R>,
}

/// What a record takes that was read, beside its bytes and itself: of the allocator.
const VIEW: usize = 32;
/// Records of the same prefix are sorted in pieces that take no less, however little memory there is.
const PIECE: u64 = 64 << 10;

/// The next record of a sorted piece of those with the same prefix.
struct Head<R: Rule> {
    view: R::View,
    entry: Entry,
    /// The ones after it.
    next: usize,
    end: usize,
}

impl<R: Rule> Ord for Head<R> {
    /// The least comes first from a heap whose largest does; of equal ones, the one that came first.
    fn cmp(&self, other: &Head<R>) -> Ordering {
        R::order(&other.view, &self.view).then(other.next.cmp(&self.next))
    }
}

impl<R: Rule> PartialOrd for Head<R> {
    fn partial_cmp(&self, other: &Head<R>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Rule> PartialEq for Head<R> {
    fn eq(&self, other: &Head<R>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<R: Rule> Eq for Head<R> {}

impl<R: Rule> InOrder<R> {
    /// Sorts batches of so many records, whose order is that of equal ones. `room` has what they take, and what sorting them does.
    pub(crate) fn new(
        batches: Vec<Buf>,
        records: u64,
        room: Reservation,
        whose: &Whose,
    ) -> Result<InOrder<R>> {
        let mut all = InOrder {
            batches,
            entries: Buf::empty(),
            places: Vec::new(),
            prefixes: Buf::empty(),
            one: [0; 8],
            next: 0,
            room,
            rule: PhantomData,
        };
        let damaged = || whose.unreadable::<R::Record>("a batch");
        if all.are_their_prefix() {
            all.prefixes = sorted::<u64>(all.prefixes().ok_or_else(damaged)?);
            // They are told apart by nothing else, so they may as well be made anew.
            all.batches.clear();
            all.make_one();
            all.room.shrink(all.room.bytes().saturating_sub(all.prefixes.len() as u64));
            return Ok(all);
        }
        let records = usize::try_from(records).map_err(|_| damaged())?;
        all.entries = sorted::<Entry>(all.list(records).ok_or_else(damaged)?);
        if !R::PREFIX_IS_ALL {
            all.sort_ties().ok_or_else(damaged)?;
        }
        // The other table is not needed any longer.
        all.room.shrink(all.entries.len() as u64);
        Ok(all)
    }

    /// Whether a record is nothing but its prefix.
    fn are_their_prefix(&self) -> bool {
        let first = self.batches.first().and_then(|batch| R::read(&mut Reader::new(batch)));
        width::<R::Record>().is_some_and(|width| width <= 8)
            && first.is_some_and(|first| R::from_prefix(R::prefix(&first)).is_some())
    }

    /// How many records of this size there are, if batches are nothing else.
    fn records(&self, width: usize) -> Option<usize> {
        self.batches.iter().map(|batch| (batch.len() % width == 0).then_some(batch.len() / width)).sum()
    }

    /// The prefixes of all records.
    fn prefixes(&self) -> Option<Buf> {
        let width = width::<R::Record>()?;
        let records = self.records(width)?;
        let mut prefixes = Buf::private(records * size_of::<u64>());
        let mut place = prefixes.cast_mut::<u64>().iter_mut();
        for batch in &self.batches {
            for (mut bytes, place) in batch.chunks_exact(width).map(Reader::new).zip(&mut place) {
                *place = R::prefix(&R::read(&mut bytes)?);
            }
        }
        Some(prefixes)
    }

    /// Entries of all records, as they are; of those that have not one size, there are so many.
    fn list(&mut self, records: usize) -> Option<Buf> {
        let Some(width) = width::<R::Record>() else {
            let mut entries = Buf::private(records * size_of::<Entry>());
            let mut place = entries.cast_mut::<Entry>().iter_mut();
            self.places.reserve_exact(records);
            for (number, batch) in (0u32..).zip(&self.batches) {
                let mut input = Reader::new(batch);
                while !input.is_empty() {
                    let from = batch.len() - input.rest().len();
                    let prefix = R::prefix(&R::read(&mut input)?);
                    let bytes = (batch.len() - input.rest().len() - from) as u64;
                    *place.next()? = Entry { prefix, at: self.places.len() as u64 };
                    self.places.push(Place { batch: number, from: u32::try_from(from).ok()?, bytes });
                }
            }
            return (self.places.len() == records).then_some(entries);
        };
        let records = self.records(width)?;
        let mut entries = Buf::private(records * size_of::<Entry>());
        let mut place = entries.cast_mut::<Entry>().iter_mut();
        for (number, batch) in (0u64..).zip(&self.batches) {
            for ((i, mut bytes), place) in
                batch.chunks_exact(width).map(Reader::new).enumerate().zip(&mut place)
            {
                let prefix = R::prefix(&R::read(&mut bytes)?);
                *place = Entry { prefix, at: number << 32 | (i * width) as u64 };
            }
        }
        Some(entries)
    }

    fn entries(&self) -> &[Entry] {
        self.entries.cast()
    }

    /// A record: its batch and its bytes.
    #[inline]
    fn record(&self, at: u64) -> (usize, &[u8]) {
        match width::<R::Record>() {
            Some(width) => {
                let batch = (at >> 32) as usize;
                (batch, &self.batches[batch][at as u32 as usize..][..width])
            }
            None => {
                let Place { batch, from, bytes } = self.places[at as usize];
                (batch as usize, &self.batches[batch as usize][from as usize..][..bytes as usize])
            }
        }
    }

    /// Sorts those with the same prefix.
    fn sort_ties(&mut self) -> Option<()> {
        let mut start = 0;
        while let Some(first) = self.entries().get(start) {
            let same =
                self.entries()[start + 1..].iter().take_while(|e| e.prefix == first.prefix).count() + 1;
            if same > 1 {
                self.sort_tie(start, start + same)?;
            }
            start += same;
        }
        Some(())
    }

    fn sort_tie(&mut self, start: usize, end: usize) -> Option<()> {
        let view = |entry: &Entry| R::read(&mut Reader::new(self.record(entry.at).1));
        // Most often all are the same.
        let tie = &self.entries()[start..end];
        let mut before = view(&tie[0])?;
        let mut sorted = true;
        for entry in &tie[1..] {
            let next = view(entry)?;
            sorted = R::order(&before, &next) != Ordering::Greater;
            if !sorted {
                break;
            }
            before = next;
        }
        if !sorted {
            let mut pieces = Vec::new();
            let mut next = start;
            while next < end {
                let from = next;
                next = self.sort_piece(from, end)?;
                pieces.push((from, next));
            }
            if pieces.len() > 1 {
                self.merge_pieces(&pieces)?;
            }
        }
        Some(())
    }

    /// Sorts as many of these, which have the same prefix, as there is memory for when they are read; returns where they end.
    fn sort_piece(&mut self, start: usize, end: usize) -> Option<usize> {
        let memory = self.room.memory();
        let most = memory.free().max(memory.limit() / 16).max(PIECE);
        let mut takes = 0;
        let mut piece: Vec<(R::View, Entry)> = Vec::new();
        for entry in &self.entries()[start..end] {
            let (_, bytes) = self.record(entry.at);
            // (The list grows by doubling, and sorting takes another one.)
            takes += (3 * size_of::<(R::View, Entry)>() + bytes.len() + VIEW) as u64;
            if takes > most && !piece.is_empty() {
                break;
            }
            piece.push((R::read(&mut Reader::new(bytes))?, *entry));
        }
        self.room.take(takes);
        piece.sort_by(|a, b| R::order(&a.0, &b.0));
        let sorted = start + piece.len();
        for (place, (_, entry)) in self.entries.cast_mut::<Entry>()[start..].iter_mut().zip(piece) {
            *place = entry;
        }
        self.room.shrink(takes);
        Some(sorted)
    }

    /// Makes neighbours that are sorted one. (What is made takes the place of the other table.)
    fn merge_pieces(&mut self, pieces: &[(usize, usize)]) -> Option<()> {
        let head = |(next, end): (usize, usize)| {
            let entry = self.entries()[next];
            let view = R::read(&mut Reader::new(self.record(entry.at).1))?;
            Some(Head::<R> { view, entry, next: next + 1, end })
        };
        let mut heads = pieces.iter().map(|piece| head(*piece)).collect::<Option<BinaryHeap<_>>>()?;
        let (start, end) = (pieces.first()?.0, pieces.last()?.1);
        let mut merged = Buf::private((end - start) * size_of::<Entry>());
        for place in merged.cast_mut::<Entry>() {
            let mut least = heads.peek_mut()?;
            *place = least.entry;
            if least.next < least.end {
                *least = head((least.next, least.end))?;
            } else {
                PeekMut::pop(least);
            }
        }
        self.entries.cast_mut::<Entry>()[start..end].copy_from_slice(merged.cast());
        Some(())
    }

    /// Of records that are their prefix: makes the next one.
    fn make_one(&mut self) {
        if let Some(prefix) = self.prefixes.cast::<u64>().get(self.next) {
            make::<R>(*prefix, &mut self.one);
        }
    }

    /// The next record: the number of its batch, and its bytes.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(usize, &[u8])> {
        if !self.prefixes.is_empty() {
            let is_left = self.next < self.prefixes.len() / size_of::<u64>();
            return is_left.then(|| Some((0, self.one.get(..width::<R::Record>()?)?))).flatten();
        }
        self.entries().get(self.next).map(|entry| self.record(entry.at))
    }

    /// Moves on to the one after it.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.next += 1;
        if !self.prefixes.is_empty() {
            self.make_one();
        }
    }

    /// Fills this with the next records, as far as it has room; returns how far.
    pub(crate) fn fill(&mut self, place: &mut [u8]) -> usize {
        let Some(width) = width::<R::Record>() else {
            let mut filled = 0;
            while let Some((_, bytes)) = self.peek()
                && let Some(place) = place.get_mut(filled..filled + bytes.len())
            {
                place.copy_from_slice(bytes);
                filled += bytes.len();
                self.advance();
            }
            return filled;
        };
        let records;
        if !self.prefixes.is_empty() {
            let left = &self.prefixes.cast::<u64>()[self.next..];
            records = left.len().min(place.len() / width);
            for (place, prefix) in place.chunks_exact_mut(width).zip(left) {
                make::<R>(*prefix, place);
            }
            self.next += records;
            self.make_one();
        } else {
            let left = &self.entries()[self.next..];
            records = left.len().min(place.len() / width);
            for (place, entry) in place.chunks_exact_mut(width).zip(left) {
                place.copy_from_slice(self.record(entry.at).1);
            }
            self.next += records;
        }
        records * width
    }
}

/// The record with this prefix.
#[inline]
fn make<R: Rule>(prefix: u64, place: &mut [u8]) {
    // (A prefix of a record makes one again, which has its width.)
    if let Some(record) = R::from_prefix(prefix) {
        let _ = batch::put(&record, &mut Writer::new(place, 0));
    }
}

/// Sorts what is in this buffer.
fn sorted<I: radix::Item + bytemuck::Pod>(mut items: Buf) -> Buf {
    let mut other = Buf::private(items.len());
    match radix::sort(items.cast_mut::<I>(), other.cast_mut::<I>()) {
        true => other,
        false => items,
    }
}
