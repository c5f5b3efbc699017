//! Sorting of batches, in memory and beyond it.
//!
//! * [`by`]: what records are sorted by, and [`Rule`], what the sorters know of it: a prefix of 64 bits, and the order of those whose
//!   prefixes are the same.
//! * [`radix`]: 64 bits at a time, in the cache.
//! * [`memory`]: batches that are in memory. Records stay where they are; what moves is (prefix, place), and each record once, at the end.
//! * [`sampling`]: how records are spread over ranges.
//! * [`reduced`]: sorted pairs, those of the same key as one.
//! * [`sorter`], [`merge`]: runs on disk, and many of them as one (external merge sort: Knuth, *The Art of Computer Programming* 3, 5.4).
//!
//! All are stable: records that compare equal come by the rank that they are from, then in the order in which they came from there.

pub(crate) mod by;
pub(crate) mod memory;
pub(crate) mod merge;
mod radix;
pub(crate) mod reduced;
pub(crate) mod sampling;
pub(crate) mod sorter;

use crate::record::{Reader, Record};
use std::cmp::Ordering;

/// What the sorters know of records and their order.
pub(crate) trait Rule: 'static {
    /// What is sorted.
    type Record: Record;
    /// What of a record its order depends on.
    type View;

    /// Whether those with the same prefix are equal.
    const PREFIX_IS_ALL: bool;

    /// Reads a record to its end.
    fn read(input: &mut Reader<'_>) -> Option<Self::View>;

    /// If two prefixes differ, they tell the order.
    fn prefix(view: &Self::View) -> u64;

    fn order(a: &Self::View, b: &Self::View) -> Ordering;

    /// The record with this prefix, if a prefix is all that a record is.
    #[inline]
    fn from_prefix(prefix: u64) -> Option<Self::Record> {
        let _ = prefix;
        None
    }
}

/// Bytes that an entry of the table that is sorted takes, and its place in the other one between which entries go back and forth.
const ENTRY: usize = 2 * size_of::<radix::Entry>();

/// What it takes to sort so many records, beside their batches. (Where one is whose length varies is written down too.)
pub(crate) fn extra<T: Record>(records: u64) -> u64 {
    let place = if T::SIZE.is_some() { 0 } else { size_of::<memory::Place>() };
    records.saturating_mul((ENTRY + place) as u64)
}
