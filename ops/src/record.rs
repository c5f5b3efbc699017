//! [`Record`]: what operators carry, and how its bytes lie in a batch.
//!
//! A batch is records one after another and nothing else. Records of one size have no lengths: those of plain-old-data types lie as
//! in memory, so that a batch of them is a slice ([`Batch::as_slice`](crate::Batch::as_slice)). Others bring their lengths along.
//! The same bytes go over wires and to disks; numbers are in this machine's byte order, since all ranks run the same binary.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an operator carries: numbers, strings, options, arrays, vectors and tuples of records, plain-old-data types of a program's own
/// ([`plain!`](crate::plain!)), and any `serde` type ([`serde_record!`](crate::serde_record!), or wrapped in [`Serde`]).
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Event { name: String, at: f64 }
/// aeolian_ops::serde_record!(Event);
///
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Point { x: f64, y: f64 }
/// aeolian_ops::plain!(Point);
/// ```
pub trait Record: Sized + 'static {
    /// Bytes of each, if all have the same. Of others each has at least one.
    const SIZE: Option<usize>;

    /// Bytes of this one.
    fn size(&self) -> usize;

    /// Writes its bytes; `None` if there is no room for them (what is behind the writer's place may be anything then).
    fn put(&self, out: &mut Writer<'_>) -> Option<()>;

    /// Reads one; `None` if these bytes are none.
    fn get(input: &mut Reader<'_>) -> Option<Self>;

    /// Reads past one. (Less is looked at than when it is read.)
    #[inline]
    fn skip(input: &mut Reader<'_>) -> Option<()> {
        match Self::SIZE {
            Some(size) => input.bytes(size).map(drop),
            None => Self::get(input).map(drop),
        }
    }

    /// Writes several, as [`Record::put`] would one after another.
    fn put_all(values: &[Self], out: &mut Writer<'_>) -> Option<()> {
        values.iter().try_for_each(|value| value.put(out))
    }

    /// Reads `len`.
    fn get_vec(len: usize, input: &mut Reader<'_>) -> Option<Vec<Self>> {
        if !may_have::<Self>(len) {
            return None;
        }
        // What is announced may be damage: allocate no more bytes than are there, and more only as records come. (In memory one may take
        // a thousand times the byte that it was read from. Values of no bytes are as many as there may be: see above.)
        let most = match Self::SIZE {
            Some(0) => len,
            size => input.rest().len() / size.unwrap_or(1).max(size_of::<Self>()).max(1),
        };
        let mut all = Vec::with_capacity(len.min(most));
        for _ in 0..len {
            all.push(Self::get(input)?);
        }
        Some(all)
    }

    /// Reads `N`.
    fn get_array<const N: usize>(input: &mut Reader<'_>) -> Option<[Self; N]> {
        Self::get_vec(N, input)?.try_into().ok()
    }
}

/// Memory that values of no bytes may take together: there is nothing to hold their announced number against.
const OF_NO_BYTES: usize = 1 << 20;

/// Whether a vector may have so many of these: else none is written, and what announces it is damage.
fn may_have<T: Record>(len: usize) -> bool {
    let most = OF_NO_BYTES.checked_div(size_of::<T>()).unwrap_or(u32::MAX as usize);
    T::SIZE != Some(0) || len <= most
}

/// Records that lie in a batch as in memory: implemented by [`plain!`](crate::plain!).
pub trait Plain: Record + bytemuck::Pod {}

/// Where a record is written to.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes to `bytes` from `at` on.
    pub fn new(bytes: &'a mut [u8], at: usize) -> Writer<'a> {
        Writer { bytes, at }
    }

    /// Where the next byte goes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Writes bytes, if there is room.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.bytes.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    /// Writes `N` bytes, if there is room.
    #[inline]
    pub fn array<const N: usize>(&mut self, bytes: [u8; N]) -> Option<()> {
        *self.bytes.get_mut(self.at..)?.first_chunk_mut()? = bytes;
        self.at += N;
        Some(())
    }

    /// Writes a length: one byte below 255, else nine.
    #[inline]
    pub fn len(&mut self, len: usize) -> Option<()> {
        match u8::try_from(len) {
            Ok(short) if short != LONG => self.bytes(&[short]),
            _ => {
                self.bytes(&[LONG])?;
                self.bytes(&(len as u64).to_ne_bytes())
            }
        }
    }

    fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.at..]
    }
}

