//! [`KvTable`]: keys with values, of which equal ones are combined.

use crate::array::Element;
use crate::combiner::Combiner;
use crate::data::Serde;
use crate::error::{HarpError, Result};
use crate::spread::Spread;
use crate::table::Added;
use aeolian_net::Buf;
use bytemuck::PodCastError;
use hashbrown::HashTable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};

/// What keys and values are made of: an [`Element`] type, whose columns move as they lie, or any `serde` type ([`Serde`]).
///
/// An element of no bytes, as `()`, is refused by the compiler where it would be sent; `Serde<()>` is not.
///
/// As with tables, `KvTable<u64, f64, Sum>` has keys of type `u64`, and `KvTable<Serde<String>, u32, Sum>` keys of type `String`.
pub trait Field: 'static {
    /// One key or value.
    type Value: Clone + 'static;
    /// What a combiner gets to see of a value: a slice of one element, or the value itself of a `serde` type.
    type Unit: ?Sized;

    /// A value as a combiner sees it.
    fn unit(value: &Self::Value) -> &Self::Unit;

    /// As [`Field::unit`], to write.
    fn unit_mut(value: &mut Self::Value) -> &mut Self::Unit;

    /// The bytes of a column, for another rank.
    fn column(values: Vec<Self::Value>) -> Result<Buf, String>;

    /// The bytes of the parts of a column, for each rank. The column is empty then, and keeps its memory.
    fn columns(values: &mut Vec<Self::Value>, spread: &Spread) -> Result<Vec<Buf>, String>;

    /// The column of which these are the bytes.
    fn values(bytes: &[u8]) -> Result<Cow<'_, [Self::Value]>, String>;
}

impl<T: Element> Field for T {
    type Value = T;
    type Unit = [T];

    fn unit(value: &T) -> &[T] {
        std::slice::from_ref(value)
    }

    fn unit_mut(value: &mut T) -> &mut [T] {
        std::slice::from_mut(value)
    }

    fn column(values: Vec<T>) -> Result<Buf, String> {
        Ok(Buf::from_pod(&values))
    }

    fn columns(values: &mut Vec<T>, spread: &Spread) -> Result<Vec<Buf>, String> {
        let bufs = spread.column(values);
        values.clear();
        Ok(bufs)
    }

    fn values(bytes: &[u8]) -> Result<Cow<'_, [T]>, String> {
        // Of such, the bytes do not tell how many there are.
        const { assert!(size_of::<T>() > 0, "an element of no bytes cannot be a key or value; `Serde` of it can") };
        match bytemuck::try_cast_slice(bytes) {
            Ok(values) => Ok(Cow::Borrowed(values)),
            // What a peer shows need not lie as these elements want it.
            Err(PodCastError::TargetAlignmentGreaterAndInputNotAligned)
                if bytes.len().is_multiple_of(size_of::<T>()) =>
            {
                let elements = bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned);
                Ok(Cow::Owned(elements.collect()))
            }
            Err(e) => Err(e.to_string()),
        }
    }
}

