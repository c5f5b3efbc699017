//! [`Stores`]: batches that operators keep until all have come, in parts that can go to disk.

use crate::common::Common;
use crate::error::Result;
use crate::memory::Reservation;
use crate::spill::{Run, RunReader, RunWriter};
use aeolian_net::Buf;

/// Less is not worth a write of its own, or its share of a quarter of the budget.
const LEAST: u64 = 1 << 20;

/// Batches of one part; those on disk came before those in memory.
#[derive(Default)]
struct Store {
    /// (rank that it is from, its batch)
    batches: Vec<(u32, Buf)>,
    bytes: u64,
    run: Option<RunWriter>,
    /// (rank, bytes) of what the blocks of the run are made of.
    pieces: Vec<(u32, usize)>,
}

/// Parts go to disk in *groups* of so many neighbours (the two sides of a join), as wholes: when the budget is used up, one group
/// goes with all that comes for it later.
pub(crate) struct Stores {
    common: Common,
    group: usize,
    /// Bytes in memory at most, also if the budget has more.
    most: u64,
    /// place -> its part
    stores: Vec<Store>,
    room: Reservation,
}

impl Stores {
    /// So many parts, in groups of so many.
    pub(crate) fn new(common: &Common, parts: usize, group: usize) -> Stores {
        Stores {
            room: common.memory.reserve(),
            common: common.clone(),
            group,
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

    /// Makes room for so many bytes by what comes after this group.
    pub(crate) fn make_room_after(&mut self, group: usize, bytes: u64) -> Result<()> {
        for last in (group + 1..self.stores.len() / self.group).rev() {
            if self.common.memory.used().saturating_add(bytes) <= self.common.memory.limit() {
                break;
            }
            if self.held(last) > 0 {
                self.spill_group(last)?;
            }
        }
        Ok(())
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
        let Store { batches, bytes, run, pieces } = std::mem::take(&mut self.stores[place]);
        let run = run.map(RunWriter::finish).transpose()?;
        Ok(Stored { batches, pieces, run, room: self.room.split(bytes) })
    }
}

/// A part that was taken.
pub(crate) struct Stored {
    batches: Vec<(u32, Buf)>,
    pieces: Vec<(u32, usize)>,
    run: Option<Run>,
    /// Of the batches in memory.
    room: Reservation,
}

impl Stored {
    /// Whether some of it is on disk.
    pub(crate) fn is_spilled(&self) -> bool {
        self.run.is_some()
    }

    /// Its batches one after another, those from one rank in their order.
    pub(crate) fn read(self) -> Reading {
        let Stored { batches, pieces, run, room } = self;
        Reading {
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
