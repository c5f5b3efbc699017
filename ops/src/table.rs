//! [`Table`]: the pairs of a part of a target, one a key.

use crate::batch::{Batch, Records};
use crate::key::Key;
use crate::memory::{Memory, Reservation};
use crate::prefetch;
use crate::record::Record;
use std::mem::MaybeUninit;
use std::rc::Rc;

/// Of hash tables inside targets: which keys come to one target, another seed has decided.
pub(crate) const SEED: u64 = 0x7ab1_e5ee_d000_0001;

/// What a value takes beside its own bytes where it has some elsewhere: of the allocator.
const ELSEWHERE: usize = 16;

/// Records whose places are told to the processor before they are looked at.
const BLOCK: usize = 32;
/// Places of the smallest table: a power of two, with room for a block.
const LEAST: usize = 64;

/// So many eighths of the places are taken before there are twice as many: with more, one looks for a key at too many places.
const FULL: usize = 5;

/// Places that a key may be behind its own. With hashes whose bits are good, and so many places free, none in 2^30 keys ever gets there.
const FARTHEST: usize = 512;

/// Places of pairs.
struct Places<K, V> {
    /// Of each place 0, or some bits of the hash of the pair that is there.
    tags: Vec<u8>,
    pairs: Vec<MaybeUninit<(K, V)>>,
}

impl<K, V> Places<K, V> {
    /// So many free ones.
    fn new(places: usize) -> Places<K, V> {
        let mut pairs = Vec::with_capacity(places);
        pairs.resize_with(places, MaybeUninit::uninit);
        Places { tags: vec![0; places], pairs }
    }

    /// Takes the pair at a place, if there is one.
    #[inline]
    fn take(&mut self, at: usize) -> Option<(K, V)> {
        match std::mem::replace(self.tags.get_mut(at)?, 0) {
            0 => None,
            // SAFETY: a place with a tag has a pair, and from now on it has no tag.
            _ => Some(unsafe { self.pairs[at].assume_init_read() }),
        }
    }
}

impl<K, V> Drop for Places<K, V> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<(K, V)>() {
            (0..self.tags.len()).for_each(|at| drop(self.take(at)));
        }
    }
}

/// Pairs, one a key: a hash table that is probed place by place, with a byte of each place's hash beside.
///
/// A batch is added a block at a time: first its keys are hashed and their places told to the processor, then, a block later, they are looked
/// for (Chen et al., *Improving hash join performance through prefetching*, 2004). So a table may be larger than a cache.
pub(crate) struct Table<K, V> {
    /// A power of two, or none at first.
    places: Places<K, V>,
    len: usize,
    /// Keys that there may be before there must be more places; none any more, once one of them is too far from its own.
    most: usize,
    /// Bytes that keys and values have elsewhere, about.
    elsewhere: u64,
    room: Reservation,
    seed: u64,
}

impl<K: Key, V: Record> Table<K, V> {
    /// What was taken from a table goes to another one only if that has another seed: in the order of its own places, pairs of several tables would all
    /// come to the same places at first.
    pub(crate) fn new(memory: &Rc<Memory>, seed: u64) -> Table<K, V> {
        Table { places: Places::new(0), len: 0, most: 0, elsewhere: 0, room: memory.reserve(), seed }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.room.bytes()
    }