/// The first byte of a length of nine.
const LONG: u8 = u8::MAX;

/// Bytes that [`Writer::len`] takes.
#[inline]
pub fn size_of_len(len: usize) -> usize {
    if len < usize::from(LONG) { 1 } else { 9 }
}

/// Where a record is read from.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// Whether all is read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `len` bytes, if there are so many.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(bytes)
    }

    /// The next `N` bytes, if there are so many.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*bytes)
    }

    /// A length, as [`Writer::len`] writes it. (It may be more than what is left: allocate by what comes.)
    #[inline]
    pub fn length(&mut self) -> Option<usize> {
        match self.array::<1>()? {
            [LONG] => usize::try_from(u64::from_ne_bytes(self.array()?)).ok(),
            [short] => Some(short.into()),
        }
    }
}

/// Makes records of plain-old-data types ([`bytemuck::Pod`]): they move as they lie in memory.
#[macro_export]
macro_rules! plain {
    ($($t:ty),+ $(,)?) => {$(
        impl $crate::Record for $t {
            const SIZE: Option<usize> = {
                assert!(size_of::<$t>() > 0, "a plain type of no bytes: use ()");
                Some(size_of::<$t>())
            };

            #[inline]
            fn size(&self) -> usize {
                size_of::<$t>()
            }

            #[inline]
            fn put(&self, out: &mut $crate::record::Writer<'_>) -> Option<()> {
                out.array($crate::record::cast::<$t, [u8; size_of::<$t>()]>(*self))
            }

            #[inline]
            fn get(input: &mut $crate::record::Reader<'_>) -> Option<Self> {
                input.bytes(size_of::<$t>()).map($crate::record::read_unaligned)
            }

            #[inline]
            fn put_all(values: &[Self], out: &mut $crate::record::Writer<'_>) -> Option<()> {
                out.bytes($crate::record::cast_slice(values))
            }

            fn get_vec(len: usize, input: &mut $crate::record::Reader<'_>) -> Option<Vec<Self>> {
                let bytes = input.bytes(len.checked_mul(size_of::<$t>())?)?;
                Some($crate::record::collect_to_vec(bytes))
            }

            #[inline]
            fn get_array<const N: usize>(input: &mut $crate::record::Reader<'_>) -> Option<[Self; N]> {
                let bytes = input.bytes(N * size_of::<$t>())?;
                Some(std::array::from_fn(|i| {
                    $crate::record::read_unaligned(&bytes[i * size_of::<$t>()..][..size_of::<$t>()])
                }))
            }
        }

        impl $crate::Plain for $t {}
    )+};
}

#[doc(hidden)]
pub use bytemuck::{cast, cast_slice, pod_read_unaligned as read_unaligned};

#[doc(hidden)]
pub fn collect_to_vec<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    let mut all = vec![T::zeroed(); bytes.len() / size_of::<T>().max(1)];
    bytemuck::cast_slice_mut(&mut all).copy_from_slice(bytes);
    all
}

/// Makes records of `serde` types: one is written as postcard's bytes with their number in front.
#[macro_export]
macro_rules! serde_record {
    ($($t:ty),+ $(,)?) => {$(
        impl $crate::Record for $t {
            const SIZE: Option<usize> = None;

            fn size(&self) -> usize {
                $crate::record::serde_size(self)
            }

            fn put(&self, out: &mut $crate::record::Writer<'_>) -> Option<()> {
                $crate::record::serde_put(self, out)
            }

            fn get(input: &mut $crate::record::Reader<'_>) -> Option<Self> {
                $crate::record::serde_get(input)
            }

            fn skip(input: &mut $crate::record::Reader<'_>) -> Option<()> {
                let len = input.length()?;
                input.bytes(len).map(drop)
            }
        }
    )+};
}

/// A `serde` type of another crate as a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Serde<T>(pub T);

impl<T: Serialize + DeserializeOwned + 'static> Record for Serde<T> {
    const SIZE: Option<usize> = None;

    fn size(&self) -> usize {
        serde_size(&self.0)
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        serde_put(&self.0, out)
    }

    fn get(input: &mut Reader<'_>) -> Option<Self> {
        serde_get(input).map(Serde)
    }
}

