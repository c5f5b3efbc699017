//! [`SortBy`]: what records are sorted by.

use super::Rule;
use crate::batch;
use crate::key::Key;
use crate::record::{Reader, Record};
use crate::selector::{ByKey, Keyed};
use std::cmp::Ordering;
use std::marker::PhantomData;

/// By what key records are sorted, and which way.
///
/// ```
/// use aeolian_ops::{Key, SortBy};
/// struct ByYear;
/// impl SortBy<(String, u16)> for ByYear {
///     type Key = u16;
///     fn key(record: &(String, u16)) -> &u16 {
///         &record.1
///     }
/// }
/// ```
pub trait SortBy<T>: 'static {
    /// What is compared.
    type Key: Key;

    /// Whether the largest come first. (Equal ones stay in their order all the same.)
    const DESCENDING: bool = false;

    /// The key of a record.
    fn key(record: &T) -> &Self::Key;

    /// The record with this key, if a key is all that a record is.
    fn record(key: Self::Key) -> Option<T> {
        let _ = key;
        None
    }
}

/// By the whole record, which is a key; the least first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ascending;

impl<T: Key> SortBy<T> for Ascending {
    type Key = T;

    #[inline]
    fn key(record: &T) -> &T {
        record
    }

    #[inline]
    fn record(key: T) -> Option<T> {
        Some(key)
    }
}

impl<T: Keyed> SortBy<T> for ByKey {
    type Key = T::Key;

    #[inline]
    fn key(record: &T) -> &T::Key {
        record.key()
    }
}

/// The other way round: by the whole record, or as `S` says, the largest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Descending<S = Ascending>(pub S);

impl<T, S: SortBy<T>> SortBy<T> for Descending<S> {
    type Key = S::Key;
    const DESCENDING: bool = !S::DESCENDING;

    #[inline]
    fn key(record: &T) -> &S::Key {
        S::key(record)
    }

    #[inline]
    fn record(key: S::Key) -> Option<T> {
        S::record(key)
    }
}

/// The prefix of a key, whichever way it is sorted.
#[inline]
pub(crate) fn prefix<T, S: SortBy<T>>(key: &S::Key) -> u64 {
    if S::DESCENDING { !key.prefix() } else { key.prefix() }
}

/// The order of two keys, whichever way they are sorted.
#[inline]
pub(crate) fn order<T, S: SortBy<T>>(a: &S::Key, b: &S::Key) -> Ordering {
    if S::DESCENDING { b.order(a) } else { a.order(b) }
}

/// The rule of `S`.
pub(crate) struct Of<T, S>(PhantomData<fn() -> (T, S)>);

impl<T: Record, S: SortBy<T>> Rule for Of<T, S> {
    type Record = T;
    type View = T;
    const PREFIX_IS_ALL: bool = S::Key::PREFIX_IS_ALL;

    #[inline]
    fn read(input: &mut Reader<'_>) -> Option<T> {
        batch::get(input)
    }

    #[inline]
    fn prefix(record: &T) -> u64 {
        prefix::<T, S>(S::key(record))
    }

    #[inline]
    fn order(a: &T, b: &T) -> Ordering {
        order::<T, S>(S::key(a), S::key(b))
    }

    #[inline]
    fn from_prefix(prefix: u64) -> Option<T> {
        S::record(S::Key::from_prefix(if S::DESCENDING { !prefix } else { prefix })?)
    }
}

/// Pairs by their keys, ascending.
pub(crate) struct Keys<K, V>(PhantomData<fn() -> (K, V)>);

impl<K: Key, V: Record> Rule for Keys<K, V> {
    type Record = (K, V);
    type View = K;
    const PREFIX_IS_ALL: bool = K::PREFIX_IS_ALL;

    #[inline]
    fn read(input: &mut Reader<'_>) -> Option<K> {
        read_key::<K, V>(input)
    }

    #[inline]
    fn prefix(key: &K) -> u64 {
        key.prefix()
    }

    #[inline]
    fn order(a: &K, b: &K) -> Ordering {
        a.order(b)
    }
}

/// Of the hashes that pairs are brought together by; others have decided the target and its part.
const SEED: u64 = 0x7069_e74e_0000_0003;

/// Pairs with the same key together, in no order: by hash, which is even whatever the keys are.
pub(crate) struct Together<K, V>(PhantomData<fn() -> (K, V)>);

impl<K: Key, V: Record> Rule for Together<K, V> {
    type Record = (K, V);
    type View = K;
    const PREFIX_IS_ALL: bool = K::PREFIX_IS_ALL;

    #[inline]
    fn read(input: &mut Reader<'_>) -> Option<K> {
        read_key::<K, V>(input)
    }

    #[inline]
    fn prefix(key: &K) -> u64 {
        // A product with an odd number tells as much as the prefix, and is as even as a hash.
        if K::PREFIX_IS_ALL { key.prefix().wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { key.hash(SEED) }
    }

    #[inline]
    fn order(a: &K, b: &K) -> Ordering {
        a.order(b)
    }
}

/// The key of a pair, which is read to its end.
#[inline]
pub(crate) fn read_key<K: Key, V: Record>(input: &mut Reader<'_>) -> Option<K> {
    if <(K, V)>::SIZE == Some(0) {
        return Some(batch::get::<(K, V)>(input)?.0);
    }
    let key = K::get(input)?;
    V::skip(input)?;
    Some(key)
}
