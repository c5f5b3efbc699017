//! [`KeyedGatherUngrouped`]: pairs, those of one key together.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::gathering::{Gathering, Order, Ordered};
use crate::key::Key;
use crate::keyed_report::KeyedReport;
use crate::operator::{Insert, InsertError, Operator, Receiver, insert_many, operator};
use crate::outbox::{BATCHES, Outbox};
use crate::plan::LogicalPlan;
use crate::record::Record;
use aeolian_net::OpName;

static NAME: OpName = OpName("keyed_gather_ungrouped");

/// M sources of pairs to N targets: the target of a key gets all its pairs one after another.
///
/// As [`KeyedGather`](crate::KeyedGather), whose order, costs and memory it has, but in batches of pairs: for keys with few values each.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, KeyedGatherUngrouped, LogicalPlan, Operator, Order, taking};
/// let pairs = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut pairs: Vec<(u32, char)> = Vec::new();
///     let take = taking(|_target, batch| pairs.extend(batch));
///     let plan = LogicalPlan::new(&world, 2, 1);
///     let mut op = KeyedGatherUngrouped::new(&flow, &plan, Order::ByKey, take)?;
///     op.insert_all(world.rank(), [(7, 'a'), (3, 'b'), (7, 'c')])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(pairs)
/// })?;
/// assert_eq!(pairs[0], [(3, 'b'), (3, 'b'), (7, 'a'), (7, 'c'), (7, 'a'), (7, 'c')]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct KeyedGatherUngrouped<K: Key, V: Record, R> {
    gathering: Gathering<K, V>,
    receiver: R,
    giving: Option<(u32, Ordered<K, V>)>,
    outbox: Outbox<(K, V)>,
}

impl<K: Key, V: Record, R: Receiver<Batch<(K, V)>>> KeyedGatherUngrouped<K, V, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(
        flow: &Dataflow,
        plan: &LogicalPlan,
        order: Order,
        receiver: R,
    ) -> Result<KeyedGatherUngrouped<K, V, R>> {
        let gathering = Gathering::new(flow, &NAME, plan, order)?;
        let outbox = Outbox::new(gathering.exchange.whose());
        Ok(KeyedGatherUngrouped { gathering, receiver, giving: None, outbox })
    }

    /// How it went at the targets of this rank, in this round.
    pub fn report(&self) -> KeyedReport {
        self.gathering.report
    }

    fn open(&mut self) {
        self.gathering.open();
    }

    fn progress(&mut self) -> Result<bool> {
        let receiver = &mut self.receiver;
        let mut moved = self.gathering.progress(|target, marks| receiver.barrier(target, marks))?;
        for _ in 0..BATCHES {
            if self.giving.is_none() {
                self.giving = self.gathering.next()?;
            }
            let Some((target, pairs)) = &mut self.giving else { break };
            if self.outbox.hand_over_batch(&mut self.receiver, *target, |most| pairs.batch(most))? {
                moved = true;
            } else if self.outbox.is_empty() {
                (self.giving, moved) = (None, true);
            } else {
                break;
            }
        }
        Ok(moved)
    }

    fn is_complete(&self) -> bool {
        self.gathering.is_over() && self.giving.is_none() && self.outbox.is_empty()
    }

    fn is_held_up(&self) -> bool {
        !self.outbox.is_empty()
    }
}

operator!(KeyedGatherUngrouped<K, V, R> in gathering where K: Key, V: Record, R: Receiver<Batch<(K, V)>>);

impl<K: Key, V: Record, R: Receiver<Batch<(K, V)>>> Insert<(K, V)> for KeyedGatherUngrouped<K, V, R> {
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
