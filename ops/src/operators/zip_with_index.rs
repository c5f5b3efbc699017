//! [`ZipWithIndex`]: each record with its number among all.

use crate::batch::{self, Batch};
use crate::carrier::{Incoming, Route};
use crate::common::Common;
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result};
use crate::exchange::Exchange;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::outbox::{BATCHES, Outbox};
use crate::plan::LogicalPlan;
use crate::record::{Reader, Record};
use crate::stores::{Reading, Stores, UNCOUNTED};
use aeolian_net::{Buf, OpName};
use std::cell::Cell;
use std::rc::Rc;

static NAME: OpName = OpName("zip_with_index");

/// Messages that are taken in one call of `progress`: other operators and the program want their turn.
const AT_ONCE: usize = 64;

/// Records of a target that are being handed over.
struct Giving {
    target: u32,
    records: Reading,
    batch: Buf,
    at: usize,
    index: u64,
}

/// N sources to N targets, source `i` to target `i`: each record with its number, from 0 on, in order of sources, and within one as they
/// were inserted.
///
/// Numbers are known when all sources have finished, so targets get their records then.
///
/// *Cost*: as [`Direct`](crate::Direct), and the number of records of each source, which goes to each rank with targets. *Memory*: all
/// records at the targets; what the budget has no room for spills.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, LogicalPlan, Operator, ZipWithIndex, taking};
/// let got = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut came: Vec<(u64, char)> = Vec::new();
///     let take = taking(|_target, batch| came.extend(batch));
///     let mut op = ZipWithIndex::new(&flow, &LogicalPlan::each_rank(&world), take)?;
///     let text = if world.rank() == 0 { "ab" } else { "xyz" };
///     op.insert_all(world.rank(), text.chars())?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(came)
/// })?;
/// assert_eq!(got.concat(), [(0, 'a'), (1, 'b'), (2, 'x'), (3, 'y'), (4, 'z')]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct ZipWithIndex<T, R> {
    exchange: Exchange<T>,
    /// (source, its records), to all.
    counts: Exchange<(u32, u64)>,
    /// The number of this rank among those with sources, if it is one.
    counter: Option<u32>,
    receiver: R,
    mine: Vec<u32>,
    /// source -> records that it has inserted here
    inserted: Vec<u64>,
    /// Sources whose counts are on their way.
    told: u32,
    /// source -> its records, as it was heard
    came: Vec<u64>,
    stores: Stores,
    /// Targets that receivers are still to get, last first.
    left: Vec<u32>,
    giving: Option<Giving>,
    outbox: Outbox<(u64, T)>,
    damaged: Rc<Cell<bool>>,
}

