//! [`Selector`]: to which target a record goes.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::key::Key;
use crate::operator::{Insert, Operator, taking};
use crate::operators::AllGather;
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::sorting::by::Ascending;
use crate::sorting::sampling::{SAMPLE, SAMPLE_SHARE, Sample, Sampler, split, takes};
use std::cmp::Ordering;

/// Chooses the target of each record.
pub trait Selector<T>: 'static {
    /// The target, below `targets`, of a record of this source.
    fn select(&mut self, source: u32, record: &T, targets: u32) -> u32;

    /// The record that was asked for last has been taken, or waits for room there before all that are asked for later. (One that `insert` hands back is
    /// asked for again.)
    fn commit(&mut self, source: u32) {
        let _ = source;
    }
}

impl<T, F: FnMut(u32, &T, u32) -> u32 + 'static> Selector<T> for F {
    fn select(&mut self, source: u32, record: &T, targets: u32) -> u32 {
        self(source, record, targets)
    }
}

/// What has a key that it is partitioned, grouped and sorted by: pairs of a key and a value.
pub trait Keyed: Record {
    /// The key's type.
    type Key: Key;

    /// The key.
    fn key(&self) -> &Self::Key;
}

impl<K: Key, V: Record> Keyed for (K, V) {
    type Key = K;

    #[inline]
    fn key(&self) -> &K {
        &self.0
    }
}

/// Of operators that spread keys over targets. Hash tables inside targets have other seeds: they see only keys of one target.
pub(crate) const SEED: u64 = 0x5eed_0f7a_59e7;

/// The target of a key by its hash: evenly, the same in all operators, so that what two of them have partitioned stays together.
#[inline]
pub fn target_of<K: Key>(key: &K, targets: u32) -> u32 {
    ((u128::from(key.hash(SEED)) * u128::from(targets)) >> 64) as u32
}

/// By the hash of the key.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByKey;

impl<T: Keyed> Selector<T> for ByKey {
    #[inline]
    fn select(&mut self, _: u32, record: &T, targets: u32) -> u32 {
        target_of(record.key(), targets)
    }
}

/// By the hash of the whole record, which is a key.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByHash;

impl<T: Key> Selector<T> for ByHash {
    #[inline]
    fn select(&mut self, _: u32, record: &T, targets: u32) -> u32 {
        target_of(record, targets)
    }
}

/// Each source deals its records to the targets in turn, beginning with that of its own number.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    next: Vec<u32>,
}

impl<T> Selector<T> for RoundRobin {
    #[inline]
    fn select(&mut self, source: u32, _: &T, targets: u32) -> u32 {
        let source = source as usize;
        if source >= self.next.len() {
            let known = self.next.len() as u32;
            self.next.extend(known..=source as u32);
        }
        self.next[source] % targets
    }

    #[inline]
    fn commit(&mut self, source: u32) {
        if let Some(next) = self.next.get_mut(source as usize) {
            *next = next.wrapping_add(1);
        }
    }
}

/// By the order of the whole record, which is a key: target `i` gets what is below splitter `i` and not below the one before. All that are equal come
/// to one target. ([`Sort`](crate::Sort) spreads those too.)
#[derive(Debug, Clone)]
pub struct ByRange<K> {
    splitters: Vec<K>,
}

impl<K: Key> ByRange<K> {
    /// Splitters, in any order; targets beyond the last one's get nothing.
    pub fn new(mut splitters: Vec<K>) -> ByRange<K> {
        splitters.sort_by(K::order);
        ByRange { splitters }
    }