impl<V: Serialize + DeserializeOwned + Clone + 'static> Field for Serde<V> {
    type Value = V;
    type Unit = V;

    fn unit(value: &V) -> &V {
        value
    }

    fn unit_mut(value: &mut V) -> &mut V {
        value
    }

    fn column(values: Vec<V>) -> Result<Buf, String> {
        // As a column of elements: what has no rows need not be sent.
        if values.is_empty() {
            return Ok(Buf::empty());
        }
        Ok(Buf::from_slice(&postcard::to_stdvec(&values).map_err(|e| e.to_string())?))
    }

    fn columns(values: &mut Vec<V>, spread: &Spread) -> Result<Vec<Buf>, String> {
        spread.values(values.drain(..)).into_iter().map(Self::column).collect()
    }

    fn values(bytes: &[u8]) -> Result<Cow<'_, [V]>, String> {
        if bytes.is_empty() {
            return Ok(Cow::Borrowed(&[]));
        }
        match postcard::take_from_bytes(bytes) {
            Ok((values, [])) => Ok(Cow::Owned(values)),
            Ok((_, rest)) => Err(format!("{} bytes after a column", rest.len())),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// The hash of a key: the same on all ranks, and not for guarding against keys that were chosen to collide.
pub(crate) fn hash<K: Hash>(key: &K) -> u64 {
    foldhash::quality::FixedState::with_seed(0x6165_6f6c_6961_6e00).hash_one(key)
}

/// The rank that a key belongs to: a multiplication of the hash's lower half, so that the upper bits, by which the table of that
/// rank is searched, stay evenly spread.
pub(crate) fn rank_of_hash(hash: u64, size: u32) -> u32 {
    (((hash & 0xffff_ffff) * u64::from(size)) >> 32) as u32
}

/// Keys and values on one rank; a value that is added to a key that is there is combined with its value.
///
/// Keys and values lie in two columns, in the order in which keys came first, beside a hash index (Harp has six such tables, by the types of
/// key and value).
///
/// ```
/// use aeolian_harp::{Added, KvTable, Serde, Sum};
/// let mut words = KvTable::<Serde<String>, u32, Sum>::new(Sum);
/// for word in "the wind in the harp".split(' ') {
///     words.add(word.to_string(), 1);
/// }
/// assert_eq!(words.get(&"the".to_string()), Some(&2));
/// assert_eq!(words.add("harp".to_string(), 1), Added::Combined);
/// assert_eq!(words.len(), 4);
/// ```
pub struct KvTable<K: Field, V: Field, C> {
    keys: Vec<K::Value>,
    values: Vec<V::Value>,
    index: HashTable<usize>,
    combiner: C,
}

impl<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>> KvTable<K, V, C> {
    /// A table without keys.
    pub fn new(combiner: C) -> KvTable<K, V, C> {
        KvTable { keys: Vec::new(), values: Vec::new(), index: HashTable::new(), combiner }
    }

    /// Adds a value to a key.
    pub fn add(&mut self, key: K::Value, value: V::Value) -> Added {
        let hash = hash(&key);
        self.add_hashed(hash, key, value)
    }

    fn add_hashed(&mut self, hash_of_key: u64, key: K::Value, value: V::Value) -> Added {
        let keys = &self.keys;
        match self.index.entry(hash_of_key, |&at| keys[at] == key, |&at| hash(&keys[at])) {
            hashbrown::hash_table::Entry::Occupied(there) => {
                let have = &mut self.values[*there.get()];
                self.combiner.combine(V::unit_mut(have), V::unit(&value));
                Added::Combined
            }
            hashbrown::hash_table::Entry::Vacant(free) => {
                free.insert(self.keys.len());
                self.keys.push(key);
                self.values.push(value);
                Added::Inserted
            }
        }
    }

    /// Makes room for so many more keys.
    pub fn reserve(&mut self, more: usize) {
        self.keys.reserve(more);
        self.values.reserve(more);
        let keys = &self.keys;
        self.index.reserve(more, |&at| hash(&keys[at]));
    }

    /// The value of a key.
    pub fn get(&self, key: &K::Value) -> Option<&V::Value> {
        self.index.find(hash(key), |&at| self.keys[at] == *key).map(|&at| &self.values[at])
    }

    /// The value of a key, to write.
    pub fn get_mut(&mut self, key: &K::Value) -> Option<&mut V::Value> {
        let at = *self.index.find(hash(key), |&at| self.keys[at] == *key)?;
        Some(&mut self.values[at])
    }

    /// How many keys are here.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All keys with their values, in the order in which the keys came first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K::Value, &V::Value)> {
        self.keys.iter().zip(&self.values)
    }

    /// All keys, in the order in which they came first.
    pub fn keys(&self) -> &[K::Value] {
        &self.keys
    }

    /// The values, in the order of [`keys`](KvTable::keys).
    pub fn values(&self) -> &[V::Value] {
        &self.values
    }

    /// Drops all keys.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.index.clear();
    }

    /// The combiner.
    pub fn combiner(&self) -> &C {
        &self.combiner
    }

    /// Takes the columns out.
    pub(crate) fn take(&mut self) -> Columns<K, V> {
        self.index.clear();
        Columns { keys: std::mem::take(&mut self.keys), values: std::mem::take(&mut self.values) }
    }

    /// Takes the columns out, in parts for each rank. The memory stays, for the rows that will come.
    pub(crate) fn take_by_rank(&mut self, size: u32) -> Result<Vec<(Buf, Buf)>> {
        self.index.clear();
        by_rank::<K, V>(&mut self.keys, &mut self.values, size)
    }

    /// Adds rows of other ranks: each rank's number with its columns of keys and values.
    pub(crate) fn absorb<'b>(
        &mut self,
        columns: impl IntoIterator<Item = (u32, &'b [u8], &'b [u8])>,
    ) -> Result<()> {
        let mut decoded = Vec::new();
        for (rank, keys, values) in columns {
            let bad = |what: String| HarpError::Decode { rank, what };
            let (keys, values) = (K::values(keys).map_err(bad)?, V::values(values).map_err(bad)?);
            if keys.len() != values.len() {
                return Err(bad(format!("{} keys and {} values", keys.len(), values.len())));
            }
            decoded.push((keys, values));
        }
        if self.is_empty() {
            // All of them, unless the ranks may have the same keys: then a table grows as others do.
            let rows = || decoded.iter().map(|(keys, _)| keys.len());
            self.reserve(rows().sum::<usize>().min(2 * rows().max().unwrap_or(0)));
        }
        for (keys, values) in decoded {
            for (key, value) in keys.iter().zip(values.iter()) {
                self.add(key.clone(), value.clone());
            }
        }
        Ok(())
    }
}

/// Two columns in parts for each rank; they are empty then.
pub(crate) fn by_rank<K: Field<Value: Hash>, V: Field>(
    keys: &mut Vec<K::Value>,
    values: &mut Vec<V::Value>,
    size: u32,
) -> Result<Vec<(Buf, Buf)>> {
    let spread = Spread::new(keys, size);
    let keys = K::columns(keys, &spread).map_err(|what| HarpError::Encode { id: 0, what })?;
    let values = V::columns(values, &spread).map_err(|what| HarpError::Encode { id: 1, what })?;
    Ok(keys.into_iter().zip(values).collect())
}

