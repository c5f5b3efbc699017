//! [`KeyedReduce`]: the values of each key reduced to one.

use crate::batch::Batch;
use crate::carrier::{Incoming, Route};
use crate::combining::Combining;
use crate::dataflow::Dataflow;
use crate::early::Early;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::grouping::Grouping;
use crate::key::Key;
use crate::keyed_report::KeyedReport;
use crate::operator::{Insert, InsertError, Operator, Receiver, insert_many, operator};
use crate::outbox::{BATCHES, Outbox};
use crate::parts::{Pairs, Parts};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;

static NAME: OpName = OpName("keyed_reduce");

/// Messages that are taken in one call of `progress`: other operators and the program want their turn.
const AT_ONCE: usize = 64;

/// M sources of pairs to N targets: the target of a key gets one pair of it, whose value all values of that key were reduced to.
///
/// `combine` puts the second value into the first. It must be associative and commutative: values meet in any order, so sums of
/// floating-point numbers may differ in their last bits from run to run. Targets get their pairs when all sources have finished, in
/// any order.
///
/// *Cost*: sources reduce what they can of what they insert one after another, as long as that pays (a table that stays in the cache; it
/// is left where keys hardly come again). What is left is written once into the batch for its part of its target. Full batches for other
/// ranks are added up where they are, and what is sent at the end is a pair a key; not where that is more than half of what came.
/// *Memory*: one batch for each part of each target at each rank with sources, and up to 64 MiB, or an eighth of the budget, of pairs for other ranks; at the
/// targets one pair a key, and at most 16 MiB, or an eighth of the budget, of pairs that wait for their part's turn.
/// When that is more than the budget, parts go to disk, the largest first, and come back one after another at the end. A part with hundreds of
/// keys whose hashes are the same is sorted instead.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, KeyedReduce, LogicalPlan, Operator, taking};
/// let counts = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut mine = Vec::new();
///     let plan = LogicalPlan::each_rank(&world);
///     let take = taking(|_target, batch| mine.extend(batch));
///     let mut op = KeyedReduce::new(&flow, &plan, |count: &mut u64, more| *count += more, take)?;
///     op.insert_all(world.rank(), "a rose is a rose".split(' ').map(|word| (word.to_string(), 1)))?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(mine)
/// })?;
/// let mut counts = counts.concat();
/// counts.sort();
/// assert_eq!(counts, [("a".into(), 4), ("is".into(), 2), ("rose".into(), 4)]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct KeyedReduce<K: Key, V: Record, F, R> {
    pub(crate) exchange: Exchange<(K, V)>,
    grouping: Grouping,
    combine: F,
    receiver: R,
    early: Early<K, V>,
    combining: Combining<K, V>,
    /// slot -> bytes that came for it
    came: Vec<u64>,
    report: KeyedReport,
    /// Targets of this rank.
    mine: Vec<u32>,
    /// slot -> its pairs; those of other ranks' targets stay empty
    parts: Parts<K, V>,
    /// Slots of this rank's targets that receivers are still to get, last first.
    left: Vec<u32>,
    is_ordered: bool,
    giving: Option<(u32, Pairs<K, V>)>,
    outbox: Outbox<(K, V)>,
}

