//! [`Sort`]: all records in one order, over all targets.

use crate::batch::{self, Batch};
use crate::carrier::{Incoming, Route};
use crate::common::Common;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::filling::Filling;
use crate::grouping::Grouping;
use crate::memory::Reservation;
use crate::operator::{Insert, InsertError, Operator, Receiver, insert_many, operator};
use crate::outbox::{BATCHES, Outbox};
use crate::plan::LogicalPlan;
use crate::record::{Reader, Record};
use crate::sorting::by::{Of, SortBy};
use crate::sorting::extra;
use crate::sorting::sampling::{SAMPLE, SAMPLE_SHARE, Sample, Sampler, Splitter, Splitters, split, takes};
use crate::sorting::sorter::Sorted;
use crate::stores::{Reading, Stores, UNCOUNTED, counted};
use aeolian_net::{Buf, OpName};
use std::cell::Cell;
use std::rc::Rc;

static NAME: OpName = OpName("sort");

/// Messages that are taken in one call of `progress`: other operators and the program want their turn.
const AT_ONCE: usize = 64;
/// What this rank's sources are at.
enum Stage<T: Record, S: SortBy<T>> {
    /// Keeping what is inserted; that of ranks without sources too.
    Keeping,
    /// All have finished: the sample goes out.
    Sampling(Going<Sample<S::Key>>),
    /// Ranges are not known yet.
    Waiting(Vec<Splitter<S::Key>>),
    /// What was kept goes to its ranges.
    Sending(Box<Sending<T, S>>),
    Done,
}

/// Records on their way to all.
struct Going<T> {
    left: std::vec::IntoIter<T>,
    /// One that there was no room for.
    refused: Option<T>,
}

impl<T: Record> Going<T> {
    fn new(all: Vec<T>) -> Going<T> {
        Going { left: all.into_iter(), refused: None }
    }