impl<T: Record, R: Receiver<Batch<(u64, T)>>> ZipWithIndex<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if the plan is for a world of another size or has not as many targets as sources.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, receiver: R) -> Result<ZipWithIndex<T, R>> {
        let (sources, targets) = (plan.sources().len(), plan.targets().len());
        if sources != targets {
            return Err(OpsError::Plan(format!("{} from {sources} sources to {targets} targets", NAME.0)));
        }
        let world = flow.world();
        let exchange = Exchange::new(flow, &NAME, plan, Route::ToOne { parts: 1 })?;
        let ranks = plan.source_ranks();
        let to_all = LogicalPlan::new(world, 0, 0).sources_on(&ranks)?.targets_on(&plan.target_ranks())?;
        let mut op = ZipWithIndex {
            counts: Exchange::numbered(flow, &NAME, exchange.name().1, "counts", &to_all, Route::ToAll)?,
            counter: ranks.iter().position(|rank| *rank == world.rank()).map(|at| at as u32),
            receiver,
            mine: plan.targets_of(world.rank()).collect(),
            inserted: Vec::new(),
            told: 0,
            came: Vec::new(),
            stores: Stores::new(&Common::new(flow, exchange.whose()), targets, &[UNCOUNTED]),
            left: Vec::new(),
            giving: None,
            outbox: Outbox::new(exchange.whose()),
            damaged: Rc::default(),
            exchange,
        };
        op.begin();
        Ok(op)
    }

    /// As at the beginning of a round.
    fn begin(&mut self) {
        let sources = self.exchange.plan().sources().len();
        self.inserted = vec![0; sources];
        self.told = 0;
        self.came = vec![0; sources];
        self.left = self.mine.iter().rev().copied().collect();
    }

    fn open(&mut self) {
        self.counts.another_round();
        self.begin();
    }

    /// Tells the counts of this rank's sources when all have finished.
    fn count(&mut self) -> Result<bool> {
        let Some(counter) = self.counter.filter(|_| self.exchange.have_finished()) else { return Ok(false) };
        if self.counts.have_finished() {
            return Ok(false);
        }
        let plan = self.exchange.plan();
        while let Some(rank) = plan.sources().get(self.told as usize) {
            let count = (self.told, self.inserted[self.told as usize]);
            if *rank == self.counts.world().rank() && !self.counts.put(0, &count)? {
                return Ok(false);
            }
            self.told += 1;
        }
        self.counts.finish(counter)?;
        Ok(true)
    }

    /// Hands over what all is there for; true if anything moved.
    fn give(&mut self) -> Result<bool> {
        let mut moved = false;
        for _ in 0..BATCHES {
            if self.giving.is_none() {
                let Some(target) = self.left.pop() else { break };
                let records = self.stores.take(target as usize)?.read();
                let index = self.came.iter().take(target as usize).sum();
                self.giving = Some(Giving { target, records, batch: Buf::empty(), at: 0, index });
            }
            let Some(giving) = &mut self.giving else { break };
            let whose = self.exchange.whose();
            if self.outbox.hand_over(&mut self.receiver, giving.target, || giving.next(&whose))? {
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
        let mut moved = self.count()?;
        moved |= self.counts.progress()?;
        moved |= self.exchange.progress()?;
        for _ in 0..AT_ONCE {
            let Some(incoming) = self.exchange.receive()? else { break };
            moved = true;
            match incoming {
                Incoming::Batch { slot, from, bytes } => self.stores.add(slot as usize, from, bytes)?,
                Incoming::ForAll(_) | Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => {
                    self.mine.iter().for_each(|target| self.receiver.barrier(*target, &marks));
                }
            }
        }
        while let Some(incoming) = self.counts.receive()? {
            moved = true;
            if let Incoming::ForAll(bytes) = incoming {
                for (source, count) in Batch::<(u32, u64)>::new(bytes, self.damaged.clone()) {
                    match self.came.get_mut(source as usize) {
                        Some(place) => *place = count,
                        None => self.damaged.set(true),
                    }
                }
                if self.damaged.get() {
                    return Err(self.exchange.whose().unreadable::<(u32, u64)>("a batch"));
                }
            }
        }
        if self.exchange.has_ended() && self.counts.has_ended() {
            moved |= self.give()?;
        }
        Ok(moved)
    }

    fn is_complete(&self) -> bool {
        self.exchange.is_over()
            && self.counts.is_over()
            && self.left.is_empty()
            && self.giving.is_none()
            && self.outbox.is_empty()
    }

    fn is_held_up(&self) -> bool {
        !self.outbox.is_empty()
    }
}

impl Giving {
    /// The next record with its number.
    fn next<T: Record>(&mut self, whose: &crate::error::Whose) -> Result<Option<(u64, T)>> {
        while self.at == self.batch.len() {
            match self.records.next()? {
                Some((_, batch)) => (self.batch, self.at) = (batch, 0),
                None => return Ok(None),
            }
        }
        let mut input = Reader::new(&self.batch[self.at..]);
        let record = batch::get(&mut input).ok_or_else(|| whose.unreadable::<T>("a batch"))?;
        self.at = self.batch.len() - input.rest().len();
        self.index += 1;
        Ok(Some((self.index - 1, record)))
    }
}

operator!(ZipWithIndex<T, R> where T: Record, R: Receiver<Batch<(u64, T)>>);

impl<T: Record, R: Receiver<Batch<(u64, T)>>> Insert<T> for ZipWithIndex<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        if !self.exchange.may_insert(source)? {
            return Err(InsertError::Full(record));
        }
        self.exchange.put_own(source, record)?;
        self.inserted[source as usize] += 1;
        Ok(())
    }
}
