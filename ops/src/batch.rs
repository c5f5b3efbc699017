//! [`Batch`]: the records that move, lie in memory and are spilled together.

use crate::record::{Plain, Reader, Record, Writer};
use aeolian_net::Buf;
use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

/// Records that came together; an iterator over them. (A loop over `&batch`, and `for_each` and the like, are the fastest.)
///
/// Records of a plain type can also be seen as a slice, and be taken as one.
///
/// ```
/// # use aeolian_ops::Batch;
/// let mut batch: Batch<u64> = [1, 2, 3].into_iter().collect();
/// assert_eq!(batch.next(), Some(1));
/// assert_eq!(batch.as_slice(), [2, 3]);
/// ```
pub struct Batch<T> {
    bytes: Buf,
    at: usize,
    /// Set when a record could not be read: the operator that it came from says so.
    damaged: Rc<Cell<bool>>,
    records: PhantomData<fn() -> T>,
}

impl<T: Record> Batch<T> {
    pub(crate) fn new(bytes: Buf, damaged: Rc<Cell<bool>>) -> Batch<T> {
        Batch { bytes, at: 0, damaged, records: PhantomData }
    }

    /// The same bytes as records of another type, which are written alike.
    pub(crate) fn retyped<U: Record>(self) -> Batch<U> {
        Batch { bytes: self.bytes, at: self.at, damaged: self.damaged, records: PhantomData }
    }

    /// The bytes of a batch of which nothing has been taken.
    pub(crate) fn into_bytes(self) -> Buf {
        self.bytes
    }

    /// Bytes of the records that are left.
    pub fn bytes(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The records that are left, without taking them.
    pub fn iter(&self) -> Records<'_, T> {
        Records { input: Reader::new(&self.bytes[self.at..]), damaged: &self.damaged, records: PhantomData }
    }

    /// Whether no record is left.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }
}

impl<T: Plain> Batch<T> {
    /// The records that are left. (One that is cut off at the end is not among them, and told as damage.)
    pub fn as_slice(&self) -> &[T] {
        if !self.bytes.len().is_multiple_of(size_of::<T>()) {
            self.damaged.set(true);
        }
        // A record of a plain type has its size, and the first lies on a boundary of 64 bytes.
        self.bytes.cast::<T>().get(self.at / size_of::<T>()..).unwrap_or_default()
    }
}

/// Writes a record into a batch; one of no bytes takes one there, so that it counts.
#[inline]
pub(crate) fn put<T: Record>(value: &T, out: &mut Writer<'_>) -> Option<()> {
    match T::SIZE {
        Some(0) => out.bytes(&[0]),
        _ => value.put(out),
    }
}

/// Bytes that [`put`] writes of each record, if it is the same of all.
pub(crate) const fn width<T: Record>() -> Option<usize> {
    match T::SIZE {
        Some(0) => Some(1),
        size => size,
    }
}

/// Bytes that [`put`] writes.
pub(crate) fn size<T: Record>(value: &T) -> usize {
    value.size().max(1)
}

/// Reads what [`put`] has written.
#[inline]
pub(crate) fn get<T: Record>(input: &mut Reader<'_>) -> Option<T> {
    if T::SIZE == Some(0) {
        input.array::<1>()?;
    }
    T::get(input)
}

impl<T: Record> Iterator for Batch<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let bytes = &self.bytes[self.at..];
        if bytes.is_empty() {
            return None;
        }
        let mut input = Reader::new(bytes);
        let value = get(&mut input);
        self.at = self.bytes.len() - input.rest().len();
        if value.is_none() {
            self.at = self.bytes.len();
            self.damaged.set(true);
        }
        value
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.iter().size_hint()
    }

    fn fold<A, F: FnMut(A, T) -> A>(self, first: A, next: F) -> A {
        self.iter().fold(first, next)
    }
}

impl<T: Record> std::iter::FusedIterator for Batch<T> {}

/// The records of a batch that is kept: [`Batch::iter`].
#[derive(Debug, Clone)]
pub struct Records<'a, T> {
    input: Reader<'a>,
    damaged: &'a Cell<bool>,
    records: PhantomData<fn() -> T>,
}

impl<T> Records<'_, T> {
    /// Whether none is left.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }
}

