//! [`InOrder`]: the records of batches in memory, in order.

use super::radix::{self, Entry};
use super::{Rule, extra};
use crate::batch;
use crate::error::{Result, Whose};
use crate::memory::Reservation;
use crate::record::{Reader, Record, Writer};
use aeolian_net::Buf;
use std::cmp::Ordering;
use std::marker::PhantomData;

/// Where a record is that has not the length of all others.
#[derive(Debug, Clone, Copy)]
struct Place {
    batch: u32,
    from: u32,
    bytes: u64,
}

/// Records of one size are found by their batch (32 bits) and offset in it; others by their number, in `places`.
///
/// (A batch is longer than 4 GiB only if a single record is so.)
pub(crate) struct InOrder<R: Rule> {
    batches: Vec<Buf>,
    entries: Vec<Entry>,
    places: Vec<Place>,
    /// Of records that are their prefix: there is one batch, in which they lie in order.
    is_in_order: bool,
    next: usize,
    /// Of batches and entries; given back when they are gone.
    _room: Reservation,
    rule: PhantomData<R>,
}

/// Bytes of each record in a batch.
const fn width<T: Record>() -> Option<usize> {
    match T::SIZE {
        Some(0) => Some(1),
        size => size,
    }
}

impl<R: Rule> InOrder<R> {
    /// Sorts batches, whose order is that of equal records. `room` has what they take.
    pub(crate) fn new(batches: Vec<Buf>, mut room: Reservation, whose: &Whose) -> Result<InOrder<R>> {
        room.take(extra::<R::Record>(batches.iter().map(|b| b.len() as u64).sum()));
        if let Some(batch) = by_prefix_alone::<R>(&batches) {
            let next = 0;
            let batches = vec![batch.ok_or_else(|| whose.unreadable::<R::Record>("a batch"))?];
            let (entries, places) = (Vec::new(), Vec::new());
            return Ok(InOrder {
                batches,
                entries,
                places,
                is_in_order: true,
                next,
                _room: room,
                rule: PhantomData,
            });
        }
        let mut all = InOrder {
            batches,
            entries: Vec::new(),
            places: Vec::new(),
            is_in_order: false,
            next: 0,
            _room: room,
            rule: PhantomData,
        };
        all.list().ok_or_else(|| whose.unreadable::<R::Record>("a batch"))?;
        let mut other = vec![Entry { prefix: 0, at: 0 }; all.entries.len()];
        radix::sort(&mut all.entries, &mut other);
        drop(other);
        if !R::PREFIX_IS_ALL {
            all.sort_ties().ok_or_else(|| whose.unreadable::<R::Record>("a batch"))?;
        }
        Ok(all)
    }

    /// All records, as they are.
    fn list(&mut self) -> Option<()> {
        if let Some(width) = width::<R::Record>() {
            self.entries.reserve_exact(self.batches.iter().map(|b| b.len() / width).sum());
        }
        for (number, batch) in (0u32..).zip(&self.batches) {
            let mut input = Reader::new(batch);
            match width::<R::Record>() {
                Some(width) => {
                    for (i, mut bytes) in batch.chunks(width).map(Reader::new).enumerate() {
                        let at = u64::from(number) << 32 | (i * width) as u64;
                        let prefix = R::prefix(&R::read(&mut bytes)?);
                        self.entries.push(Entry { prefix, at });
                    }
                }
                None => {
                    while !input.is_empty() {
                        let from = batch.len() - input.rest().len();
                        let prefix = R::prefix(&R::read(&mut input)?);
                        let bytes = (batch.len() - input.rest().len() - from) as u64;
                        self.entries.push(Entry { prefix, at: self.places.len() as u64 });
                        self.places.push(Place { batch: number, from: u32::try_from(from).ok()?, bytes });
                    }
                }
            }
        }
        Some(())
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
        while let Some(first) = self.entries.get(start) {
            let same = self.entries[start + 1..].iter().take_while(|e| e.prefix == first.prefix).count() + 1;
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
        let mut before = view(&self.entries[start])?;
        let mut sorted = true;
        for entry in &self.entries[start + 1..end] {
            let next = view(entry)?;
            sorted = R::order(&before, &next) != Ordering::Greater;
            if !sorted {
                break;
            }
            before = next;
        }
        if !sorted {
            let tie = self.entries[start..end].iter();
            let mut tie: Vec<(R::View, Entry)> = tie.map(|e| Some((view(e)?, *e))).collect::<Option<_>>()?;
            tie.sort_by(|a, b| R::order(&a.0, &b.0));
            for (place, (_, entry)) in self.entries[start..end].iter_mut().zip(tie) {
                *place = entry;
            }
        }
        Some(())
    }

    /// The next record: the number of its batch, and its bytes.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(usize, &[u8])> {
        if self.is_in_order {
            let width = width::<R::Record>()?;
            return Some((0, self.batches.first()?.get(self.next * width..)?.get(..width)?));
        }
        self.entries.get(self.next).map(|entry| self.record(entry.at))
    }

    /// Moves on to the one after it.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.next += 1;
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
        if self.is_in_order {
            let left = self.batches.first().map_or(&[][..], |batch| &batch[self.next * width..]);
            let records = left.len().min(place.len()) / width;
            place[..records * width].copy_from_slice(&left[..records * width]);
            self.next += records;
            return records * width;
        }
        let left = &self.entries[self.next..];
        let records = left.len().min(place.len() / width);
        for (place, entry) in place.chunks_exact_mut(width).zip(left) {
            place.copy_from_slice(self.record(entry.at).1);
        }
        self.next += records;
        records * width
    }
}

/// Of records that are their prefix: one batch of all, in order. They are told apart by nothing else, so they may as well be made anew.
fn by_prefix_alone<R: Rule>(batches: &[Buf]) -> Option<Option<Buf>> {
    let width = width::<R::Record>()?;
    let first = R::read(&mut Reader::new(batches.first()?));
    R::from_prefix(R::prefix(&first?))?;
    let bytes: usize = batches.iter().map(|batch| batch.len()).sum();
    let mut keys = Vec::with_capacity(bytes / width);
    for batch in batches {
        for mut bytes in batch.chunks(width).map(Reader::new) {
            match R::read(&mut bytes) {
                Some(view) => keys.push(R::prefix(&view)),
                None => return Some(None),
            }
        }
    }
    let mut other = vec![0; keys.len()];
    radix::sort(&mut keys, &mut other);
    drop(other);
    let mut sorted = Buf::private(keys.len() * width);
    let mut whole = Some(());
    for (place, key) in sorted.chunks_exact_mut(width).zip(keys) {
        let record = R::from_prefix(key);
        whole = whole.and(record.and_then(|record| batch::put(&record, &mut Writer::new(place, 0))));
    }
    Some(whole.map(|()| sorted))
}