    /// Sends some; true if none is left.
    fn send(&mut self, exchange: &mut Exchange<T>) -> Result<bool> {
        while let Some(one) = self.refused.take().or_else(|| self.left.next()) {
            if !exchange.put(0, &one)? {
                self.refused = Some(one);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What was kept, on its way.
struct Sending<T: Record, S: SortBy<T>> {
    splitters: Splitters<T, S>,
    kept: Reading,
    batch: Buf,
    /// Where in the batch, and which record of all, is next.
    at: usize,
    place: u64,
}

/// M sources to N targets: all records in the order of their keys ([`SortBy`]), those of a target before those of the next.
///
/// Stable: equal records come by the rank of their source, ascending, then in the order in which they were inserted there. Targets get
/// their records when all sources have finished: about as many each, also if most keys or all are the same.
///
/// ```
/// use aeolian_ops::{Ascending, Dataflow, Insert, LogicalPlan, Operator, Sort, taking};
/// let parts = aeolian_net::World::local(3, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut part: Vec<u64> = Vec::new();
///     let take = taking(|_target, batch| part.extend(batch));
///     let mut op = Sort::new(&flow, &LogicalPlan::each_rank(&world), Ascending, take)?;
///     op.insert_all(world.rank(), (0..100).map(|i| i * 37 % 101 * 3 + u64::from(world.rank())))?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(part)
/// })?;
/// assert!(parts.concat().is_sorted());
/// assert!(parts.iter().all(|part| part.len() > 50));
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
///
/// *How* (sample sort): sources keep what they get until all have finished. Each rank sends a sample to one rank, of all together 64
/// records or more for each range; that one makes splitters of them and sends these to all; then each record goes to its range. There are
/// several ranges for each target, as many as a rank fills batches for in its cache; each is sorted for itself, by radix on 64 bits of the
/// key.
///
/// *Cost*: a record is written once where it is kept, once into the batch for its range, and read out once in order. Three rounds: samples,
/// splitters, records. *Memory*: all records at the sources, then at the targets, and 32 bytes for each of one range (48 where their length
/// varies). When that is more than the budget, or what is kept more than half of it, that goes to disk; at the targets whole ranges go
/// there, those that come last first, and a range that does not fit alone is sorted there by runs and merged. So beyond the budget a record
/// is written to disk and read back at its source, and again at its target; and once more there in ranges that do not fit.
pub struct Sort<T: Record, S: SortBy<T>, R> {
    exchange: Exchange<T>,
    samples: Exchange<Sample<S::Key>>,
    splitters: Exchange<Splitter<S::Key>>,
    receiver: R,
    grouping: Grouping,
    /// Targets of this rank.
    mine: Vec<u32>,
    rank: u32,
    /// The number of this rank among those with sources, if it is one.
    source: Option<u32>,
    /// Whether this rank makes the splitters.
    is_root: bool,
    sample: usize,
    stage: Stage<T, S>,
    sampler: Sampler<S::Key>,
    /// Bytes that this rank's sample takes at most.
    sample_bytes: u64,
    /// Of samples that have come, and of splitters.
    came_room: Reservation,
    splitters_room: Reservation,
    filling: Filling,
    kept: Stores,
    /// At the root: samples that have come; splitters that are to go out, once they are made.
    came: Vec<Sample<S::Key>>,
    made: Option<Going<Splitter<S::Key>>>,
    /// slot -> its records
    ranges: Stores,
    common: Common,
    /// Slots of this rank's targets that receivers are still to get, last first.
    left: Vec<u32>,
    giving: Option<(u32, Sorted<Of<T, S>>)>,
    outbox: Outbox<T>,
    damaged: Rc<Cell<bool>>,
}

impl<T: Record, S: SortBy<T>, R: Receiver<Batch<T>>> Sort<T, S, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, _by: S, receiver: R) -> Result<Sort<T, S, R>> {
        plan.needs_targets(NAME.0)?;
        let world = flow.world();
        let grouping = Grouping::new(plan.targets().len());
        let exchange = Exchange::new(flow, &NAME, plan, Route::ToOne { parts: grouping.parts })?;
        let number = exchange.name().1;
        let source_ranks = plan.source_ranks();
        let root = source_ranks.first().copied();
        let roots: Vec<u32> = root.into_iter().collect();
        let no_tasks = LogicalPlan::new(world, 0, 0);
        let to_root = no_tasks.clone().sources_on(&source_ranks)?.targets_on(&roots)?;
        let from_root = no_tasks.sources_on(&roots)?.targets_on(&source_ranks)?;
        let common = Common::new(flow, exchange.whose());
        let slots = grouping.slots();
        let mut op = Sort {
            samples: Exchange::numbered(flow, &NAME, number, "samples", &to_root, Route::ToOne { parts: 1 })?,
            splitters: Exchange::numbered(flow, &NAME, number, "splitters", &from_root, Route::ToAll)?,
            receiver,
            grouping,
            mine: plan.targets_of(world.rank()).collect(),
            rank: world.rank(),
            source: source_ranks.iter().position(|rank| *rank == world.rank()).map(|at| at as u32),
            is_root: root == Some(world.rank()),
            // The samples of all ranks together are what the ranges need; a rank's own has some of each.
            sample: (2 * SAMPLE * slots).div_ceil(source_ranks.len().max(1)).max(2 * SAMPLE),
            stage: Stage::Done,
            sampler: Sampler::new(0, 0, common.memory.reserve(), 0),
            sample_bytes: common.memory.limit() / SAMPLE_SHARE / source_ranks.len().max(1) as u64,
            came_room: common.memory.reserve(),
            splitters_room: common.memory.reserve(),
            // As large as batches that go out: their memory is used again for those.
            filling: Filling::new(exchange.batch_bytes()),
            // (While it goes out, ranges come in.)
            kept: Stores::new(&common, 1, &[UNCOUNTED]).within(2),
            came: Vec::new(),
            made: None,
            ranges: Stores::new(&common, slots, &[counted::<T>]),
            outbox: Outbox::new(exchange.whose()),
            common,
            left: Vec::new(),
            giving: None,
            damaged: Rc::default(),
            exchange,
        };
        op.begin();
        Ok(op)
    }

    /// As at the beginning of a round.
    fn begin(&mut self) {
        self.left = self.mine.iter().rev().flat_map(|target| self.grouping.slots_of(*target).rev()).collect();
        let room = self.common.memory.reserve();
        self.sampler = Sampler::new(self.sample, self.sample_bytes, room, u64::from(self.rank));
        self.came_room.shrink(u64::MAX);
        self.splitters_room.shrink(u64::MAX);
        self.stage = if self.source.is_some() { Stage::Keeping } else { Stage::Done };
        self.made = None;
    }

    fn open(&mut self) {
        self.samples.another_round();
        self.splitters.another_round();
        self.begin();
    }

    /// Keeps a record until all sources have finished.
    #[inline]
    fn keep(&mut self, record: &T) -> Result<()> {
        self.sampler.see(S::key(record));
        match self.filling.put(record) {
            Ok(None) => Ok(()),
            Ok(Some(full)) => self.kept.add(0, self.rank, full),
            Err(_) => Err(self.exchange.whose().unwritable::<T>()),
        }
    }

    fn unreadable(&self) -> crate::OpsError {
        self.exchange.whose().unreadable::<T>("a batch")
    }

    /// Moves on what this rank's sources have given, when all have finished; true if all is on its way.
    fn send(&mut self, moved: &mut bool) -> Result<bool> {
        loop {
            match &mut self.stage {
                Stage::Done => return Ok(true),
                Stage::Keeping => {
                    if let Some(rest) = self.filling.finish() {
                        self.kept.add(0, self.rank, rest)?;
                    }
                    self.stage = Stage::Sampling(Going::new(self.sampler.take(self.rank).collect()));
                }
                Stage::Sampling(sample) => {
                    if !sample.send(&mut self.samples)? {
                        return Ok(false);
                    }
                    if let Some(source) = self.source {
                        self.samples.finish(source)?;
                    }
                    self.sampler.clear();
                    self.stage = Stage::Waiting(Vec::new());
                }
                Stage::Waiting(splitters) => {
                    if !self.splitters.has_ended() {
                        return Ok(false);
                    }
                    self.stage = Stage::Sending(Box::new(Sending {
                        splitters: Splitters::new(std::mem::take(splitters)),
                        kept: self.kept.take(0)?.read(),
                        batch: Buf::empty(),
                        at: 0,
                        place: 0,
                    }));
                }
                Stage::Sending(sending) => {
                    if !sending.send(&mut self.exchange, self.rank)? {
                        return Ok(false);
                    }
                    self.splitters_room.shrink(u64::MAX);
                    self.stage = Stage::Done;
                }
            }
            *moved = true;
        }
    }

    /// Moves samples and splitters on.
    fn agree(&mut self) -> Result<bool> {
        let mut moved = self.samples.progress()?;
        while let Some(incoming) = self.samples.receive()? {
            moved = true;
            if let Incoming::Batch { bytes, .. } = incoming {
                let before = self.came.len();
                self.came.extend(Batch::new(bytes, self.damaged.clone()));
                self.came_room.take(self.came[before..].iter().map(|sample| takes(&sample.0)).sum());
            }
        }
        if self.is_root && self.samples.has_ended() {
            moved |= self.split()?;
        }
        moved |= self.splitters.progress()?;
        while let Some(incoming) = self.splitters.receive()? {
            moved = true;
            if let (Incoming::ForAll(bytes), Stage::Waiting(splitters)) = (incoming, &mut self.stage) {
                let before = splitters.len();
                splitters.extend(Batch::new(bytes, self.damaged.clone()));
                self.splitters_room.take(splitters[before..].iter().map(|splitter| takes(&splitter.0)).sum());
            }
        }
        match self.damaged.get() {
            true => Err(self.unreadable()),
            false => Ok(moved),
        }
    }

    /// Makes splitters of the samples, and sends them; true if anything moved.
    fn split(&mut self) -> Result<bool> {
        if self.splitters.have_finished() {
            return Ok(false);
        }
        let ranges = self.grouping.slots();
        let came = &mut self.came;
        let made = self.made.get_or_insert_with(|| Going::new(split::<T, S>(std::mem::take(came), ranges)));
        if !made.send(&mut self.splitters)? {
            return Ok(false);
        }
        self.splitters.finish(0)?;
        self.came_room.shrink(u64::MAX);
        Ok(true)
    }

    /// Hands over what all is there for; true if anything moved.
    fn give(&mut self) -> Result<bool> {
        let mut moved = false;
        for _ in 0..BATCHES {
            if self.giving.is_none() {
                let Some(slot) = self.left.pop() else { break };
                let place = slot as usize;
                let takes = extra::<T>(self.ranges.records(place));
                // (Those that come last are wanted last.)
                let last_first = (place + 1..self.grouping.slots()).rev();
                self.ranges.make_room_for(place, takes, last_first)?;
                let sorted = Sorted::of(&self.common, self.ranges.take(place)?)?;
                self.giving = Some((self.grouping.target(slot), sorted));
            }
            let Some((target, sorted)) = &mut self.giving else { break };
            if self.outbox.hand_over_batch(&mut self.receiver, *target, |most| sorted.batch(most))? {
                moved = true;
            } else if self.outbox.is_empty() {
                (self.giving, moved) = (None, true);
            } else {
                break;
            }
        }
        Ok(moved)
    }

    fn progress(&mut self) -> Result<bool> {
        let mut moved = self.agree()?;
        // What was kept goes before the end is told.
        if !self.exchange.is_about_to_end() || self.send(&mut moved)? {
            moved |= self.exchange.progress()?;
        }
        for _ in 0..AT_ONCE {
            let Some(incoming) = self.exchange.receive()? else { break };
            moved = true;
            match incoming {
                Incoming::Batch { slot, from, bytes } => self.ranges.add(slot as usize, from, bytes)?,
                Incoming::ForAll(_) | Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => {
                    self.mine.iter().for_each(|target| self.receiver.barrier(*target, &marks));
                }
            }
        }
        if self.exchange.has_ended() {
            moved |= self.give()?;
        }
        Ok(moved)
    }

    fn is_complete(&self) -> bool {
        self.exchange.is_over()
            && self.samples.is_over()
            && self.splitters.is_over()
            && self.left.is_empty()
            && self.giving.is_none()
            && self.outbox.is_empty()
    }

    fn is_held_up(&self) -> bool {
        !self.outbox.is_empty()
    }
}

impl<T: Record, S: SortBy<T>> Sending<T, S> {
    /// Sends some; true if all of it is gone.
    fn send(&mut self, exchange: &mut Exchange<T>, rank: u32) -> Result<bool> {
        let mut batches = 0;
        loop {
            if self.at == self.batch.len() {
                if batches == AT_ONCE {
                    return Ok(false);
                }
                batches += 1;
                match self.kept.next()? {
                    Some((_, batch)) => (self.batch, self.at) = (batch, 0),
                    None => return Ok(true),
                }
            }
            let mut input = Reader::new(&self.batch[self.at..]);
            let (mut place, mut is_damaged) = (self.place, false);
            let splitters = self.splitters.by_ref();
            let refused = exchange.put_all_bytes(|| {
                if input.is_empty() {
                    return None;
                }
                let rest = input.rest();
                let Some(record) = batch::get::<T>(&mut input) else {
                    is_damaged = true;
                    return None;
                };
                let range = splitters.range_of(S::key(&record), rank, place);
                place += 1;
                Some((range, &rest[..rest.len() - input.rest().len()]))
            })?;
            if is_damaged {
                return Err(exchange.whose().unreadable::<T>("a batch"));
            }
            let left = input.rest().len() + refused.map_or(0, <[u8]>::len);
            (self.at, self.place) = (self.batch.len() - left, place - u64::from(refused.is_some()));
            if refused.is_some() {
                return Ok(false);
            }
        }
    }
}

operator!(Sort<T, S, R> where T: Record, S: SortBy<T>, R: Receiver<Batch<T>>);

impl<T: Record, S: SortBy<T>, R: Receiver<Batch<T>>> Insert<T> for Sort<T, S, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        if !self.exchange.may_insert(source)? {
            return Err(InsertError::Full(record));
        }
        Ok(self.keep(&record)?)
    }

    fn insert_all_beside(
        &mut self,
        source: u32,
        records: impl IntoIterator<Item = T>,
        others: &mut [&mut dyn Operator],
    ) -> Result<()> {
        let may_insert = |op: &Self, source| op.exchange.may_insert(source);
        insert_many(self, source, records, others, may_insert, |op, record| Ok(op.keep(&record)?))
    }
}