/// The columns of some rows.
pub(crate) struct Columns<K: Field, V: Field> {
    pub(crate) keys: Vec<K::Value>,
    pub(crate) values: Vec<V::Value>,
}

impl<K: Field, V: Field> Columns<K, V> {
    /// As buffers for another rank: the keys and the values.
    pub(crate) fn encode(self) -> Result<(Buf, Buf)> {
        let keys = K::column(self.keys).map_err(|what| HarpError::Encode { id: 0, what })?;
        let values = V::column(self.values).map_err(|what| HarpError::Encode { id: 1, what })?;
        Ok((keys, values))
    }
}

/// Keys with all their values, as [`group_by_key`](crate::group_by_key) returns them.
pub struct Groups<K: Field, V: Field> {
    pub(crate) keys: Vec<K::Value>,
    /// Where the values of each key begin; one more at the end.
    pub(crate) begins: Vec<usize>,
    pub(crate) values: Vec<V::Value>,
}

impl<K: Field<Value: Hash + Eq>, V: Field> Groups<K, V> {
    /// Groups rows; the values of a key keep their order.
    pub(crate) fn new(rows: Columns<K, V>) -> Groups<K, V> {
        let mut index: HashTable<usize> = HashTable::new();
        let mut keys: Vec<K::Value> = Vec::new();
        let mut group = Vec::with_capacity(rows.keys.len());
        let mut begins = vec![0];
        for key in rows.keys {
            let found = index.entry(hash(&key), |&at| keys[at] == key, |&at| hash(&keys[at]));
            let at = match found {
                hashbrown::hash_table::Entry::Occupied(there) => *there.get(),
                hashbrown::hash_table::Entry::Vacant(free) => {
                    free.insert(keys.len());
                    keys.push(key);
                    begins.push(0);
                    keys.len() - 1
                }
            };
            begins[at + 1] += 1;
            group.push(at);
        }
        (0..keys.len()).for_each(|k| begins[k + 1] += begins[k]);
        // A counting sort: from which row each place is filled.
        let mut next = begins.clone();
        let mut row_of = vec![0; group.len()];
        for (row, at) in group.into_iter().enumerate() {
            row_of[next[at]] = row;
            next[at] += 1;
        }
        let mut rows: Vec<Option<V::Value>> = rows.values.into_iter().map(Some).collect();
        let values = row_of.into_iter().filter_map(|row| rows[row].take()).collect();
        Groups { keys, begins, values }
    }

    /// How many keys are here.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Each key with its values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K::Value, &[V::Value])> {
        self.keys.iter().zip(self.begins.windows(2)).map(|(key, b)| (key, &self.values[b[0]..b[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combiner::Sum;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_column_may_lie_anywhere() {
        let bytes: Vec<u8> = (0..65).collect();
        for from in 0..8 {
            let column = <u64 as Field>::values(&bytes[from..from + 16]).unwrap();
            let want = [from, from + 8].map(|at| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()));
            assert_eq!(column[..], want);
            assert!(<u64 as Field>::values(&bytes[from..from + 15]).is_err());
        }
    }

    proptest! {
        #[test]
        fn equals_a_map(rows in prop::collection::vec((0u16..40, any::<u32>()), 0..300), size in 1u32..9) {
            let mut table = KvTable::<u16, u64, Sum>::new(Sum);
            let mut map = BTreeMap::new();
            for &(key, value) in &rows {
                table.add(key, u64::from(value));
                *map.entry(key).or_insert(0) += u64::from(value);
            }
            let mut sorted: Vec<_> = table.iter().map(|(k, v)| (*k, *v)).collect();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, map.clone().into_iter().collect::<Vec<_>>());
            prop_assert!(map.iter().all(|(k, v)| table.get(k) == Some(v)) && table.get(&99).is_none());
            let parts = table.take_by_rank(size).unwrap();
            prop_assert!(table.is_empty() && table.get(&rows.first().map_or(0, |r| r.0)).is_none());
            for ((keys, _), rank) in parts.iter().zip(0..) {
                prop_assert!(keys.cast::<u16>().iter().all(|k| rank_of_hash(hash(k), size) == rank));
            }
            table.absorb(parts.iter().zip(0..).map(|((k, v), rank)| (rank, &k[..], &v[..]))).unwrap();
            let mut sorted: Vec<_> = table.iter().map(|(k, v)| (*k, *v)).collect();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, map.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn groups_keep_the_order_of_their_rows(rows in prop::collection::vec((0u8..10, any::<u32>()), 0..200)) {
            let columns = Columns::<u8, u32> { keys: rows.iter().map(|r| r.0).collect(), values: rows.iter().map(|r| r.1).collect() };
            let groups = Groups::new(columns);
            let mut map: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
            rows.iter().for_each(|(k, v)| map.entry(*k).or_default().push(*v));
            prop_assert_eq!(groups.len(), map.len());
            for (key, values) in groups.iter() {
                prop_assert_eq!(values, &map[key][..]);
            }
        }
    }
}