impl<T: Record> Iterator for Records<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.input.is_empty() {
            return None;
        }
        let value = get(&mut self.input);
        if value.is_none() {
            self.damaged.set(true);
            self.input = Reader::new(&[]);
        }
        value
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let bytes = self.input.rest().len();
        match T::SIZE {
            Some(size) => (bytes / size.max(1), Some(bytes / size.max(1))),
            None => (0, Some(bytes)),
        }
    }
}

impl<T: Record> std::iter::FusedIterator for Records<'_, T> {}

impl<'a, T: Record> IntoIterator for &'a Batch<T> {
    type Item = T;
    type IntoIter = Records<'a, T>;

    fn into_iter(self) -> Records<'a, T> {
        self.iter()
    }
}

impl<T: Record> FromIterator<T> for Batch<T> {
    /// # Panics
    /// If a record's own [`Record::put`] does not fit into its [`Record::size`].
    fn from_iter<I: IntoIterator<Item = T>>(records: I) -> Batch<T> {
        let records: Vec<T> = records.into_iter().collect();
        let mut bytes = Buf::zeroed(records.iter().map(size).sum());
        let mut out = Writer::new(&mut bytes, 0);
        let whole = records.iter().try_for_each(|record| put(record, &mut out));
        assert!(whole.is_some(), "a record of {} is longer than it says", std::any::type_name::<T>());
        // What a record says of its size may be more than it takes: what is behind the last one is none.
        let written = out.position();
        bytes.truncate(written);
        Batch::new(bytes, Rc::default())
    }
}

impl<T: Record> std::fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch<{}>({} bytes)", std::any::type_name::<T>(), self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let words = ["", "a", "bc"].map(String::from);
        let batch: Batch<String> = words.clone().into_iter().collect();
        assert_eq!(batch.collect::<Vec<_>>(), words);
        let none: Batch<[String; 0]> = [[], []].into_iter().collect();
        assert_eq!(none.count(), 2);
        let units: Batch<()> = [(); 5].into_iter().collect();
        assert_eq!((units.size_hint(), units.count()), ((5, Some(5)), 5));
        let mut numbers: Batch<u16> = (0..9).collect();
        numbers.nth(3);
        assert_eq!((numbers.as_slice(), numbers.bytes()), (&[4, 5, 6, 7, 8][..], 10));
        let mut none: Batch<u32> = std::iter::empty().collect();
        assert!(none.is_empty() && none.as_slice().is_empty() && none.next().is_none());
    }

    #[test]
    fn damage_is_told() {
        let damaged = Rc::new(Cell::new(false));
        let mut batch = Batch::<bool>::new(Buf::from_slice(&[1, 9, 0]), damaged.clone());
        assert_eq!((batch.next(), damaged.get()), (Some(true), false));
        assert_eq!((batch.next(), batch.next(), damaged.get()), (None, None, true));
    }

    #[test]
    fn a_slice_tells_of_what_is_cut_off() {
        let damaged = Rc::new(Cell::new(false));
        let slice = |bytes: &[u8]| {
            let mut batch = Batch::<u32>::new(Buf::from_slice(bytes), damaged.clone());
            let all = batch.as_slice().len();
            batch.next();
            (all, batch.as_slice().len(), damaged.replace(false))
        };
        assert_eq!((slice(&[0; 8]), slice(&[])), ((2, 1, false), (0, 0, false)));
        assert_eq!((slice(&[0; 7]), slice(&[0; 3])), ((1, 0, true), (0, 0, true)));
    }

    /// A number that says it takes more than it does.
    #[derive(Debug, PartialEq)]
    struct Roomy(u8);

    impl Record for Roomy {
        const SIZE: Option<usize> = None;

        fn size(&self) -> usize {
            4
        }

        fn put(&self, out: &mut Writer<'_>) -> Option<()> {
            self.0.put(out)
        }

        fn get(input: &mut Reader<'_>) -> Option<Roomy> {
            u8::get(input).map(Roomy)
        }
    }

    #[test]
    fn records_that_are_shorter_than_they_say() {
        let batch: Batch<Roomy> = (1..4).map(Roomy).collect();
        assert_eq!(batch.collect::<Vec<_>>(), [Roomy(1), Roomy(2), Roomy(3)]);
    }
}
