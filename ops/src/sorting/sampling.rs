//! [`Sampler`] and [`Splitters`]: how records are spread over the ranges of a sort (sample sort: Frazer and McKellar, *Samplesort*, 1970).
//!
//! What is sampled, and what splits, is not a key but a record: (key, rank, place there). So a range may begin among equal keys, and
//! even if all are equal, ranges are as even as ever; and since that is also the order of equal keys, the sort stays stable.

use super::by::{self, SortBy};
use crate::key::Key;
use crate::memory::Reservation;
use crate::record::{Reader, Record, Writer};
use crate::table::elsewhere;
use std::cmp::Ordering;

/// (key, rank that it is on, its place there, records that it stands for)
pub(crate) type Sample<K> = (K, u32, u64, u64);
/// (key, rank, place): the first record of a range.
pub(crate) type Splitter<K> = (K, u32, u64);

/// Records of the sample for each range: with so many, the largest range is rarely half as large again as the mean.
pub(crate) const SAMPLE: usize = 64;
/// The samples of all ranks together take no more than this part of the budget of one that they come to. (Of long records there are
/// fewer then.)
pub(crate) const SAMPLE_SHARE: u64 = 32;
/// However long they are, a rank chooses from so many.
const FEWEST: usize = 32;

/// What a sample takes in memory.
pub(crate) fn takes<K: Record>(key: &K) -> u64 {
    size_of::<Sample<K>>() as u64 + elsewhere(key)
}

/// Chooses records of a rank: from stretches of the same length one each, at random. (One in so many would meet the same
/// place of what repeats itself.)
pub(crate) struct Sampler<K> {
    /// (place, key)
    chosen: Vec<(u64, K)>,
    most: usize,
    /// Bytes that they are to take at most, however few they are then; and that they do.
    most_bytes: u64,
    room: Reservation,
    /// Records of a stretch.
    stretch: u64,
    seen: u64,
    /// The next place to choose.
    next: u64,
    random: u64,
}

