//! [`Spread`]: in which order the rows of a key-value table are sent.

use crate::array::Element;
use aeolian_net::Buf;
use std::hash::Hash;

use crate::kv::{hash, rank_of_hash};

/// Index places (a byte and a word each) that stay in a core's cache while rows are added to them.
const NEAR: u32 = 1 << 16;

/// Most buckets: as many streams as a core can write at a time without missing its address cache.
const BUCKETS: u32 = 256;

/// Rows by the rank that their key belongs to, and within a rank by the region of its table where they will be looked up; otherwise in
/// their order. A rank that adds rows region by region has the index in its cache, where random keys would miss it.
pub struct Spread {
    /// `rank * regions + region`, of each row.
    buckets: Vec<u32>,
    /// Rows of each bucket.
    counts: Vec<usize>,
    regions: usize,
}

impl Spread {
    /// Over `size` ranks.
    pub(crate) fn new<K: Hash>(keys: &[K], size: u32) -> Spread {
        // The table of a rank that gets as many rows as this one has; its hash index starts to search at the lowest bits of a hash.
        let places = (keys.len() / 7 * 8).next_power_of_two().try_into().unwrap_or(u32::MAX);
        let regions = (places / NEAR).min(BUCKETS / size.next_power_of_two()).max(1).next_power_of_two();
        let shift = (places / regions).max(1).ilog2();
        let bucket = |key: &K| {
            let hash = hash(key);
            rank_of_hash(hash, size) * regions + ((hash >> shift) as u32 & (regions - 1))
        };
        let buckets: Vec<u32> = keys.iter().map(bucket).collect();
        let mut counts = vec![0; size as usize * regions as usize];
        buckets.iter().for_each(|&bucket| counts[bucket as usize] += 1);
        Spread { buckets, counts, regions: regions as usize }
    }

    /// Rows of each rank.
    fn of_ranks(&self) -> impl Iterator<Item = &[usize]> {
        self.counts.chunks_exact(self.regions)
    }

    /// A buffer for each rank with the bytes of its elements of a column.
    pub(crate) fn column<T: Element>(&self, values: &[T]) -> Vec<Buf> {
        let rows = |regions: &[usize]| regions.iter().sum::<usize>() * size_of::<T>();
        let mut bufs: Vec<Buf> = self.of_ranks().map(|regions| Buf::stale(rows(regions))).collect();
        let mut places = Vec::with_capacity(self.counts.len());
        for (buf, regions) in bufs.iter_mut().zip(self.of_ranks()) {
            let mut rest = buf.cast_mut::<T>();
            for &rows in regions {
                let (region, others) = rest.split_at_mut(rows.min(rest.len()));
                places.push(region.iter_mut());
                rest = others;
            }
        }
        for (&value, &bucket) in values.iter().zip(&self.buckets) {
            if let Some(place) = places[bucket as usize].next() {
                *place = value;
            }
        }
        bufs
    }

    /// The values of a column for each rank.
    pub(crate) fn values<V>(&self, values: impl Iterator<Item = V>) -> Vec<Vec<V>> {
        let mut buckets: Vec<Vec<V>> = self.counts.iter().map(|&rows| Vec::with_capacity(rows)).collect();
        values.zip(&self.buckets).for_each(|(value, &bucket)| buckets[bucket as usize].push(value));
        let mut buckets = buckets.into_iter();
        let ranks = self.counts.len() / self.regions;
        (0..ranks).map(|_| buckets.by_ref().take(self.regions).flatten().collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_of_a_rank_by_region_in_their_order() {
        for (rows, size) in [(0, 1), (1, 3), (1000, 5), (200_000, 2), (200_000, 3), (70_000, 300)] {
            // Every key several times, so that order shows.
            let keys: Vec<u64> = (0..rows).map(|i| (i * i) % 50_021).collect();
            let spread = Spread::new(&keys, size);
            assert_eq!(
                spread.regions > 1,
                rows == 200_000,
                "{rows} rows on {size} ranks: {}",
                spread.regions
            );
            let numbers: Vec<u32> = (0..rows as u32).collect();
            let (elements, values) = (spread.column(&numbers), spread.values(numbers.iter().copied()));
            assert_eq!((elements.len(), values.len()), (size as usize, size as usize));
            assert_eq!(values.iter().map(Vec::len).sum::<usize>(), rows as usize);
            for ((elements, values), rank) in elements.iter().zip(&values).zip(0..) {
                assert_eq!(elements.cast::<u32>(), &values[..]);
                let bucket = |row: u32| spread.buckets[row as usize];
                assert!(values.windows(2).all(|w| (bucket(w[0]), w[0]) < (bucket(w[1]), w[1])));
                assert!(values.iter().all(|&row| rank_of_hash(hash(&keys[row as usize]), size) == rank));
            }
        }
    }
}