impl<K: Key, V: Record, F: FnMut(&mut V, V), R: Receiver<Batch<(K, V)>>> KeyedReduce<K, V, F, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(
        flow: &Dataflow,
        plan: &LogicalPlan,
        combine: F,
        receiver: R,
    ) -> Result<KeyedReduce<K, V, F, R>> {
        KeyedReduce::named(flow, &NAME, plan, combine, receiver)
    }

    /// One that is known under another name.
    pub(crate) fn named(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        combine: F,
        receiver: R,
    ) -> Result<KeyedReduce<K, V, F, R>> {
        plan.needs_targets(name.0)?;
        let grouping = Grouping::new(plan.targets().len());
        let exchange = Exchange::new(flow, name, plan, Route::ToOne { parts: grouping.parts })?;
        let mut op = KeyedReduce {
            mine: plan.targets_of(flow.world().rank()).collect(),
            combine,
            receiver,
            early: Early::new(flow),
            combining: Combining::new(flow, exchange.whose(), grouping.slots()),
            parts: Parts::new(flow, exchange.whose(), grouping.slots()),
            grouping,
            came: Vec::new(),
            report: KeyedReport::default(),
            left: Vec::new(),
            is_ordered: false,
            giving: None,
            outbox: Outbox::new(exchange.whose()),
            exchange,
        };
        op.open();
        Ok(op)
    }

    /// How it went at this rank, in this round.
    pub fn report(&self) -> KeyedReport {
        let (combined, sent_of_those) = self.combining.bytes();
        KeyedReport { combined, sent_of_those, ..self.report }
    }

    pub(crate) fn open(&mut self) {
        self.left = self.mine.iter().rev().flat_map(|target| self.grouping.slots_of(*target).rev()).collect();
        self.is_ordered = false;
        self.combining.open();
        self.came = vec![0; self.grouping.slots()];
        self.report = KeyedReport { parts: self.left.len() as u64, ..KeyedReport::default() };
    }

    /// Hands over what all is there for; true if anything moved.
    fn give(&mut self) -> Result<bool> {
        let mut moved = false;
        if !std::mem::replace(&mut self.is_ordered, true) {
            // What was spilled comes last, when the memory of all others is free. (They are taken from the end.)
            self.left.sort_by_key(|slot| !self.parts.is_spilled(*slot as usize));
        }
        for _ in 0..BATCHES {
            if self.giving.is_none() {
                let Some(slot) = self.left.pop() else { break };
                let pairs = self.parts.take(slot as usize, &mut self.combine)?;
                self.giving = Some((self.grouping.target(slot), pairs));
            }
            let Some((target, pairs)) = &mut self.giving else { break };
            if self.outbox.hand_over(&mut self.receiver, *target, || pairs.next(&mut self.combine))? {
                moved = true;
            } else if self.outbox.is_empty() {
                (self.giving, moved) = (None, true);
            } else {
                break;
            }
        }
        Ok(moved)
    }

    #[inline]
    fn put(&mut self, pair: (K, V)) -> Result<(), InsertError<(K, V)>> {
        let hash = Grouping::hash(&pair.0);
        if self.early.rests() && self.exchange.put_here(self.grouping.slot_of_hash(hash), &pair) {
            return Ok(());
        }
        self.put_early(hash, pair)
    }

    /// The same, reduced with others before it goes.
    fn put_early(&mut self, hash: u64, pair: (K, V)) -> Result<(), InsertError<(K, V)>> {
        if self.combining.is_giving() {
            return Err(InsertError::Full(pair));
        }
        let (exchange, grouping) = (&mut self.exchange, self.grouping);
        exchange.keep_full_ones(self.combining.is_on());
        let put = |hash: u64, pair: &(K, V)| exchange.put(grouping.slot_of_hash(hash), pair);
        self.early.insert(hash, pair, &mut self.combine, put)?;
        match self.exchange.kept() {
            None => Ok(()),
            Some((slot, bytes)) => Ok(self.combining.add(slot, bytes, &mut self.combine)?),
        }
    }

    /// Sends what sources keep back, all or what takes too much memory; false if there is no room for it.
    fn send_kept(&mut self, all: bool) -> Result<bool> {
        let (exchange, grouping) = (&mut self.exchange, self.grouping);
        exchange.keep_full_ones(false);
        let mut put = |slot: u32, pair: &(K, V)| exchange.put(slot, pair);
        if all && !self.early.empty(|pair| put(grouping.slot_of_hash(Grouping::hash(&pair.0)), pair))? {
            return Ok(false);
        }
        if all || self.combining.is_giving() {
            self.combining.empty(&mut self.combine, put)
        } else {
            Ok(true)
        }
    }

    pub(crate) fn progress(&mut self) -> Result<bool> {
        let mut moved = false;
        // What sources keep back to reduce it goes before their marks.
        let was_giving = self.combining.is_giving();
        if self.send_kept(self.exchange.is_about_to_close())? {
            moved |= self.exchange.progress()? || was_giving;
        }
        for _ in 0..AT_ONCE {
            let Some(incoming) = self.exchange.receive()? else { break };
            moved = true;
            match incoming {
                Incoming::Batch { slot, bytes, .. } => {
                    self.report.add(&mut self.came[slot as usize], bytes.len());
                    self.parts.add(slot as usize, bytes, &mut self.combine)?;
                }
                Incoming::ForAll(_) | Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => {
                    for target in &self.mine {
                        self.receiver.barrier(*target, &marks);
                    }
                }
            }
        }
        if self.exchange.has_ended() {
            moved |= self.give()?;
        }
        Ok(moved)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.exchange.is_over() && self.left.is_empty() && self.giving.is_none() && self.outbox.is_empty()
    }

    pub(crate) fn is_held_up(&self) -> bool {
        !self.outbox.is_empty()
    }
}

operator!(KeyedReduce<K, V, F, R> where K: Key, V: Record, F: FnMut(&mut V, V), R: Receiver<Batch<(K, V)>>);

impl<K: Key, V: Record, F: FnMut(&mut V, V), R: Receiver<Batch<(K, V)>>> Insert<(K, V)>
    for KeyedReduce<K, V, F, R>
{
    #[inline]
    fn insert(&mut self, source: u32, pair: (K, V)) -> Result<(), InsertError<(K, V)>> {
        match self.exchange.may_insert(source)? {
            true => self.put(pair),
            false => Err(InsertError::Full(pair)),
        }
    }

    fn insert_all_beside(
        &mut self,
        source: u32,
        pairs: impl IntoIterator<Item = (K, V)>,
        others: &mut [&mut dyn Operator],
    ) -> Result<()> {
        insert_many(
            self,
            source,
            pairs,
            others,
            |op, source| op.exchange.may_insert(source),
            KeyedReduce::put,
        )
    }
}