    /// With splitters such that about as many of all ranks' `keys` come to each of so many targets. All ranks call it, in the same order as they make
    /// operators, each with its own keys.
    ///
    /// Each rank chooses some of its keys at random, 64 to 128 or all it has, or as many more as make 64 for each target together; fewer if those of all
    /// ranks would take more than a thirty-second of its budget. It sends them to all ranks, which make the same splitters of them (Frazer and
    /// McKellar, *Samplesort*, 1970).
    ///
    /// ```
    /// use aeolian_ops::{Batch, ByRange, Dataflow, Insert, LogicalPlan, Operator, Partition, taking};
    /// let largest = aeolian_net::World::local(2, |world| {
    ///     let flow = Dataflow::new(&world)?;
    ///     let keys = || (0..1000u64).map(|i| i * i + u64::from(world.rank()));
    ///     let ranges = ByRange::sampled(&flow, keys(), world.size())?;
    ///     let mut largest = 0;
    ///     let take = taking(|_target, batch: Batch<u64>| largest = batch.fold(largest, u64::max));
    ///     let mut op = Partition::new(&flow, &LogicalPlan::each_rank(&world), ranges, take)?;
    ///     op.insert_all(world.rank(), keys())?;
    ///     op.finish(world.rank())?;
    ///     op.complete()?;
    ///     drop(op);
    ///     world.finish()?;
    ///     Ok(largest)
    /// })?;
    /// // Half of the squares are below a quarter of the largest.
    /// assert!(largest[0] < 400_000 && largest[1] == 999 * 999 + 1);
    /// # Ok::<(), aeolian_net::NetError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Operator::progress`].
    pub fn sampled(flow: &Dataflow, keys: impl IntoIterator<Item = K>, targets: u32) -> Result<ByRange<K>> {
        let world = flow.world();
        let (rank, ranks) = (world.rank(), world.size() as usize);
        let most_bytes = flow.memory().limit() / SAMPLE_SHARE / ranks as u64;
        let sample = (2 * SAMPLE * targets as usize).div_ceil(ranks).max(2 * SAMPLE);
        let mut sampler = Sampler::new(sample, most_bytes, flow.memory().reserve(), u64::from(rank));
        keys.into_iter().for_each(|key| sampler.see(&key));
        let (mut samples, mut room) = (Vec::new(), flow.memory().reserve());
        let take = taking(|_, batch: Batch<(u32, Sample<K>)>| {
            let before = samples.len();
            samples.extend(batch.map(|(_, sample)| sample));
            room.take(samples[before..].iter().map(|sample: &Sample<K>| takes(&sample.0)).sum());
        });
        let mut op = AllGather::new(flow, &LogicalPlan::each_rank(world), take)?;
        op.insert_all(rank, sampler.take(rank))?;
        sampler.clear();
        op.finish(rank)?;
        op.complete()?;
        drop(op);
        let splitters = split::<K, Ascending>(samples, targets as usize);
        Ok(ByRange { splitters: splitters.into_iter().map(|splitter| splitter.0).collect() })
    }
}

impl<K: Key> Selector<K> for ByRange<K> {
    #[inline]
    fn select(&mut self, _: u32, record: &K, targets: u32) -> u32 {
        let below = self.splitters.partition_point(|s| s.order(record) != Ordering::Greater);
        (below as u32).min(targets - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_moves_on_when_a_record_was_taken() {
        let mut turn = RoundRobin::default();
        let mut select = |taken: bool, source| {
            let target = turn.select(source, &'x', 3);
            if taken {
                Selector::<char>::commit(&mut turn, source);
            }
            target
        };
        let got =
            [(true, 1), (false, 1), (true, 1), (true, 0), (true, 1), (true, 0)].map(|(t, s)| select(t, s));
        assert_eq!(got, [1, 2, 2, 0, 0, 1]);
    }

    #[test]
    fn ranges_end_before_their_splitter() {
        let mut ranges = ByRange::new(vec![2.5, -1.0, f64::INFINITY]);
        let got =
            [f64::NEG_INFINITY, -1.0, 2.4, 2.5, f64::INFINITY, f64::NAN].map(|x| ranges.select(0, &x, 4));
        assert_eq!(got, [0, 1, 1, 2, 3, 3]);
        assert_eq!(ranges.select(0, &9.0, 2), 1);
    }
}
