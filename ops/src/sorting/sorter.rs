//! [`Sorter`]: records of any number in order, by runs on disk where they are too many for the budget.

use super::memory::InOrder;
use super::merge::{Merge, ORIGIN};
use super::{Rule, extra};
use crate::common::Common;
use crate::error::Result;
use crate::memory::Reservation;
use crate::spill::{Run, RunWriter};
use crate::stores::{Stored, count};
use aeolian_net::Buf;
use std::marker::PhantomData;

/// No less is worth a run of its own, unless it takes a quarter of the budget.
const LEAST: u64 = 256 << 10;
/// Blocks of runs are no shorter, however little memory there is.
const BLOCK: u64 = 32 << 10;
/// So many runs at least are merged at a time.
const FEW: usize = 4;

/// Bytes of a block of a run: so that a hundred runs can be merged at a time.
pub(crate) fn run_block(common: &Common) -> usize {
    let most = common.block_bytes as u64;
    (common.memory.limit() / 128).clamp(BLOCK.min(most), most) as usize
}

pub(crate) struct Sorter<R: Rule> {
    common: Common,
    /// (rank that it is from, its batch), in the order in which they came
    batches: Vec<(u32, Buf)>,
    bytes: u64,
    records: u64,
    runs: Vec<Run>,
    may_spill: bool,
    /// Of batches, and what it takes to sort them.
    room: Reservation,
    rule: PhantomData<R>,
}

impl<R: Rule> Sorter<R> {
    pub(crate) fn new(common: Common) -> Sorter<R> {
        let room = common.memory.reserve();
        Sorter {
            common,
            batches: Vec::new(),
            bytes: 0,
            records: 0,
            runs: Vec::new(),
            may_spill: true,
            room,
            rule: PhantomData,
        }
    }

    /// The same, which stays in memory: whoever has it sees to it that it does not take too much.
    pub(crate) fn in_memory(common: Common) -> Sorter<R> {
        Sorter { may_spill: false, ..Sorter::new(common) }
    }

    /// A batch from a rank.
    pub(crate) fn add(&mut self, from: u32, batch: Buf) -> Result<()> {
        let bytes = batch.len() as u64;
        let records = count::<R::Record>(&batch);
        let records = records.ok_or_else(|| self.common.whose.unreadable::<R::Record>("a batch"))?;
        self.room.take(bytes + extra::<R::Record>(records));
        self.bytes += bytes;
        self.records += records;
        self.batches.push((from, batch));
        let memory = &self.common.memory;
        if self.may_spill
            && memory.is_over()
            && (self.bytes >= LEAST || self.room.bytes() >= memory.limit() / 4)
        {
            self.spill()?;
        }
        Ok(())
    }

    /// Bytes that it takes in memory.
    pub(crate) fn held(&self) -> u64 {
        self.room.bytes()
    }

    /// All that is in memory, sorted; and the rank that each batch is from.
    fn sort(&mut self) -> Result<(InOrder<R>, Vec<u32>)> {
        let mut batches = std::mem::take(&mut self.batches);
        batches.sort_by_key(|(from, _)| *from);
        let (from, batches): (Vec<u32>, Vec<Buf>) = batches.into_iter().unzip();
        let room = self.room.split(u64::MAX);
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        Ok((InOrder::new(batches, records, room, &self.common.whose)?, from))
    }

    /// Writes what is in memory as a run.
    pub(crate) fn spill(&mut self) -> Result<()> {
        let (mut sorted, from) = self.sort()?;
        let mut out = RunOf::new(&self.common);
        while let Some((batch, bytes)) = sorted.peek() {
            out.put(from[batch], bytes)?;
            sorted.advance();
        }
        self.runs.extend(out.finish()?);
        Ok(())
    }

