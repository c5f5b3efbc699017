//! [`KeyedGather`]: the values of each key, together.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::gathering::{Gathering, Order, Ordered};
use crate::key::Key;
use crate::keyed_report::KeyedReport;
use crate::operator::{Full, Insert, InsertError, Operator, Receiver, insert_many, operator};
use crate::plan::LogicalPlan;
use crate::record::{Reader, Record};
use aeolian_net::{Buf, OpName};
use std::cell::Cell;
use std::rc::Rc;

/// So many pieces are handed over in one call of `progress`: what is on its way to other ranks must move meanwhile, or they wait.
const GROUPS: usize = 256;

static NAME: OpName = OpName("keyed_gather");

/// Bytes of values that come together. Of groups that have more, several come.
const PIECE: usize = 64 << 10;

/// Values of one key, or some of them.
#[derive(Debug)]
pub struct Group<K, V: Record> {
    /// The key.
    pub key: K,
    /// Values: those of one rank's sources in the order in which they were inserted there, ranks ascending.
    pub values: Batch<V>,
    /// Whether these are the last. If not, the next group that the target gets has the same key, and more of its values.
    pub is_last: bool,
}

/// M sources of pairs to N targets: the target of a key gets all its values, as a [`Group`].
///
/// Targets get their groups when all sources have finished: in any order, or [by key](Order::ByKey). What a group has too much of
/// comes in pieces of 64 KiB, one after another: so no key is too large. [`Lists`] puts them together.
///
/// *Cost*: a pair is written once into the batch for its part of its target; there, one part after another is sorted by hash in the
/// cache, and read out. By key, all pairs of a target are sorted at once. One round. *Memory*: one batch for each part of each target at
/// each rank with sources; at the targets all pairs, and 32 bytes for each of one part (48 where their length varies). When that is more
/// than the budget, whole parts go to disk; a part that does not fit alone is sorted there. By key, pairs go to disk as sorted runs, which
/// are merged at the end.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, KeyedGather, Lists, LogicalPlan, Operator, Order};
/// let lists = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut mine = Vec::new();
///     let take = Lists::new(|_target, word: String, at: Vec<u32>| mine.push((word, at)));
///     let mut op = KeyedGather::new(&flow, &LogicalPlan::each_rank(&world), Order::Any, take)?;
///     let words = if world.rank() == 0 { "a rose is" } else { "a rose" };
///     op.insert_all(world.rank(), words.split(' ').map(String::from).zip(10 * world.rank()..))?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(mine)
/// })?;
/// let mut lists = lists.concat();
/// lists.sort();
/// assert_eq!(lists, [("a".into(), vec![0, 10]), ("is".into(), vec![2]), ("rose".into(), vec![1, 11])]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct KeyedGather<K: Key, V: Record, R> {
    gathering: Gathering<K, V>,
    receiver: R,
    giving: Option<(u32, Ordered<K, V>)>,
    refused: Option<(u32, Group<K, V>)>,
    /// Bytes of the key that is given.
    key: Vec<u8>,
    /// Bytes of its values that were given in pieces before.
    of_key: u64,
    damaged: Rc<Cell<bool>>,
}

/// A receiver that takes whole lists: of a target, a key and all its values, which must fit into memory.
#[derive(Debug)]
pub struct Lists<V, F> {
    before: Vec<V>,
    take: F,
}

impl<V, F> Lists<V, F> {
    /// One that hands them to `take`.
    pub fn new(take: F) -> Lists<V, F> {
        Lists { before: Vec::new(), take }
    }
}

impl<K, V: Record, F: FnMut(u32, K, Vec<V>)> Receiver<Group<K, V>> for Lists<V, F> {
    fn receive(&mut self, target: u32, group: Group<K, V>) -> Result<(), Full<Group<K, V>>> {
        self.before.extend(group.values);
        if group.is_last {
            (self.take)(target, group.key, std::mem::take(&mut self.before));
        }
        Ok(())
    }
}

