//! [`SmallSide`]: the right side of a join, which may turn out small enough to go to all targets.
//!
//! Then left rows need not move at all, and a key that most of them have is no burden to one target. How large a side is, nobody knows before
//! it is there: so each rank keeps its right rows until they are too many, or all of its sources have finished the side, and tells one rank,
//! which tells all what is to be done. Left rows that come earlier go by hash: where the right ones are everywhere, that is as good.

use crate::batch::Batch;
use crate::carrier::{Incoming, Marks, Route};
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::filling::Filling;
use crate::key::Key;
use crate::memory::Reservation;
use crate::plan::LogicalPlan;
use crate::record::{Reader, Record};
use crate::sorting::by::read_key;
use aeolian_net::{Buf, OpName};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Right rows that go to all are no more bytes than this, all ranks' together,
const MOST: u64 = 8 << 20;
/// and no more than this part of the budget.
const SHARE: u64 = 16;

/// Where the right side goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nobody knows yet.
    Open,
    ByHash,
    ToAll,
}

pub(crate) struct SmallSide<K, R> {
    pub(crate) way: Way,
    /// Whether it was decided before anything came.
    is_given: bool,
    most: u64,
    /// (bytes, whether they are too many) of each rank, to the one that decides.
    votes: Exchange<(u64, bool)>,
    /// Whether it goes to all.
    decision: Exchange<bool>,
    /// Rows that go to all.
    pub(crate) all: Exchange<(K, R)>,
    /// The number of this rank among those with sources, if it is one.
    source: Option<u32>,
    is_root: bool,
    /// At the root: votes that have come, their bytes, and whether one was too many.
    came: (usize, u64, bool),
    voters: usize,
    /// Rows that are kept until it is decided.
    filling: Filling,
    kept: VecDeque<Buf>,
    bytes: u64,
    room: Reservation,
    has_voted: bool,
    /// Somebody waits for what is kept: it goes by hash.
    is_hurried: bool,
    at: usize,
    damaged: Rc<Cell<bool>>,
}

impl<K: Key, R: Record> SmallSide<K, R> {
    /// On the tasks of `plan`; `way` if it is decided already.
    pub(crate) fn new(
        flow: &Dataflow,
        name: &'static OpName,
        number: u64,
        plan: &LogicalPlan,
        way: Way,
    ) -> Result<SmallSide<K, R>> {
        let world = flow.world();
        let ranks = plan.source_ranks();
        let roots: Vec<u32> = ranks.first().copied().into_iter().collect();
        let none = LogicalPlan::new(world, 0, 0);
        let to_root = none.clone().sources_on(&ranks)?.targets_on(&roots)?;
        let from_root = none.sources_on(&roots)?.targets_on(&ranks)?;
        let mut side = SmallSide {
            way,
            is_given: way != Way::Open,
            most: MOST.min(flow.memory().limit() / SHARE),
            votes: Exchange::numbered(flow, name, number, "sizes", &to_root, Route::ToOne { parts: 1 })?,
            decision: Exchange::numbered(flow, name, number, "decision", &from_root, Route::ToAll)?,
            all: Exchange::numbered(flow, name, number, "small side", plan, Route::ToAll)?,
            source: ranks.iter().position(|rank| *rank == world.rank()).map(|at| at as u32),
            is_root: roots.contains(&world.rank()),
            came: (0, 0, false),
            voters: ranks.len(),
            filling: Filling::new(flow.batch_bytes(1)),
            kept: VecDeque::new(),
            bytes: 0,
            room: flow.memory().reserve(),
            has_voted: false,
            is_hurried: false,
            at: 0,
            damaged: Rc::default(),
        };
        side.begin()?;
        Ok(side)
    }

    /// As at the beginning of a round.
    fn begin(&mut self) -> Result<()> {
        self.came = (0, 0, false);
        self.has_voted = false;
        self.is_hurried = false;
        if self.is_given {
            // Nothing is to be voted for.
            if let Some(source) = self.source {
                self.votes.finish(source)?;
            }
            if self.is_root {
                self.decision.finish(0)?;
            }
            self.has_voted = true;
        } else {
            self.way = Way::Open;
        }
        Ok(())
    }

    pub(crate) fn another_round(&mut self) -> Result<()> {
        self.votes.another_round();
        self.decision.another_round();
        self.all.another_round();
        self.begin()
    }

    /// Keeps a row while nothing is decided.
    pub(crate) fn keep(&mut self, row: &(K, R)) -> Result<()> {
        let full = self.filling.put(row).map_err(|_| self.all.whose().unwritable::<(K, R)>())?;
        full.into_iter().for_each(|full| self.push(full));
        Ok(())
    }

    fn push(&mut self, full: Buf) {
        self.bytes += full.len() as u64;
        self.room.take(full.len() as u64);
        self.kept.push_back(full);
    }

    /// A barrier is not to wait until all ranks have finished this side: it is not kept any longer.
    pub(crate) fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Tells what this rank has, when it `is_whole` or too much.
    fn vote(&mut self, is_whole: bool) -> Result<bool> {
        let Some(source) = self.source.filter(|_| !self.has_voted) else { return Ok(false) };
        if is_whole && let Some(rest) = self.filling.finish() {
            self.push(rest);
        }
        let is_too_much = self.bytes > self.most || self.is_hurried;
        if !(is_whole || is_too_much) || !self.votes.put(0, &(self.bytes, is_too_much))? {
            return Ok(false);
        }
        self.votes.finish(source)?;
        self.has_voted = true;
        Ok(true)
    }