/// A type whose `Serialize` fails has no size; [`serde_put`] then never succeeds, and the operator says so.
const UNWRITABLE: usize = usize::MAX;

#[doc(hidden)]
pub fn serde_size<T: Serialize>(value: &T) -> usize {
    let mut count = Count(0);
    match postcard::serialize_with_flavor(value, &mut count) {
        Ok(()) => size_of_len(count.0) + count.0,
        Err(_) => UNWRITABLE,
    }
}

#[doc(hidden)]
pub fn serde_put<T: Serialize>(value: &T, out: &mut Writer<'_>) -> Option<()> {
    // Most are short: room for a short length, and only what turns out longer is moved.
    let start = out.at;
    out.bytes(&[0])?;
    let len = postcard::to_slice(value, out.rest()).ok()?.len();
    let wide = size_of_len(len);
    let body = start + 1..start + 1 + len;
    if wide > 1 {
        if out.bytes.len() < start + wide + len {
            return None;
        }
        out.bytes.copy_within(body, start + wide);
    }
    out.at = start;
    out.len(len)?;
    out.at += len;
    Some(())
}

#[doc(hidden)]
pub fn serde_get<T: DeserializeOwned>(input: &mut Reader<'_>) -> Option<T> {
    let len = input.length()?;
    match postcard::take_from_bytes(input.bytes(len)?) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// Counts what postcard would write.
struct Count(usize);

impl postcard::ser_flavors::Flavor for &mut Count {
    type Output = ();

    fn try_push(&mut self, _: u8) -> postcard::Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0 += bytes.len();
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

plain!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

impl Record for () {
    const SIZE: Option<usize> = Some(0);

    fn size(&self) -> usize {
        0
    }

    fn put(&self, _: &mut Writer<'_>) -> Option<()> {
        Some(())
    }

    fn get(_: &mut Reader<'_>) -> Option<()> {
        Some(())
    }
}

impl Record for bool {
    const SIZE: Option<usize> = Some(1);

    fn size(&self) -> usize {
        1
    }

    #[inline]
    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        out.bytes(&[u8::from(*self)])
    }

    #[inline]
    fn get(input: &mut Reader<'_>) -> Option<bool> {
        match input.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl Record for char {
    const SIZE: Option<usize> = Some(4);

    fn size(&self) -> usize {
        4
    }

    #[inline]
    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        u32::from(*self).put(out)
    }

    #[inline]
    fn get(input: &mut Reader<'_>) -> Option<char> {
        char::from_u32(u32::get(input)?)
    }
}

impl Record for String {
    const SIZE: Option<usize> = None;

    #[inline]
    fn size(&self) -> usize {
        size_of_len(self.len()) + self.len()
    }

    #[inline]
    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        out.len(self.len())?;
        out.bytes(self.as_bytes())
    }

    fn get(input: &mut Reader<'_>) -> Option<String> {
        let len = input.length()?;
        String::from_utf8(input.bytes(len)?.to_vec()).ok()
    }

    #[inline]
    fn skip(input: &mut Reader<'_>) -> Option<()> {
        let len = input.length()?;
        input.bytes(len).map(drop)
    }
}

impl<T: Record> Record for Option<T> {
    const SIZE: Option<usize> = None;

    fn size(&self) -> usize {
        self.as_ref().map_or(0, T::size).saturating_add(1)
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        self.is_some().put(out)?;
        self.as_ref().map_or(Some(()), |value| value.put(out))
    }

    fn get(input: &mut Reader<'_>) -> Option<Option<T>> {
        match bool::get(input)? {
            true => T::get(input).map(Some),
            false => Some(None),
        }
    }

    fn skip(input: &mut Reader<'_>) -> Option<()> {
        match bool::get(input)? {
            true => T::skip(input),
            false => Some(()),
        }
    }
}

impl<T: Record> Record for Box<T> {
    const SIZE: Option<usize> = T::SIZE;

    fn size(&self) -> usize {
        T::size(self)
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        T::put(self, out)
    }

    fn get(input: &mut Reader<'_>) -> Option<Box<T>> {
        T::get(input).map(Box::new)
    }

    fn skip(input: &mut Reader<'_>) -> Option<()> {
        T::skip(input)
    }
}

impl<T: Record> Record for Vec<T> {
    const SIZE: Option<usize> = None;

    fn size(&self) -> usize {
        let values = match T::SIZE {
            Some(size) => size.saturating_mul(self.len()),
            None => self.iter().map(T::size).fold(0, usize::saturating_add),
        };
        values.saturating_add(size_of_len(self.len()))
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        if !may_have::<T>(self.len()) {
            return None;
        }
        out.len(self.len())?;
        T::put_all(self, out)
    }

    fn get(input: &mut Reader<'_>) -> Option<Vec<T>> {
        let len = input.length()?;
        T::get_vec(len, input)
    }

    fn skip(input: &mut Reader<'_>) -> Option<()> {
        let len = input.length()?;
        match T::SIZE {
            Some(0) => may_have::<T>(len).then_some(()),
            Some(size) => input.bytes(len.checked_mul(size)?).map(drop),
            None => (0..len).try_for_each(|_| T::skip(input)),
        }
    }
}

impl<T: Record, const N: usize> Record for [T; N] {
    const SIZE: Option<usize> = match T::SIZE {
        Some(size) => Some(size * N),
        None if N == 0 => Some(0),
        None => None,
    };

    #[inline]
    fn size(&self) -> usize {
        match Self::SIZE {
            Some(size) => size,
            None => self.iter().map(T::size).fold(0, usize::saturating_add),
        }
    }

    #[inline]
    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        T::put_all(self, out)
    }

    #[inline]
    fn get(input: &mut Reader<'_>) -> Option<[T; N]> {
        T::get_array(input)
    }
}

