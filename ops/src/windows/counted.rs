//! [`CountWindows`]: the last so many records of each key, every so many.

use super::aggregate::Aggregate;
use crate::error::{OpsError, Result};
use crate::key::Key;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// Of each key the last `size` records, after each `slide` more of them (as Flink's `countWindow(size, slide)`: the first windows have fewer).
///
/// Windows that do not overlap need no list of records: [`Windowing::global`](super::Windowing::global) with an early trigger by count.
///
/// ```
/// use aeolian_ops::windows::{CountWindows, List};
/// let mut last_three = CountWindows::new(3, 2, List)?;
/// let given: Vec<_> = (1..=6).filter_map(|n| last_three.insert("a".to_string(), n)).collect();
/// assert_eq!(given, [vec![1, 2], vec![2, 3, 4], vec![4, 5, 6]]);
/// # Ok::<(), aeolian_ops::OpsError>(())
/// ```
pub struct CountWindows<K, V, A> {
    size: usize,
    slide: usize,
    aggregate: A,
    /// Key, its last records, and how many of them are new.
    keys: HashTable<(K, VecDeque<V>, usize)>,
}

const SEED: u64 = 0xc0_0117;

impl<K: Key, V, A: Aggregate<V>> CountWindows<K, V, A> {
    /// # Errors
    /// [`OpsError::Plan`] if `size` or `slide` is 0.
    pub fn new(size: usize, slide: usize, aggregate: A) -> Result<CountWindows<K, V, A>> {
        if size == 0 || slide == 0 {
            let what = format!("a window's size and slide are at least 1, not {size} and {slide}");
            return Err(OpsError::Plan(what));
        }
        Ok(CountWindows { size, slide, aggregate, keys: HashTable::new() })
    }

    /// A record; what is made of the window that it completes.
    pub fn insert(&mut self, key: K, value: V) -> Option<A::Out> {
        let hash = key.hash(SEED);
        let (_, last, new) = self
            .keys
            .entry(hash, |(k, ..)| k.same(&key), |(k, ..)| k.hash(SEED))
            .or_insert_with(|| (key, VecDeque::new(), 0))
            .into_mut();
        if last.len() == self.size {
            last.pop_front();
        }
        last.push_back(value);
        *new += 1;
        if *new < self.slide {
            return None;
        }
        *new = 0;
        let mut acc = self.aggregate.init();
        last.iter().for_each(|value| self.aggregate.add(&mut acc, value));
        Some(self.aggregate.finish(&acc))
    }
}
