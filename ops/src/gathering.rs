//! [`Gathering`]: what both keyed gathers have in common.

use crate::carrier::{Incoming, Route};
use crate::common::Common;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::grouping::Grouping;
use crate::key::Key;
use crate::keyed_report::KeyedReport;
use crate::operator::InsertError;
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::sorting::by::{Keys, Together};
use crate::sorting::extra;
use crate::sorting::sorter::{Sorted, Sorter};
use crate::stores::{Stores, counted};
use aeolian_net::{Buf, OpName};

/// Messages that are taken in one call of `progress`: other operators and the program want their turn.
const AT_ONCE: usize = 64;

/// In what order a target of a keyed gather gets its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// In any.
    #[default]
    Any,
    /// Ascending.
    ByKey,
}

/// Pairs of the targets of this rank, until all have come.
enum Kept<K: Key, V: Record> {
    /// slot -> its pairs, which are brought together one slot after another
    Slots(Stores),
    /// target -> its pairs; of those of other ranks none
    Sorters(Vec<Option<Sorter<Keys<K, V>>>>),
}

/// Pairs of a slot in order.
pub(crate) enum Ordered<K: Key, V: Record> {
    Together(Sorted<Together<K, V>>),
    ByKey(Sorted<Keys<K, V>>),
}

impl<K: Key, V: Record> Ordered<K, V> {
    #[inline]
    pub(crate) fn peek(&self) -> Option<&[u8]> {
        match self {
            Ordered::Together(pairs) => pairs.peek(),
            Ordered::ByKey(pairs) => pairs.peek(),
        }
    }

    #[inline]
    pub(crate) fn advance(&mut self) -> Result<()> {
        match self {
            Ordered::Together(pairs) => pairs.advance(),
            Ordered::ByKey(pairs) => pairs.advance(),
        }
    }

    pub(crate) fn batch(&mut self, most: usize) -> Result<Option<Buf>> {
        match self {
            Ordered::Together(pairs) => pairs.batch(most),
            Ordered::ByKey(pairs) => pairs.batch(most),
        }
    }
}

pub(crate) struct Gathering<K: Key, V: Record> {
    pub(crate) exchange: Exchange<(K, V)>,
    grouping: Grouping,
    order: Order,
    pub(crate) mine: Vec<u32>,
    kept: Kept<K, V>,
    common: Common,
    /// Slots of this rank's targets that receivers are still to get, last first.
    left: Vec<u32>,
    is_ordered: bool,
    /// slot -> bytes that came for it
    came: Vec<u64>,
    pub(crate) report: KeyedReport,
}

impl<K: Key, V: Record> Gathering<K, V> {
    pub(crate) fn new(
        flow: &Dataflow,
        name: &'static OpName,
        plan: &LogicalPlan,
        order: Order,
    ) -> Result<Gathering<K, V>> {
        plan.needs_targets(name.0)?;
        let grouping = match order {
            Order::Any => Grouping::new(plan.targets().len()),
            Order::ByKey => Grouping::whole(plan.targets().len()),
        };
        let exchange = Exchange::new(flow, name, plan, Route::ToOne { parts: grouping.parts })?;
        let common = Common::new(flow, exchange.whose());
        let slots = grouping.slots();
        let mut gathering = Gathering {
            mine: plan.targets_of(flow.world().rank()).collect(),
            kept: match order {
                Order::Any => Kept::Slots(Stores::new(&common, slots, &[counted::<(K, V)>])),
                Order::ByKey => Kept::Sorters((0..slots).map(|_| None).collect()),
            },
            common,
            grouping,
            order,
            exchange,
            left: Vec::new(),
            is_ordered: false,
            came: Vec::new(),
            report: KeyedReport::default(),
        };
        gathering.open();
        Ok(gathering)
    }

    /// As at the beginning of a round.
    pub(crate) fn open(&mut self) {
        self.left = self.mine.iter().rev().flat_map(|target| self.grouping.slots_of(*target).rev()).collect();
        self.is_ordered = self.order == Order::ByKey;
        self.came = vec![0; self.grouping.slots()];
        self.report = KeyedReport { parts: self.left.len() as u64, ..KeyedReport::default() };
    }

    #[inline]
    pub(crate) fn insert(&mut self, source: u32, pair: (K, V)) -> Result<(), InsertError<(K, V)>> {
        match self.exchange.may_insert(source)? {
            true => self.put(pair),
            false => Err(InsertError::Full(pair)),
        }
    }

    /// The same of a source that may insert.
    #[inline]
    pub(crate) fn put(&mut self, pair: (K, V)) -> Result<(), InsertError<(K, V)>> {
        self.exchange.put_own(self.grouping.slot_of_hash(Grouping::hash(&pair.0)), pair)
    }

    /// Moves on what goes out and takes what comes; a barrier goes to `barrier`.
    pub(crate) fn progress(&mut self, mut barrier: impl FnMut(u32, &[(u32, Vec<u8>)])) -> Result<bool> {
        let mut moved = self.exchange.progress()?;
        for _ in 0..AT_ONCE {
            let Some(incoming) = self.exchange.receive()? else { break };
            moved = true;
            match incoming {
                Incoming::Batch { slot, from, bytes } => {
                    self.report.add(&mut self.came[slot as usize], bytes.len());
                    match &mut self.kept {
                        Kept::Slots(stores) => stores.add(slot as usize, from, bytes)?,
                        Kept::Sorters(sorters) => sorters[slot as usize]
                            .get_or_insert_with(|| Sorter::new(self.common.clone()))
                            .add(from, bytes)?,
                    }
                }
                Incoming::ForAll(_) | Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => self.mine.iter().for_each(|target| barrier(*target, &marks)),
            }
        }
        Ok(moved)
    }

    /// The pairs of the next slot, when all have come: its target, and they.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Ordered<K, V>)>> {
        if !self.exchange.has_ended() {
            return Ok(None);
        }
        if let Kept::Slots(stores) = &self.kept
            && !std::mem::replace(&mut self.is_ordered, true)
        {
            // What was spilled comes last, when the memory of all others is free. (They are taken from the end.)
            self.left.sort_by_key(|slot| !stores.is_spilled(*slot as usize));
        }
        let Some(slot) = self.left.pop() else { return Ok(None) };
        let pairs = match &mut self.kept {
            Kept::Slots(stores) => {
                let place = slot as usize;
                let takes = extra::<(K, V)>(stores.records(place));
                stores.make_room_for(place, takes, self.left.iter().map(|slot| *slot as usize))?;
                Ordered::Together(Sorted::of(&self.common, stores.take(place)?)?)
            }
            Kept::Sorters(sorters) => {
                let sorter = sorters[slot as usize].take();
                Ordered::ByKey(sorter.unwrap_or_else(|| Sorter::new(self.common.clone())).finish()?)
            }
        };
        Ok(Some((self.grouping.target(slot), pairs)))
    }

    /// All has come, and no slot is left.
    pub(crate) fn is_over(&self) -> bool {
        self.exchange.is_over() && self.left.is_empty()
    }
}