    /// All records in order.
    pub(crate) fn finish(mut self) -> Result<Sorted<R>> {
        if self.runs.is_empty() {
            return Ok(Sorted::Memory(self.sort()?.0));
        }
        if !self.batches.is_empty() {
            self.spill()?;
        }
        let Common { memory, whose, .. } = &self.common;
        let block = run_block(&self.common);
        let most = usize::try_from(memory.free() / 2 / block as u64).unwrap_or(usize::MAX).max(FEW);
        let mut runs = std::mem::take(&mut self.runs);
        let room = |runs: usize| {
            let mut room = memory.reserve();
            room.take((runs * block) as u64);
            room
        };
        while runs.len() > most {
            // Neighbours: so what came first from a rank stays first.
            let mut fewer = Vec::with_capacity(runs.len().div_ceil(most));
            let mut left = runs.into_iter();
            loop {
                let some: Vec<Run> = left.by_ref().take(most).collect();
                match some.len() {
                    0 => break,
                    1 => fewer.extend(some),
                    n => {
                        let mut merge = Merge::<R>::new(some, room(n), whose)?;
                        let mut out = RunOf::new(&self.common);
                        while let Some((from, bytes)) = merge.peek() {
                            out.put(from, bytes)?;
                            merge.advance()?;
                        }
                        fewer.extend(out.finish()?);
                    }
                }
            }
            runs = fewer;
        }
        let room = room(runs.len());
        Ok(Sorted::Merge(Merge::new(runs, room, whose)?))
    }
}

/// A sorted run that is being written.
struct RunOf<'a> {
    common: &'a Common,
    run: Option<RunWriter>,
    block: Buf,
    filled: usize,
}

impl<'a> RunOf<'a> {
    fn new(common: &'a Common) -> RunOf<'a> {
        RunOf { common, run: None, block: Buf::empty(), filled: 0 }
    }

    fn put(&mut self, from: u32, bytes: &[u8]) -> Result<()> {
        let wants = ORIGIN + bytes.len();
        if self.filled + wants > self.block.len() {
            self.write()?;
            self.block = Buf::private(run_block(self.common).max(wants));
        }
        let place = &mut self.block[self.filled..][..wants];
        place[..ORIGIN].copy_from_slice(&from.to_ne_bytes());
        place[ORIGIN..].copy_from_slice(bytes);
        self.filled += wants;
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let mut block = std::mem::take(&mut self.block);
        block.truncate(std::mem::take(&mut self.filled));
        if !block.is_empty() {
            self.run.get_or_insert_with(|| self.common.spill.run()).write(block)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Option<Run>> {
        self.write()?;
        Ok(self.run.map(RunWriter::finish).transpose()?)
    }
}

/// Records in order.
pub(crate) enum Sorted<R: Rule> {
    Memory(InOrder<R>),
    Merge(Merge<R>),
}

impl<R: Rule> Sorted<R> {
    /// All of a part.
    pub(crate) fn of(common: &Common, stored: Stored) -> Result<Sorted<R>> {
        let mut sorter = Sorter::new(common.clone());
        let mut reading = stored.read();
        while let Some((from, batch)) = reading.next()? {
            sorter.add(from, batch)?;
        }
        sorter.finish()
    }

    /// The bytes of the next record.
    #[inline]
    pub(crate) fn peek(&self) -> Option<&[u8]> {
        match self {
            Sorted::Memory(sorted) => sorted.peek().map(|(_, bytes)| bytes),
            Sorted::Merge(merge) => merge.peek().map(|(_, bytes)| bytes),
        }
    }

    /// Moves on to the one after it.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        match self {
            Sorted::Memory(sorted) => sorted.advance(),
            Sorted::Merge(merge) => merge.advance()?,
        }
        Ok(())
    }

    /// The next records, of `most` bytes or one that is longer.
    pub(crate) fn batch(&mut self, most: usize) -> Result<Option<Buf>> {
        let Some(first) = self.peek() else { return Ok(None) };
        let mut batch = Buf::private(most.max(first.len()));
        let filled = match self {
            Sorted::Memory(sorted) => sorted.fill(&mut batch),
            Sorted::Merge(merge) => merge.fill(&mut batch)?,
        };
        batch.truncate(filled);
        Ok(Some(batch))
    }
}