impl<K: Key, V: Record, R: Receiver<Group<K, V>>> KeyedGather<K, V, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(
        flow: &Dataflow,
        plan: &LogicalPlan,
        order: Order,
        receiver: R,
    ) -> Result<KeyedGather<K, V, R>> {
        Ok(KeyedGather {
            gathering: Gathering::new(flow, &NAME, plan, order)?,
            receiver,
            giving: None,
            refused: None,
            key: Vec::new(),
            of_key: 0,
            damaged: Rc::default(),
        })
    }

    /// How it went at the targets of this rank, in this round.
    pub fn report(&self) -> KeyedReport {
        self.gathering.report
    }

    fn open(&mut self) {
        self.of_key = 0;
        self.gathering.open();
    }

    /// The next values that come together.
    fn next(&mut self) -> Result<Option<(u32, Group<K, V>)>> {
        loop {
            let whose = self.gathering.exchange.whose();
            let damaged = || whose.unreadable::<(K, V)>("a batch");
            if self.giving.is_none() {
                self.giving = self.gathering.next()?;
            }
            let Some((target, pairs)) = &mut self.giving else { return Ok(None) };
            let Some(first) = pairs.peek() else {
                self.giving = None;
                continue;
            };
            let mut input = Reader::new(first);
            let key = K::get(&mut input).ok_or_else(damaged)?;
            self.key.clear();
            self.key.extend_from_slice(&first[..first.len() - input.rest().len()]);
            let value = |pair: &[u8], key: usize| -> (usize, usize) {
                // A value of no bytes takes one in a batch, which a pair of no bytes has already.
                match V::SIZE {
                    Some(0) => (0, 1),
                    _ => (key, pair.len()),
                }
            };
            let (mut from, mut to) = value(first, self.key.len());
            let mut values = Buf::private(PIECE.min(1 << 10).max(to - from));
            let mut filled = 0;
            let mut is_last = true;
            while let Some(pair) = pairs.peek() {
                if filled > 0 {
                    let mut bytes = self.key.len();
                    if !pair.starts_with(&self.key) {
                        // Other bytes may still be the same key: -0.0 and 0.0.
                        let mut input = Reader::new(pair);
                        if !K::get(&mut input).ok_or_else(damaged)?.same(&key) {
                            break;
                        }
                        bytes = pair.len() - input.rest().len();
                    }
                    (from, to) = value(pair, bytes);
                    if filled + to - from > PIECE {
                        is_last = false;
                        break;
                    }
                    if filled + to - from > values.len() {
                        let mut longer = Buf::private((2 * values.len()).max(filled + to - from));
                        longer[..filled].copy_from_slice(&values[..filled]);
                        values = longer;
                    }
                }
                let place = &mut values[filled..filled + to - from];
                match V::SIZE {
                    Some(0) => place.fill(0),
                    _ => place.copy_from_slice(&pair[from..to]),
                }
                filled += to - from;
                pairs.advance()?;
            }
            values.truncate(filled);
            self.of_key += filled as u64;
            let report = &mut self.gathering.report;
            report.largest_key = report.largest_key.max(self.of_key);
            if is_last {
                self.of_key = 0;
            }
            let values = Batch::new(values, self.damaged.clone());
            return Ok(Some((*target, Group { key, values, is_last })));
        }
    }

    fn progress(&mut self) -> Result<bool> {
        let receiver = &mut self.receiver;
        let mut moved = self.gathering.progress(|target, marks| receiver.barrier(target, marks))?;
        for _ in 0..GROUPS {
            let next = match self.refused.take() {
                None => self.next()?,
                refused => refused,
            };
            let Some((target, group)) = next else { break };
            let taken = self.receiver.receive(target, group);
            if let Some(error) = self.receiver.error() {
                return Err(error);
            }
            if let Err(Full(group)) = taken {
                self.refused = Some((target, group));
                break;
            }
            if self.damaged.get() {
                return Err(self.gathering.exchange.whose().unreadable::<(K, V)>("a batch"));
            }
            moved = true;
        }
        Ok(moved)
    }

    fn is_complete(&self) -> bool {
        self.gathering.is_over() && self.giving.is_none() && self.refused.is_none()
    }

    fn is_held_up(&self) -> bool {
        self.refused.is_some()
    }
}

operator!(KeyedGather<K, V, R> in gathering where K: Key, V: Record, R: Receiver<Group<K, V>>);

impl<K: Key, V: Record, R: Receiver<Group<K, V>>> Insert<(K, V)> for KeyedGather<K, V, R> {
    #[inline]
    fn insert(&mut self, source: u32, pair: (K, V)) -> Result<(), InsertError<(K, V)>> {
        self.gathering.insert(source, pair)
    }

    fn insert_all_beside(
        &mut self,
        source: u32,
        pairs: impl IntoIterator<Item = (K, V)>,
        others: &mut [&mut dyn Operator],
    ) -> Result<()> {
        let may_insert = |op: &Self, source| op.gathering.exchange.may_insert(source);
        insert_many(self, source, pairs, others, may_insert, |op, pair| op.gathering.put(pair))
    }
}