    /// Adds pairs, those of keys that are there by `combine`. Returns those that are left if too many keys have the same hash: then each
    /// would be looked for at all places of the others, and the table takes none any more.
    pub(crate) fn add_all<'a>(
        &mut self,
        batch: &'a Batch<(K, V)>,
        combine: &mut impl FnMut(&mut V, V),
    ) -> Option<Records<'a, (K, V)>> {
        let left = if <(K, V)>::SIZE.is_some() {
            let (mut ahead, mut pairs) = (batch.iter(), batch.iter());
            let (mut now, mut next) = ([0; BLOCK], [0; BLOCK]);
            let mut many = self.look_ahead(&mut ahead, &mut now);
            loop {
                if many == 0 {
                    break None;
                }
                if !self.make_room(BLOCK) {
                    break Some(pairs);
                }
                let more = self.look_ahead(&mut ahead, &mut next);
                for (hash, (key, value)) in now[..many].iter().zip(&mut pairs) {
                    self.add(*hash, key, value, combine);
                }
                std::mem::swap(&mut now, &mut next);
                many = more;
            }
        } else {
            // (To read these twice may cost more than it saves.)
            let mut pairs = batch.iter();
            loop {
                if pairs.is_empty() {
                    break None;
                }
                if !self.make_room(1) {
                    break Some(pairs);
                }
                let Some((key, value)) = pairs.next() else { break None };
                self.add(key.hash(self.seed), key, value, combine);
            }
        };
        let places = self.places.tags.len() * (size_of::<(K, V)>() + 1);
        let holds = places as u64 + self.elsewhere;
        match holds.checked_sub(self.room.bytes()) {
            Some(more) => self.room.take(more),
            None => self.room.shrink(self.room.bytes() - holds),
        }
        left
    }

    /// The hashes of the next keys, whose places are going to be looked at; how many.
    #[inline]
    fn look_ahead(&self, pairs: &mut Records<'_, (K, V)>, hashes: &mut [u64; BLOCK]) -> usize {
        let (mut many, seed) = (0, self.seed);
        for (place, (key, _)) in hashes.iter_mut().zip(pairs) {
            *place = key.hash(seed);
            let at = *place as usize & self.places.tags.len().wrapping_sub(1);
            prefetch::to_write(self.places.tags.as_ptr().wrapping_add(at));
            prefetch::to_write(self.places.pairs.as_ptr().wrapping_add(at).cast());
            many += 1;
        }
        many
    }

    /// There is room for so many keys more; or false, if keys are too far from their places.
    #[inline]
    fn make_room(&mut self, more: usize) -> bool {
        while self.len + more > self.most {
            if !self.grow() {
                return false;
            }
        }
        true
    }

    #[cold]
    fn grow(&mut self) -> bool {
        if self.most == 0 && self.len > 0 {
            return false;
        }
        let places = (2 * self.places.tags.len()).max(LEAST);
        let mut old = std::mem::replace(&mut self.places, Places::new(places));
        for at in 0..old.tags.len() {
            if let Some((key, value)) = old.take(at) {
                let (hash, mask) = (key.hash(self.seed), places - 1);
                let mut at = hash as usize & mask;
                while self.places.tags[at] != 0 {
                    at = (at + 1) & mask;
                }
                self.places.pairs[at].write((key, value));
                self.places.tags[at] = tag(hash);
            }
        }
        self.most = places / 8 * FULL;
        true
    }

    /// Adds a pair; there is room for it.
    #[inline]
    fn add(&mut self, hash: u64, key: K, value: V, combine: &mut impl FnMut(&mut V, V)) {
        let Places { tags, pairs } = &mut self.places;
        let (tag, mask) = (tag(hash), tags.len() - 1);
        let mut at = hash as usize & mask;
        loop {
            match tags[at] {
                0 => break,
                there if there == tag => {
                    // SAFETY: a place with a tag has a pair.
                    let there = unsafe { pairs[at].assume_init_mut() };
                    if there.0.same(&key) {
                        let before = elsewhere(&there.1);
                        combine(&mut there.1, value);
                        self.elsewhere = (self.elsewhere + elsewhere(&there.1)).saturating_sub(before);
                        return;
                    }
                }
                _ => {}
            }
            at = (at + 1) & mask;
        }
        if at.wrapping_sub(hash as usize) & mask > FARTHEST {
            // It is told when there is to be room for more: so nothing is asked where keys are looked for.
            self.most = 0;
        }
        self.elsewhere += elsewhere(&key) + elsewhere(&value);
        pairs[at].write((key, value));
        tags[at] = tag;
        self.len += 1;
    }

    /// All pairs; none are left.
    pub(crate) fn take(&mut self) -> TakenPairs<K, V> {
        let room = self.room.split(u64::MAX);
        (self.elsewhere, self.len, self.most) = (0, 0, 0);
        TakenPairs { places: std::mem::replace(&mut self.places, Places::new(0)), at: 0, _room: room }
    }
}

/// Of a place that is taken: other bits of the hash than its place has.
#[inline]
fn tag(hash: u64) -> u8 {
    0x80 | (hash >> 57) as u8
}

/// Pairs that were taken out of a table.
pub(crate) struct TakenPairs<K, V> {
    places: Places<K, V>,
    at: usize,
    /// Given back when they are gone.
    _room: Reservation,
}

