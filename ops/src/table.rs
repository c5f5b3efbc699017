//! [`Table`]: the pairs of a part of a target, one a key.

use crate::batch::Batch;
use crate::key::Key;
use crate::memory::{Memory, Reservation};
use crate::record::Record;
use hashbrown::hash_table::{Entry, HashTable, IntoIter};
use std::rc::Rc;

/// Of hash tables inside targets: which keys come to one target, another seed has decided.
const SEED: u64 = 0x7ab1_e5ee_d000_0001;

/// What a value takes beside its own bytes where it has some elsewhere: of the allocator.
const ELSEWHERE: usize = 16;

/// Pairs, one a key.
pub(crate) struct Table<K, V> {
    pairs: HashTable<(K, V)>,
    /// Bytes that keys and values have elsewhere, about.
    elsewhere: u64,
    room: Reservation,
}

impl<K: Key, V: Record> Table<K, V> {
    pub(crate) fn new(memory: &Rc<Memory>) -> Table<K, V> {
        Table { pairs: HashTable::new(), elsewhere: 0, room: memory.reserve() }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.room.bytes()
    }

    /// Adds pairs, those of keys that are there by `combine`.
    pub(crate) fn add_all(&mut self, batch: &Batch<(K, V)>, combine: &mut impl FnMut(&mut V, V)) {
        for (key, value) in batch {
            let hash = key.hash(SEED);
            match self.pairs.entry(hash, |there| there.0.same(&key), |there| there.0.hash(SEED)) {
                Entry::Occupied(mut there) => {
                    let there = &mut there.get_mut().1;
                    let before = elsewhere(there);
                    combine(there, value);
                    self.elsewhere = (self.elsewhere + elsewhere(there)).saturating_sub(before);
                }
                Entry::Vacant(place) => {
                    self.elsewhere += elsewhere(&key) + elsewhere(&value);
                    place.insert((key, value));
                }
            }
        }
        let holds = self.pairs.allocation_size() as u64 + self.elsewhere;
        match holds.checked_sub(self.room.bytes()) {
            Some(more) => self.room.take(more),
            None => self.room.shrink(self.room.bytes() - holds),
        }
    }

    /// All pairs; none are left.
    pub(crate) fn take(&mut self) -> TakenPairs<K, V> {
        let room = self.room.split(u64::MAX);
        self.elsewhere = 0;
        TakenPairs { pairs: std::mem::take(&mut self.pairs).into_iter(), _room: room }
    }
}

/// Pairs that were taken out of a table.
pub(crate) struct TakenPairs<K, V> {
    pairs: IntoIter<(K, V)>,
    /// Given back when they are gone.
    _room: Reservation,
}

impl<K, V> Iterator for TakenPairs<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        self.pairs.next()
    }
}

/// Bytes that a record has elsewhere than in its place, about: of those of one size, what does not fit there (a box).
#[inline]
pub(crate) fn elsewhere<T: Record>(record: &T) -> u64 {
    match T::SIZE {
        Some(size) if size <= size_of::<T>() => 0,
        Some(size) => (size + ELSEWHERE) as u64,
        None => (record.size().min(isize::MAX as usize) + ELSEWHERE) as u64,
    }
}