    /// Moves votes and decision on. `is_whole`: this rank's sources have finished the side.
    pub(crate) fn progress(&mut self, is_whole: bool) -> Result<bool> {
        let mut moved = self.vote(is_whole)?;
        moved |= self.votes.progress()?;
        while let Some(incoming) = self.votes.receive()? {
            moved = true;
            if let Incoming::Batch { bytes, .. } = incoming {
                for (bytes, is_too_much) in Batch::<(u64, bool)>::new(bytes, self.damaged.clone()) {
                    let (votes, sum, too_much) = self.came;
                    self.came = (votes + 1, sum.saturating_add(bytes), too_much | is_too_much);
                }
            }
        }
        let (votes, sum, is_too_much) = self.came;
        if self.is_root && !self.decision.have_finished() && (votes == self.voters || is_too_much) {
            let to_all = !is_too_much && sum <= self.most;
            if self.decision.put(0, &to_all)? {
                self.decision.finish(0)?;
                moved = true;
            }
        }
        moved |= self.decision.progress()?;
        while let Some(incoming) = self.decision.receive()? {
            moved = true;
            if let Incoming::ForAll(bytes) = incoming
                && let Some(to_all) = Batch::<bool>::new(bytes, self.damaged.clone()).next()
            {
                self.way = if to_all { Way::ToAll } else { Way::ByHash };
            }
        }
        match self.damaged.get() {
            true => Err(self.all.whose().unreadable::<bool>("a batch")),
            false => Ok(moved),
        }
    }

    /// Sends what was kept, once it is decided where; true if nothing is left. `by_hash` gives the slot of a row, on that edge.
    pub(crate) fn send(&mut self, by_hash: &mut Exchange<(K, R)>, slot: impl Fn(&K) -> u32) -> Result<bool> {
        if self.way == Way::Open {
            return Ok(false);
        }
        if let Some(rest) = self.filling.finish() {
            self.push(rest);
        }
        while let Some(batch) = self.kept.front() {
            let whose = self.all.whose();
            while self.at < batch.len() {
                let rest = &batch[self.at..];
                let mut input = Reader::new(rest);
                let key =
                    read_key::<K, R>(&mut input).ok_or_else(|| whose.unreadable::<(K, R)>("a batch"))?;
                let row = &rest[..rest.len() - input.rest().len()];
                let taken = match self.way {
                    Way::ToAll => self.all.put_bytes(0, row)?,
                    _ => by_hash.put_bytes(slot(&key), row)?,
                };
                if !taken {
                    return Ok(false);
                }
                self.at += row.len();
            }
            self.room.shrink(batch.len() as u64);
            self.bytes -= batch.len() as u64;
            self.kept.pop_front();
            self.at = 0;
        }
        Ok(true)
    }

    /// Whether there is room to keep more.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes <= self.most.saturating_mul(2)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.votes.is_over() && self.decision.is_over() && self.all.is_over()
    }
}

/// What has come for all targets of this rank, cut into their parts.
pub(crate) struct Spread {
    /// part -> what is being filled for it
    parts: Vec<Filling>,
}

impl Spread {
    pub(crate) fn new(parts: u32, bytes: usize) -> Spread {
        Spread { parts: (0..parts).map(|_| Filling::new(bytes)).collect() }
    }

    /// Cuts a batch; what is full goes to `add`, with its part.
    pub(crate) fn cut<K: Key, R: Record>(
        &mut self,
        batch: Batch<(K, R)>,
        part: impl Fn(&K) -> u32,
        mut add: impl FnMut(u32, Buf) -> Result<()>,
    ) -> Result<()> {
        for row in batch {
            let part = part(&row.0);
            // (It was written before.)
            if let Ok(Some(full)) = self.parts[part as usize].put(&row) {
                add(part, full)?;
            }
        }
        Ok(())
    }

    /// What is left of all.
    pub(crate) fn finish(&mut self, mut add: impl FnMut(u32, Buf) -> Result<()>) -> Result<()> {
        for (part, filling) in (0..).zip(&mut self.parts) {
            filling.finish().map(|rest| add(part, rest)).transpose()?;
        }
        Ok(())
    }
}

/// The marks that the edges of a join have heard: a barrier is one when it has come on all that have not ended.
#[derive(Default)]
pub(crate) struct Barriers {
    heard: [VecDeque<Marks>; 3],
}

impl Barriers {
    /// A barrier of one edge.
    pub(crate) fn hear(&mut self, edge: usize, marks: Marks) {
        self.heard[edge].push_back(marks);
    }

    /// The next barrier that has come on all. (`ended`: no more come on these edges.)
    pub(crate) fn next(&mut self, ended: [bool; 3]) -> Option<Marks> {
        let is_there = |(heard, ended): (&VecDeque<Marks>, bool)| ended || !heard.is_empty();
        if !self.heard.iter().zip(ended).all(is_there) {
            return None;
        }
        // (A source that has finished one side gave its mark to the other.)
        let mut marks: Marks = Vec::new();
        for of_edge in self.heard.each_mut().into_iter().filter_map(VecDeque::pop_front) {
            let more = of_edge.into_iter().filter(|mark| !marks.iter().any(|there| there.0 == mark.0));
            marks.extend(more.collect::<Vec<_>>());
        }
        marks.sort_by_key(|mark| mark.0);
        (!marks.is_empty()).then_some(marks)
    }
}