impl<K, V> Iterator for TakenPairs<K, V> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        while self.at < self.places.tags.len() {
            self.at += 1;
            if let Some(pair) = self.places.take(self.at - 1) {
                return Some(pair);
            }
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Reader, Writer};
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::collections::BTreeMap;

    thread_local! {
        static ALIVE: Cell<i64> = const { Cell::new(0) };
    }

    /// A key that counts how many there are, and whose hashes may all be the same.
    #[derive(Debug)]
    struct Counted<const SAME: bool>(u64);

    impl<const SAME: bool> Counted<SAME> {
        fn new(key: u64) -> Counted<SAME> {
            ALIVE.set(ALIVE.get() + 1);
            Counted(key)
        }
    }

    impl<const SAME: bool> Drop for Counted<SAME> {
        fn drop(&mut self) {
            ALIVE.set(ALIVE.get() - 1);
        }
    }

    impl<const SAME: bool> Record for Counted<SAME> {
        const SIZE: Option<usize> = Some(8);

        fn size(&self) -> usize {
            8
        }

        fn put(&self, out: &mut Writer<'_>) -> Option<()> {
            self.0.put(out)
        }

        fn get(input: &mut Reader<'_>) -> Option<Counted<SAME>> {
            u64::get(input).map(Counted::new)
        }
    }

    impl<const SAME: bool> Key for Counted<SAME> {
        fn hash(&self, seed: u64) -> u64 {
            if SAME { 7 } else { self.0.hash(seed) }
        }

        fn order(&self, other: &Counted<SAME>) -> Ordering {
            self.0.cmp(&other.0)
        }
    }

    /// Adds batches, takes some of the pairs and drops the others; nothing is lost, kept or there twice.
    fn check<const SAME: bool>(batches: &[Vec<u64>], take: usize) {
        let memory = Memory::new(1 << 30);
        let mut want: BTreeMap<u64, u64> = BTreeMap::new();
        let mut table: Table<Counted<SAME>, u64> = Table::new(&memory, SEED);
        for keys in batches {
            let batch = keys.iter().map(|key| (Counted::new(*key), 1)).collect();
            assert!(table.add_all(&batch, &mut |a, b| *a += b).is_none());
            keys.iter().for_each(|key| *want.entry(*key).or_default() += 1);
        }
        assert_eq!(ALIVE.get(), want.len() as i64);
        assert_eq!(table.bytes(), memory.used());
        let mut taken = table.take();
        let some: Vec<(u64, u64)> = taken.by_ref().take(take).map(|(key, sum)| (key.0, sum)).collect();
        assert!(some.iter().all(|(key, sum)| want.get(key) == Some(sum)));
        let distinct: std::collections::BTreeSet<u64> = some.iter().map(|pair| pair.0).collect();
        assert_eq!((some.len(), distinct.len()), (take.min(want.len()), some.len()));
        drop(taken);
        assert_eq!((ALIVE.get(), memory.used(), table.bytes()), (0, 0, 0));
        // It can be filled again.
        let again = std::iter::once((Counted::new(3), 4)).collect();
        assert!(table.add_all(&again, &mut |a, b| *a += b).is_none());
        assert_eq!(table.take().map(|(key, sum)| (key.0, sum)).collect::<Vec<_>>(), [(3, 4)]);
    }

    proptest! {
        #[test]
        fn as_a_map(
            batches in prop::collection::vec(prop::collection::vec(0u64..400, 0..200), 0..12),
            take in 0usize..500,
        ) {
            check::<false>(&batches, take);
            check::<true>(&batches, take);
        }
    }

    /// Too many keys of one hash: what is left and what was taken are all that came.
    fn refuse<K: Key>(key: impl Fn(u64) -> K, number: impl Fn(&K) -> u64) {
        let mut table: Table<K, u64> = Table::new(&Memory::new(1 << 30), SEED);
        let batch: Batch<(K, u64)> = (0..2000).map(|i| (key(i), i)).collect();
        let left: Vec<(K, u64)> = table.add_all(&batch, &mut |a, b| *a += b).unwrap().collect();
        assert!((1400..2000 - FARTHEST).contains(&left.len()), "{}", left.len());
        // From then on it takes none.
        assert_eq!(table.add_all(&batch, &mut |a, b| *a += b).unwrap().count(), 2000);
        let mut all: Vec<u64> = table.take().chain(left).map(|pair| number(&pair.0)).collect();
        all.sort();
        assert!(all.into_iter().eq(0..2000));
        // And then it does again.
        let few: Batch<(K, u64)> = (0..300).map(|i| (key(i), i)).collect();
        assert!(table.add_all(&few, &mut |a, b| *a += b).is_none());
        assert_eq!(table.take().count(), 300);
    }

    #[test]
    fn too_many_keys_of_one_hash_are_refused() {
        refuse(Counted::<true>::new, |key| key.0);
        // Of no one size.
        refuse(|key| (Counted::<true>::new(key), "x".repeat(9)), |key| key.0.0);
        assert_eq!(ALIVE.get(), 0);
    }

    /// Whether a table takes all that several others have, in the order of their places and a batch of each in turn.
    fn takes_those_of_others(seed: u64) -> bool {
        let memory = Memory::new(1 << 30);
        let mut others: Vec<TakenPairs<u64, u64>> = (0..8)
            .map(|other| {
                let mut table = Table::new(&memory, SEED);
                let batch = (0..20_000).map(|i| (i * 8 + other, 1)).collect();
                assert!(table.add_all(&batch, &mut |a, b| *a += b).is_none());
                table.take()
            })
            .collect();
        let mut table: Table<u64, u64> = Table::new(&memory, seed);
        let mut round = || {
            others.iter_mut().all(|other| {
                let batch: Batch<(u64, u64)> = other.take(500).collect();
                table.add_all(&batch, &mut |a, b| *a += b).is_none()
            })
        };
        (0..40).all(|_| round())
    }

    #[test]
    fn pairs_of_several_tables_go_to_one_with_another_seed() {
        assert!(takes_those_of_others(SEED ^ 1) && !takes_those_of_others(SEED));
    }
}