/// The sum of sizes, if all have one.
const fn sum(sizes: &[Option<usize>]) -> Option<usize> {
    let (mut all, mut at) = (0, 0);
    while at < sizes.len() {
        match sizes[at] {
            Some(size) => all += size,
            None => return None,
        }
        at += 1;
    }
    Some(all)
}

macro_rules! tuples {
    ($(($($t:ident $at:tt),+))+) => {$(
        impl<$($t: Record),+> Record for ($($t,)+) {
            const SIZE: Option<usize> = sum(&[$($t::SIZE),+]);

            #[inline]
            fn size(&self) -> usize {
                match Self::SIZE {
                    Some(size) => size,
                    None => 0usize$(.saturating_add(self.$at.size()))+,
                }
            }

            #[inline]
            fn put(&self, out: &mut Writer<'_>) -> Option<()> {
                $(self.$at.put(out)?;)+
                Some(())
            }

            #[inline]
            fn get(input: &mut Reader<'_>) -> Option<Self> {
                Some(($($t::get(input)?,)+))
            }

            #[inline]
            fn skip(input: &mut Reader<'_>) -> Option<()> {
                $($t::skip(input)?;)+
                Some(())
            }
        }
    )+};
}

tuples! { (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) (A 0, B 1, C 2, D 3, E 4) (A 0, B 1, C 2, D 3, E 4, F 5) }

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back<T: Record + PartialEq + std::fmt::Debug>(value: &T) {
        let size = value.size();
        assert!(T::SIZE.is_none_or(|fixed| fixed == size));
        let mut bytes = vec![0; size + 3];
        let mut out = Writer::new(&mut bytes, 3);
        value.put(&mut out).unwrap();
        assert_eq!(out.position(), size + 3);
        let mut input = Reader::new(&bytes[3..]);
        assert_eq!(T::get(&mut input).as_ref(), Some(value));
        assert!(input.is_empty());
        let mut input = Reader::new(&bytes[3..]);
        assert!(T::skip(&mut input).is_some() && input.is_empty());
        // What is cut short is no record, and what has no room is not written.
        for cut in (0..size).rev().take(20) {
            assert_eq!(T::get(&mut Reader::new(&bytes[3..3 + cut])), None, "{cut} of {size}");
            assert_eq!(T::skip(&mut Reader::new(&bytes[3..3 + cut])), None, "{cut} of {size}");
            assert_eq!(value.put(&mut Writer::new(&mut vec![0; cut], 0)), None, "{cut} of {size}");
        }
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Event {
        name: String,
        at: Option<f64>,
    }
    serde_record!(Event);

    #[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C)]
    struct Point {
        x: f32,
        y: f32,
    }
    plain!(Point);

    proptest! {
        #[test]
        fn all_types_there_and_back(
            (a, b, c) in any::<(u64, i8, f32)>(),
            name in ".{0,300}",
            words in prop::collection::vec("[a-z]{0,9}", 0..9),
            numbers in prop::collection::vec(any::<i32>(), 0..300),
        ) {
            there_and_back(&(a, b));
            there_and_back(&(a as u128, b, c.to_bits(), name.clone()));
            there_and_back(&name);
            there_and_back(&words);
            there_and_back(&numbers);
            there_and_back(&Some((words.clone(), a % 2 == 0)));
            there_and_back(&[a, !a, 7]);
            there_and_back(&[name.clone(), String::new()]);
            there_and_back(&Box::new(char::from(b.unsigned_abs())));
            there_and_back(&Event { name: name.clone(), at: (b > 0).then_some(f64::from(b)) });
            there_and_back(&Serde(std::collections::BTreeMap::from([(name, a)])));
            there_and_back(&vec![Point { x: f32::from(b), y: 0.5 }; numbers.len()]);
        }

        #[test]
        fn damage_is_no_panic_and_no_huge_allocation(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let read = |n: usize| Reader::new(&bytes[n.min(bytes.len())..]);
            for at in 0..3 {
                Vec::<u64>::get(&mut read(at));
                Vec::<String>::get(&mut read(at));
                Option::<(char, bool)>::get(&mut read(at));
                Event::get(&mut read(at));
                <[Vec<u8>; 3]>::get(&mut read(at));
            }
        }
    }

    #[test]
    fn many_records_of_no_bytes() {
        there_and_back(&vec![(); 300]);
        there_and_back(&((), [(); 4]));
        there_and_back::<[String; 0]>(&[]);
        there_and_back(&vec![[(); 3]; 300]);
    }

    /// A vector that announces so many values, and what is behind that.
    fn announced(len: usize, rest: usize) -> Vec<u8> {
        let mut bytes = vec![9; 9 + rest];
        Writer::new(&mut bytes, 0).len(len).unwrap();
        bytes
    }

    /// A value may take more memory than bytes: room for as many values as there are bytes would be a terabyte here.
    #[test]
    fn what_is_announced_is_no_allocation_of_wide_values() {
        let bytes = announced(1 << 40, 16 << 20);
        assert_eq!(Vec::<Option<[u8; 1 << 16]>>::get(&mut Reader::new(&bytes)), None);
        // What is there is read all the same.
        there_and_back(&vec![None::<[u16; 300]>; 40]);
        there_and_back(&vec![Some([7u16; 300]), None]);
    }

    #[test]
    fn values_of_no_bytes_that_take_memory_are_bounded() {
        let most = OF_NO_BYTES / size_of::<Box<()>>();
        let read = |len| Vec::<Box<()>>::get(&mut Reader::new(&announced(len, 0)));
        assert_eq!((read(most + 1), read(u32::MAX as usize), read(usize::MAX)), (None, None, None));
        assert_eq!(Vec::<Box<()>>::skip(&mut Reader::new(&announced(most + 1, 0))), None);
        assert_eq!(read(most).unwrap().len(), most);
        // What would not be read is not written.
        let boxes = vec![Box::new(()); most + 1];
        assert_eq!(boxes.put(&mut Writer::new(&mut [0; 99], 0)), None);
        there_and_back(&vec![Box::new(()); 300]);
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: std::collections::BTreeMap<String, u8>,
    }
    serde_record!(Flat);

    /// postcard knows no maps of unknown length.
    #[test]
    fn what_cannot_be_written_has_no_size() {
        let flat = || Flat { rest: [("a".to_string(), 1)].into() };
        assert_eq!(flat().size(), usize::MAX);
        assert_eq!((Some(flat()).size(), vec![flat()].size()), (usize::MAX, usize::MAX));
        assert_eq!((1u8, flat()).put(&mut Writer::new(&mut [0; 99], 0)), None);
    }

    #[test]
    fn sizes_of_tuples() {
        assert_eq!(<(u64, f64)>::SIZE, Some(16));
        assert_eq!(<(u8, [u16; 3])>::SIZE, Some(7));
        assert_eq!(<(u64, String)>::SIZE, None);
    }
}
