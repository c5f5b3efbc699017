//! [`Stores`]: batches that operators keep until all have come, in parts that can go to disk.

use crate::batch;
use crate::common::Common;
use crate::error::Result;
use crate::memory::Reservation;
use crate::record::{Reader, Record};
use crate::spill::{Run, RunReader, RunWriter};
use aeolian_net::Buf;

/// Less is not worth a write of its own, or its share of a quarter of the budget.
const LEAST: u64 = 1 << 20;

/// How many records there are in a batch.
pub(crate) type Count = fn(&[u8]) -> u64;

/// For parts of which nobody asks it.
pub(crate) const UNCOUNTED: Count = |_| 0;

/// How many records these bytes are; `None` if they are not. (Of those of one size it is told by the bytes.)
pub(crate) fn count<T: Record>(bytes: &[u8]) -> Option<u64> {
    if let Some(width) = batch::width::<T>() {
        return Some((bytes.len() / width) as u64);
    }
    let mut input = Reader::new(bytes);
    let mut records = 0;
    while !input.is_empty() {
        T::skip(&mut input)?;
        records += 1;
    }
    Some(records)
}

/// The same as a [`Count`]. (Whoever reads what is damaged says so; until then each byte may be a record.)
pub(crate) fn counted<T: Record>(bytes: &[u8]) -> u64 {
    count::<T>(bytes).unwrap_or(bytes.len() as u64)
}

/// Batches of one part; those on disk came before those in memory.
#[derive(Default)]
struct Store {
    /// (rank that it is from, its batch)
    batches: Vec<(u32, Buf)>,
    bytes: u64,
    /// Of these and on disk.
    records: u64,
    run: Option<RunWriter>,
    /// (rank, bytes) of what the blocks of the run are made of.
    pieces: Vec<(u32, usize)>,
}

/// Parts go to disk in *groups* of so many neighbours (the two sides of a join), as wholes: when the budget is used up, one group
/// goes with all that comes for it later.
pub(crate) struct Stores {
    common: Common,
    group: usize,
    /// Of each of a group.
    counts: Vec<Count>,
    /// Bytes in memory at most, also if the budget has more.
    most: u64,
    /// place -> its part
    stores: Vec<Store>,
    room: Reservation,
}

impl Stores {
    /// So many parts, in groups of as many as there are counts, of the records of each.
    pub(crate) fn new(common: &Common, parts: usize, counts: &[Count]) -> Stores {
        Stores {
            room: common.memory.reserve(),
            common: common.clone(),
            group: counts.len(),
            counts: counts.to_vec(),
            most: u64::MAX,
            stores: (0..parts).map(|_| Store::default()).collect(),
        }
    }

    /// With no more than this part of the budget in memory: others will want the rest.
    pub(crate) fn within(mut self, part: u64) -> Stores {
        self.most = self.common.memory.limit() / part;
        self
    }

    /// A batch of a part, from a rank.
    pub(crate) fn add(&mut self, place: usize, from: u32, batch: Buf) -> Result<()> {
        let bytes = batch.len() as u64;
        let store = &mut self.stores[place];
        store.records += self.counts[place % self.group](&batch);
        store.batches.push((from, batch));
        store.bytes += bytes;
        self.room.take(bytes);
        while (self.common.memory.is_over() || self.room.bytes() > self.most) && self.spill_some()? {}
        Ok(())
    }

    /// Bytes in memory of a group.
    fn held(&self, group: usize) -> u64 {
        self.stores[group * self.group..][..self.group].iter().map(|store| store.bytes).sum()
    }

    fn is_group_spilled(&self, group: usize) -> bool {
        self.stores[group * self.group..][..self.group].iter().any(|store| store.run.is_some())
    }

    /// What is on disk stays few: first what has come for those that are there already, then the last group that is not (those before
    /// it are wanted sooner). False if that is too little to help.
    fn spill_some(&mut self) -> Result<bool> {
        let groups = self.stores.len() / self.group;
        let least = LEAST.min(self.common.memory.limit() / 4 / groups.max(1) as u64).max(1);
        let worth = |group: &usize| self.held(*group) >= least;
        let there = (0..groups).filter(|g| self.is_group_spilled(*g)).filter(worth);
        let group = match there.max_by_key(|group| self.held(*group)) {
            Some(group) => group,
            None => match (0..groups).rev().find(worth) {
                Some(group) => group,
                None => return Ok(false),
            },
        };
        self.spill_group(group)?;
        Ok(true)
    }