impl<K: Record> Sampler<K> {
    /// Of up to `most` records and bytes, which come out of `room`; the same for the same seed.
    pub(crate) fn new(most: usize, most_bytes: u64, room: Reservation, seed: u64) -> Sampler<K> {
        Sampler {
            chosen: Vec::new(),
            most: most.max(2),
            most_bytes,
            room,
            stretch: 1,
            seen: 0,
            next: 0,
            random: seed,
        }
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// The next record has come.
    #[inline]
    pub(crate) fn see(&mut self, key: &K) {
        if self.seen == self.next {
            self.choose(key);
        }
        self.seen += 1;
    }

    #[cold]
    fn choose(&mut self, key: &K) {
        // A record need not be one that can be copied; its bytes can. (What cannot be written is told where it is inserted.)
        let size = key.size();
        let mut bytes = vec![0; if size == usize::MAX { 0 } else { size }];
        if key.put(&mut Writer::new(&mut bytes, 0)).is_some()
            && let Some(key) = K::get(&mut Reader::new(&bytes))
        {
            self.room.take(takes(&key));
            self.chosen.push((self.seen, key));
        }
        let is_too_long = self.room.bytes() > self.most_bytes && self.chosen.len() >= FEWEST;
        if self.chosen.len() >= self.most || is_too_long {
            // Of two stretches one is made, of two records one is left.
            let keep = self.random();
            let mut place = 0u32;
            self.chosen.retain(|_| {
                place += 1;
                u64::from(place - 1) % 2 == keep >> (place / 2 % 64) & 1
            });
            self.stretch *= 2;
            let left = self.chosen.iter().map(|(_, key)| takes(key)).sum();
            self.room.shrink(self.room.bytes().saturating_sub(left));
        }
        let begun = (self.seen / self.stretch + 1) * self.stretch;
        self.next = begun + self.random() % self.stretch;
    }

    /// What was chosen. (What it takes stays reserved.)
    pub(crate) fn take(&mut self, rank: u32) -> impl Iterator<Item = Sample<K>> {
        let stretch = self.stretch;
        std::mem::take(&mut self.chosen).into_iter().map(move |(place, key)| (key, rank, place, stretch))
    }

    /// What was taken is gone.
    pub(crate) fn clear(&mut self) {
        self.room.shrink(u64::MAX);
    }
}

/// Splitters of so many ranges, each with as many records, as far as samples tell.
pub(crate) fn split<T, S: SortBy<T>>(
    mut samples: Vec<Sample<S::Key>>,
    ranges: usize,
) -> Vec<Splitter<S::Key>> {
    samples.sort_by(|a, b| by::order::<T, S>(&a.0, &b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let all: u128 = samples.iter().map(|sample| u128::from(sample.3)).sum();
    let mut splitters = Vec::with_capacity(ranges);
    let mut before = 0u128;
    for (key, rank, place, stands_for) in samples {
        let next = splitters.len() + 1;
        if next < ranges && before * ranges as u128 >= all * next as u128 && before > 0 {
            splitters.push((key, rank, place));
        }
        before += u128::from(stands_for);
    }
    splitters
}

/// Ranges that prefixes are looked up in, as many as stay in the first-level cache beside what is written to.
const TABLE: usize = 1 << 11;

/// Where ranges begin.
pub(crate) struct Splitters<T, S: SortBy<T>> {
    splitters: Vec<(u64, Splitter<S::Key>)>,
    /// By the first bits of how far a prefix is from the first splitter's: how many splitters are surely below.
    table: Vec<u32>,
    first: u64,
    shift: u32,
}

impl<T, S: SortBy<T>> Splitters<T, S> {
    /// Ascending ones.
    pub(crate) fn new(splitters: Vec<Splitter<S::Key>>) -> Splitters<T, S> {
        let splitters: Vec<_> =
            splitters.into_iter().map(|splitter| (by::prefix::<T, S>(&splitter.0), splitter)).collect();
        let (first, last) = match (splitters.first(), splitters.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            _ => (0, 0),
        };
        let mut shift = 0;
        while (last - first) >> shift >= TABLE as u64 {
            shift += 1;
        }
        let cells = ((last - first) >> shift) as usize + 1;
        let mut table = vec![0u32; cells + 1];
        for (prefix, _) in &splitters {
            table[((prefix - first) >> shift) as usize + 1] += 1;
        }
        for cell in 0..cells {
            table[cell + 1] += table[cell];
        }
        Splitters { splitters, table, first, shift }
    }

    /// The same, for a loop that looks up many.
    pub(crate) fn by_ref(&self) -> SplittersRef<'_, T, S> {
        let Splitters { splitters, table, first, shift } = self;
        SplittersRef { splitters, table, first: *first, shift: *shift }
    }
}

/// [`Splitters`] that lie in registers: what a loop writes may be them, for all that the compiler knows.
pub(crate) struct SplittersRef<'a, T, S: SortBy<T>> {
    splitters: &'a [(u64, Splitter<S::Key>)],
    table: &'a [u32],
    first: u64,
    shift: u32,
}

impl<T, S: SortBy<T>> SplittersRef<'_, T, S> {
    /// The range of a record of a rank.
    #[inline]
    pub(crate) fn range_of(&self, key: &S::Key, rank: u32, place: u64) -> u32 {
        let prefix = by::prefix::<T, S>(key);
        let cell = (prefix.saturating_sub(self.first) >> self.shift) as usize;
        // (Beyond the last splitter's cell, all are below.)
        let Some([low, high]) = self.table.get(cell..).and_then(<[u32]>::first_chunk) else {
            return self.splitters.len() as u32;
        };
        let some = &self.splitters[*low as usize..*high as usize];
        let is_below = |(first, splitter): &(u64, Splitter<S::Key>)| match first.cmp(&prefix) {
            Ordering::Equal => {
                let order = match S::Key::PREFIX_IS_ALL {
                    true => Ordering::Equal,
                    false => by::order::<T, S>(&splitter.0, key),
                };
                order.then((splitter.1, splitter.2).cmp(&(rank, place))).is_le()
            }
            order => order.is_lt(),
        };
        low + match some.len() {
            0 => 0,
            1..=4 => some.iter().take_while(|splitter| is_below(splitter)).count() as u32,
            _ => some.partition_point(is_below) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::sorting::by::{Ascending, Descending};
    use proptest::prelude::*;

    fn mix(i: u64) -> u64 {
        (i ^ i >> 5).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    /// Records of two ranks in so many ranges: how many are in each.
    fn spread<S: SortBy<u64, Key = u64>>(n: u64, ranges: usize, key: impl Fn(u32, u64) -> u64) -> Vec<u64> {
        let mut samples = Vec::new();
        for rank in 0..2 {
            let room = Memory::new(1 << 20).reserve();
            let mut sampler = Sampler::new(ranges * 64, 1 << 20, room, u64::from(rank));
            (0..n).for_each(|i| sampler.see(&key(rank, i)));
            samples.extend(sampler.take(rank));
        }
        assert!(samples.len() <= ranges * 128);
        let splitters = Splitters::<u64, S>::new(split::<u64, S>(samples, ranges));
        let mut counts = vec![0; ranges];
        let mut last: Vec<Option<(u64, u32, u64)>> = vec![None; ranges];
        for rank in 0..2 {
            for i in 0..n {
                let key = key(rank, i);
                let range = splitters.by_ref().range_of(&key, rank, i) as usize;
                counts[range] += 1;
                let place = (if S::DESCENDING { !key } else { key }, rank, i);
                last[range] = last[range].max(Some(place));
            }
        }
        // The last of a range is before all of the next.
        for rank in 0..2 {
            for i in 0..n {
                let key = key(rank, i);
                let range = splitters.by_ref().range_of(&key, rank, i) as usize;
                let place = (if S::DESCENDING { !key } else { key }, rank, i);
                assert!(range == 0 || last[range - 1] < Some(place));
            }
        }
        counts
    }

    #[test]
    fn ranges_are_even_and_in_order() {
        let even = |counts: Vec<u64>, what: &str| {
            let mean = counts.iter().sum::<u64>() / counts.len() as u64;
            assert!(counts.iter().all(|n| (mean / 2..=mean * 2).contains(n)), "{what}: {counts:?}");
        };
        for ranges in [1, 2, 7, 64] {
            even(spread::<Ascending>(60_000, ranges, |_, i| mix(i)), "random");
            even(spread::<Descending>(60_000, ranges, |_, i| mix(i)), "random, descending");
            even(spread::<Ascending>(60_000, ranges, |r, i| i + 60_000 * u64::from(r)), "ascending");
            even(spread::<Ascending>(60_000, ranges, |_, i| u64::MAX - i), "descending");
            even(spread::<Ascending>(60_000, ranges, |_, _| 7), "all equal");
            even(spread::<Descending>(60_000, ranges, |_, i| i % 3), "three keys");
            even(spread::<Ascending>(60_000, ranges, |_, i| (i % 1024) << 40), "again and again");
            even(spread::<Ascending>(60_000, ranges, |_, i| 1 << (i % 64)), "powers");
        }
    }

    #[test]
    fn long_keys_are_few() {
        let memory = Memory::new(1 << 20);
        let mut sampler = Sampler::new(4096, 32 << 10, memory.reserve(), 7);
        (0..5000).for_each(|i| sampler.see(&format!("{i:0>500}")));
        assert!(memory.peak() < 34 << 10, "{}", memory.peak());
        let chosen: Vec<_> = sampler.take(0).collect();
        assert!((FEWEST..64).contains(&chosen.len()), "{}", chosen.len());
        assert_eq!(chosen.iter().map(|sample| takes(&sample.0)).sum::<u64>(), memory.used());
        // Those that are longer still are no fewer.
        let mut sampler = Sampler::new(4096, 1000, memory.reserve(), 7);
        (0..5000).for_each(|i| sampler.see(&format!("{i:0>500}")));
        let few = sampler.take(0).count();
        assert!((FEWEST / 4..FEWEST).contains(&few), "{few}");
    }

    proptest! {
        #[test]
        fn any_keys_are_in_order(keys in prop::collection::vec(0u64..50, 1..200), ranges in 1usize..20) {
            spread::<Ascending>(keys.len() as u64, ranges, |rank, i| keys[i as usize] << (rank * 7));
        }
    }
}
