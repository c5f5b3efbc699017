//! [`TopK`]: the largest records, at one target.

use crate::batch::Batch;
use crate::carrier::{Incoming, Route};
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result};
use crate::exchange::Exchange;
use crate::key::Key;
use crate::operator::{Insert, InsertError, Receiver, operator};
use crate::outbox::Outbox;
use crate::plan::LogicalPlan;
use aeolian_net::OpName;
use std::cell::Cell;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;

static NAME: OpName = OpName("top_k");

/// M sources to one target, which gets the `k` largest records, the largest first; all, if there are fewer. Which is larger, [`Key`] says
/// (pairs are ordered by their first, then by their second part). Of records that are the same any may come.
///
/// *Cost*: a comparison for each record that is not among the largest of its rank so far; at most `k` records of each rank go to the
/// target's: one round. *Memory*: `k` records at each rank with sources, and at the target's rank. Nothing spills: `k` bounds it.
///
/// ```
/// use aeolian_ops::{Dataflow, Insert, LogicalPlan, Operator, TopK, taking};
/// let got = aeolian_net::World::local(3, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut largest = Vec::new();
///     let plan = LogicalPlan::new(&world, 3, 1);
///     let mut op = TopK::new(&flow, &plan, 2, taking(|_, batch| largest.extend(batch)))?;
///     op.insert_all(world.rank(), [(u64::from(world.rank()), "first".to_string()), (0, "second".to_string())])?;
///     op.finish(world.rank())?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(largest)
/// })?;
/// assert_eq!(got[0], [(2, "first".to_string()), (1, "first".to_string())]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct TopK<T, R> {
    exchange: Exchange<T>,
    receiver: R,
    /// Of this rank's sources.
    here: Largest<T>,
    /// Of all ranks', where the target is; sorted once all are there.
    came: Largest<T>,
    sorted: Option<std::vec::IntoIter<ByOrder<T>>>,
    target: Option<u32>,
    outbox: Outbox<T>,
    damaged: Rc<Cell<bool>>,
    is_done: bool,
}

/// A record in the order of its key.
struct ByOrder<T>(T);

impl<T: Key> PartialEq for ByOrder<T> {
    fn eq(&self, other: &ByOrder<T>) -> bool {
        self.0.same(&other.0)
    }
}

impl<T: Key> Eq for ByOrder<T> {}

impl<T: Key> PartialOrd for ByOrder<T> {
    fn partial_cmp(&self, other: &ByOrder<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Key> Ord for ByOrder<T> {
    fn cmp(&self, other: &ByOrder<T>) -> Ordering {
        self.0.order(&other.0)
    }
}

/// The `k` largest of all that were added; the smallest of them on top.
struct Largest<T> {
    k: usize,
    heap: BinaryHeap<Reverse<ByOrder<T>>>,
}

impl<T: Key> Largest<T> {
    fn new(k: usize) -> Largest<T> {
        Largest { k, heap: BinaryHeap::new() }
    }

    #[inline]
    fn add(&mut self, record: T) {
        if self.heap.len() < self.k {
            self.heap.push(Reverse(ByOrder(record)));
        } else if let Some(mut smallest) = self.heap.peek_mut()
            && record.order(&smallest.0.0).is_gt()
        {
            *smallest = Reverse(ByOrder(record));
        }
    }
}

impl<T: Key, R: Receiver<Batch<T>>> TopK<T, R> {
    /// On the tasks of `plan`; all ranks alike, but for the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if the plan is for a world of another size or has not one target.
    pub fn new(flow: &Dataflow, plan: &LogicalPlan, k: usize, receiver: R) -> Result<TopK<T, R>> {
        if plan.targets().len() != 1 {
            return Err(OpsError::Plan(format!("{} to {} targets, not one", NAME.0, plan.targets().len())));
        }
        let exchange = Exchange::new(flow, &NAME, plan, Route::ToOne { parts: 1 })?;
        Ok(TopK {
            receiver,
            here: Largest::new(k),
            came: Largest::new(k),
            sorted: None,
            target: plan.targets_of(flow.world().rank()).next(),
            outbox: Outbox::new(exchange.whose()),
            damaged: Rc::default(),
            is_done: false,
            exchange,
        })
    }

    /// Puts the largest of this rank, each once; false if there is no room.
    fn put_all(&mut self) -> Result<bool> {
        while let Some(Reverse(ByOrder(record))) = self.here.heap.peek() {
            if !self.exchange.put(0, record)? {
                return Ok(false);
            }
            self.here.heap.pop();
        }
        Ok(true)
    }

    pub(crate) fn open(&mut self) {
        self.sorted = None;
        self.is_done = false;
    }

    /// Hands the largest of all to the target, if it is here.
    fn give(&mut self) -> Result<bool> {
        let mut moved = false;
        let came = &mut self.came.heap;
        let sorted = self.sorted.get_or_insert_with(|| {
            let sorted = std::mem::take(came).into_sorted_vec();
            sorted.into_iter().map(|Reverse(record)| record).collect::<Vec<_>>().into_iter()
        });
        if let Some(target) = self.target {
            let mut next = || Ok(sorted.next().map(|ByOrder(record)| record));
            while self.outbox.hand_over(&mut self.receiver, target, &mut next)? {
                moved = true;
            }
        }
        self.is_done = self.outbox.is_empty();
        Ok(moved || self.is_done)
    }

    pub(crate) fn progress(&mut self) -> Result<bool> {
        let mut moved = false;
        if !self.exchange.is_about_to_end() || self.put_all()? {
            moved |= self.exchange.progress()?;
        }
        while let Some(incoming) = self.exchange.receive()? {
            moved = true;
            match incoming {
                Incoming::Batch { bytes, .. } | Incoming::ForAll(bytes) => {
                    let batch = Batch::new(bytes, self.damaged.clone());
                    batch.for_each(|record| self.came.add(record));
                    if self.damaged.get() {
                        return Err(self.exchange.whose().unreadable::<T>("a batch"));
                    }
                }
                Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => {
                    self.target.iter().for_each(|target| self.receiver.barrier(*target, &marks));
                }
            }
        }
        if self.exchange.has_ended() && !self.is_done {
            moved |= self.give()?;
        }
        Ok(moved)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.exchange.is_over() && self.is_done
    }

    pub(crate) fn is_held_up(&self) -> bool {
        !self.outbox.is_empty()
    }
}

operator!(TopK<T, R> where T: Key, R: Receiver<Batch<T>>);

impl<T: Key, R: Receiver<Batch<T>>> Insert<T> for TopK<T, R> {
    #[inline]
    fn insert(&mut self, source: u32, record: T) -> Result<(), InsertError<T>> {
        if !self.exchange.may_insert(source)? {
            return Err(InsertError::Full(record));
        }
        self.here.add(record);
        Ok(())
    }
}