    fn spill_group(&mut self, group: usize) -> Result<()> {
        for place in group * self.group..(group + 1) * self.group {
            let store = &mut self.stores[place];
            let run = store.run.get_or_insert_with(|| self.common.spill.run());
            store.pieces.extend(store.batches.iter().map(|(from, batch)| (*from, batch.len())));
            run.write_together(store.batches.drain(..).map(|(_, batch)| batch), self.common.block_bytes)?;
            self.room.shrink(std::mem::take(&mut store.bytes));
        }
        Ok(())
    }

    /// Makes room for so many bytes by what is in memory of these groups, the first of them first.
    pub(crate) fn make_room(&mut self, bytes: u64, groups: impl Iterator<Item = usize>) -> Result<()> {
        for group in groups {
            if self.common.memory.free() >= bytes {
                break;
            }
            if self.held(group) > 0 {
                self.spill_group(group)?;
            }
        }
        Ok(())
    }

    /// The same for what is on disk of a part, and so many bytes beside it.
    pub(crate) fn make_room_for(
        &mut self,
        place: usize,
        beside: u64,
        groups: impl Iterator<Item = usize>,
    ) -> Result<()> {
        let on_disk = self.stores[place].run.as_ref().map_or(0, RunWriter::bytes);
        self.make_room(on_disk.saturating_add(beside), groups)
    }

    /// Bytes of all parts that are in memory.
    pub(crate) fn in_memory(&self) -> u64 {
        self.room.bytes()
    }

    /// Records of a part.
    pub(crate) fn records(&self, place: usize) -> u64 {
        self.stores[place].records
    }

    /// Bytes of a part.
    pub(crate) fn bytes(&self, place: usize) -> u64 {
        let store = &self.stores[place];
        store.bytes + store.run.as_ref().map_or(0, RunWriter::bytes)
    }

    /// Whether some of a part is on disk.
    pub(crate) fn is_spilled(&self, place: usize) -> bool {
        self.stores[place].run.is_some()
    }

    /// All of a part; nothing is left there.
    pub(crate) fn take(&mut self, place: usize) -> Result<Stored> {
        let Store { batches, bytes, records, run, pieces } = std::mem::take(&mut self.stores[place]);
        let run = run.map(RunWriter::finish).transpose()?;
        Ok(Stored { batches, records, pieces, run, room: self.room.split(bytes) })
    }
}

/// A part that was taken.
pub(crate) struct Stored {
    batches: Vec<(u32, Buf)>,
    records: u64,
    pieces: Vec<(u32, usize)>,
    run: Option<Run>,
    /// Of the batches in memory.
    room: Reservation,
}

impl Stored {
    /// Bytes of it that are in memory.
    pub(crate) fn in_memory(&self) -> u64 {
        self.room.bytes()
    }

    /// Its batches one after another, those from one rank in their order.
    pub(crate) fn read(self) -> Reading {
        let Stored { batches, records, pieces, run, room } = self;
        Reading {
            records,
            blocks: run.map(Run::read),
            block: (Buf::empty(), 0),
            pieces: pieces.into_iter(),
            batches: batches.into_iter(),
            room,
        }
    }
}

/// The batches of a part, one after another.
pub(crate) struct Reading {
    /// Of all, also of those that were read.
    pub(crate) records: u64,
    blocks: Option<RunReader>,
    /// The block that is read, and how much of it was.
    block: (Buf, usize),
    pieces: std::vec::IntoIter<(u32, usize)>,
    batches: std::vec::IntoIter<(u32, Buf)>,
    room: Reservation,
}

impl Reading {
    /// The next one, and the rank that it is from. Whoever keeps it takes room for it.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Buf)>> {
        while let Some(blocks) = &mut self.blocks {
            let (block, at) = &mut self.block;
            if *at < block.len()
                && let Some((from, bytes)) = self.pieces.next()
            {
                let whole = *at == 0 && bytes == block.len();
                let piece =
                    if whole { std::mem::take(block) } else { Buf::from_slice(&block[*at..*at + bytes]) };
                *at += bytes;
                return Ok(Some((from, piece)));
            }
            match blocks.next()? {
                Some(next) => self.block = (next, 0),
                None => self.blocks = None,
            }
        }
        let next = self.batches.next();
        self.room.shrink(next.as_ref().map_or(0, |(_, batch)| batch.len() as u64));
        Ok(next)
    }
}
