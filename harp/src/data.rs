//! [`Data`]: what the partitions of a table are made of.

use crate::array::{Array, Element};
use aeolian_net::{Buf, buffer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::TypeId;
use std::marker::PhantomData;

/// What the partitions of a [`Table`](crate::Table) are made of: arrays of an [`Element`] type, which move as they lie, or one value
/// of any `serde` type each ([`Serde`]).
///
/// The type of a table names the element, not the array: `Table<f64, Sum>` has partitions of type `Array<f64>`, and
/// `Table<Serde<String>, C>` partitions of type `String`.
pub trait Data: 'static {
    /// A partition.
    type Part: 'static;
    /// What a combiner gets to see of it: `[T]` of an array, the value itself of a `serde` type.
    type Unit: ?Sized;

    /// A partition as a combiner sees it.
    fn unit(part: &Self::Part) -> &Self::Unit;

    /// As [`Data::unit`], to write.
    fn unit_mut(part: &mut Self::Part) -> &mut Self::Unit;

    /// Elements; partitions of one id must have the same number to be combined.
    fn len(part: &Self::Part) -> usize;

    /// A copy.
    fn copy(part: &Self::Part) -> Self::Part;

    /// Gives the bytes that another rank makes the same partition of.
    fn with_bytes<R>(part: &Self::Part, use_them: impl FnOnce(&[u8]) -> R) -> Result<R, String>;

    /// The bytes in a buffer of their own; that of the partition itself, if it has one.
    fn into_buf(part: Self::Part) -> Result<Buf, String>;

    /// The bytes in a buffer that others may read meanwhile. If it is the partition's own, the partition is empty until it is
    /// [given back](Data::give_back).
    fn lend(part: &mut Self::Part) -> Result<Buf, String>;

    /// The buffer of [`Data::lend`] comes back.
    fn give_back(part: &mut Self::Part, buf: Buf) -> Result<(), String>;

    /// Gives what a combiner sees of the partition of which these are the bytes.
    fn with_unit<R>(bytes: &[u8], use_it: impl FnOnce(&Self::Unit) -> R) -> Result<R, String>;

    /// Bytes of an element, if partitions are arrays of them.
    fn width() -> Option<usize> {
        None
    }

    /// [`width`](Data::width) of those that may be combined where they lie.
    fn element() -> Option<usize> {
        None
    }

    /// The bytes of an array; of other partitions none.
    fn bytes(_part: &Self::Part) -> &[u8] {
        &[]
    }

    /// Replaces the bytes of an array, if they are as many.
    fn overwrite(_part: &mut Self::Part, _bytes: &[u8]) {}

    /// Gives pieces of two arrays, of whole elements, as a combiner sees them; only if there is an [`element`](Data::element).
    fn with_pieces(_into: &mut [u8], _other: &[u8], _use_them: impl FnOnce(&mut Self::Unit, &Self::Unit)) {}

    /// The partition of which these are the bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    fn from_bytes(bytes: &[u8]) -> Result<Self::Part, String>;

    /// As [`Data::from_bytes`], of a buffer that may become the partition's own.
    fn from_buf(buf: Buf) -> Result<Self::Part, String> {
        Self::from_bytes(&buf)
    }

    /// Where two partitions, both made of `inputs`, differ by more than floating-point rounding, in words; `None` if they do not.
    fn difference(a: &Self::Part, b: &Self::Part, inputs: &[&Self::Part]) -> Option<String>;

    /// What all ranks must agree on.
    fn name() -> &'static str {
        std::any::type_name::<Self>()
    }
}

impl<T: Element> Data for T {
    type Part = Array<T>;
    type Unit = [T];

    fn unit(part: &Array<T>) -> &[T] {
        part
    }

    fn unit_mut(part: &mut Array<T>) -> &mut [T] {
        part
    }

    fn len(part: &Array<T>) -> usize {
        part[..].len()
    }

    fn copy(part: &Array<T>) -> Array<T> {
        part.clone()
    }

    fn with_bytes<R>(part: &Array<T>, use_them: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(use_them(bytemuck::cast_slice(part)))
    }

    fn into_buf(part: Array<T>) -> Result<Buf, String> {
        Ok(part.into_buf())
    }

    fn lend(part: &mut Array<T>) -> Result<Buf, String> {
        Ok(std::mem::replace(part, Array::zeroed(0)).into_buf())
    }

    fn give_back(part: &mut Array<T>, buf: Buf) -> Result<(), String> {
        *part = Array::from_buf(buf)?;
        Ok(())
    }

    fn with_unit<R>(bytes: &[u8], use_it: impl FnOnce(&[T]) -> R) -> Result<R, String> {
        if let Ok(values) = bytemuck::try_cast_slice(bytes) {
            return Ok(use_it(values));
        }
        // Not on a boundary of these elements, or not whole ones.
        Self::from_bytes(bytes).map(|copy| use_it(&copy))
    }

    fn width() -> Option<usize> {
        (size_of::<T>() > 0).then_some(size_of::<T>())
    }

    fn element() -> Option<usize> {
        // What wants more than the boards' alignment is combined in buffers of its own.
        (size_of::<T>() > 0 && align_of::<T>() <= 16).then_some(size_of::<T>())
    }

    fn bytes(part: &Array<T>) -> &[u8] {
        bytemuck::cast_slice(part)
    }

    fn overwrite(part: &mut Array<T>, bytes: &[u8]) {
        let to = bytemuck::cast_slice_mut::<T, u8>(part);
        if to.len() == bytes.len() {
            buffer::copy(bytes, to);
        }
    }

    fn with_pieces(into: &mut [u8], other: &[u8], use_them: impl FnOnce(&mut [T], &[T])) {
        if let (Ok(into), Ok(other)) = (bytemuck::try_cast_slice_mut(into), bytemuck::try_cast_slice(other)) {
            use_them(into, other);
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Array<T>, String> {
        Array::from_buf(Buf::from_slice(bytes))
    }

    fn from_buf(buf: Buf) -> Result<Array<T>, String> {
        Array::from_buf(buf)
    }

    fn difference(a: &Array<T>, b: &Array<T>, inputs: &[&Array<T>]) -> Option<String> {
        if a.len() != b.len() {
            return Some(format!("{} and {} elements", a.len(), b.len()));
        }
        let floats = |part: &Array<T>| -> Option<Vec<f64>> {
            if TypeId::of::<T>() == TypeId::of::<f64>() {
                return Some(bytemuck::cast_slice::<T, f64>(part).to_vec());
            }
            let single = TypeId::of::<T>() == TypeId::of::<f32>();
            single.then(|| bytemuck::cast_slice::<T, f32>(part).iter().map(|&x| f64::from(x)).collect())
        };
        if let (Some(a), Some(b)) = (floats(a), floats(b)) {
            // What cancels out leaves the rounding of what went in.
            let largest = |x: f64, y: &f64| if y.is_finite() { x.max(y.abs()) } else { x };
            let scale =
                inputs.iter().filter_map(|part| floats(part)).flatten().fold(0.0, |x, y| largest(x, &y));
            let tolerance = if size_of::<T>() == 8 { 1e-9 } else { 1e-4 };
            return first_far(&a, &b, tolerance, scale);
        }
        let bytes = |x: &T| bytemuck::bytes_of(x).to_vec();
        let at = a.iter().zip(b.iter()).position(|(x, y)| bytes(x) != bytes(y))?;
        Some(format!("element {at} has the bytes {:02x?} and {:02x?}", bytes(&a[at]), bytes(&b[at])))
    }
}

/// The first place where two numbers are further from one another than rounding brings them.
fn first_far(a: &[f64], b: &[f64], tolerance: f64, scale: f64) -> Option<String> {
    let far = |(x, y): (&f64, &f64)| {
        x.is_finite() && y.is_finite() && (x - y).abs() > tolerance * x.abs().max(y.abs()).max(scale)
    };
    let at = a.iter().zip(b).position(far)?;
    Some(format!("element {at} is {} and {}", a[at], b[at]))
}

/// Partitions of one value each, of any type that `serde` can write and read.
///
/// ```
/// use aeolian_harp::{Custom, Serde, Table};
/// let join = Custom::new("join", |a: &mut String, b: &String| a.push_str(b));
/// let mut table = Table::<Serde<String>, _>::new(join);
/// table.add(1, "wind ".to_string())?;
/// table.add(1, "harp".to_string())?;
/// assert_eq!(table.get(1).unwrap(), "wind harp");
/// # Ok::<(), aeolian_harp::HarpError>(())
/// ```
#[derive(Debug)]
pub struct Serde<V>(PhantomData<V>);

impl<V: Serialize + DeserializeOwned + Clone + 'static> Data for Serde<V> {
    type Part = V;
    type Unit = V;

    fn unit(part: &V) -> &V {
        part
    }

    fn unit_mut(part: &mut V) -> &mut V {
        part
    }

    fn len(_: &V) -> usize {
        1
    }

    fn copy(part: &V) -> V {
        part.clone()
    }

    fn with_bytes<R>(part: &V, use_them: impl FnOnce(&[u8]) -> R) -> Result<R, String> {
        Ok(use_them(&postcard::to_stdvec(part).map_err(|e| e.to_string())?))
    }

    fn into_buf(part: V) -> Result<Buf, String> {
        Self::with_bytes(&part, Buf::from_slice)
    }

    fn lend(part: &mut V) -> Result<Buf, String> {
        Self::with_bytes(part, Buf::from_slice)
    }

    fn give_back(_: &mut V, _: Buf) -> Result<(), String> {
        Ok(())
    }

    fn with_unit<R>(bytes: &[u8], use_it: impl FnOnce(&V) -> R) -> Result<R, String> {
        Ok(use_it(&Self::from_bytes(bytes)?))
    }

    fn from_bytes(bytes: &[u8]) -> Result<V, String> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(format!("{} bytes after a value", rest.len())),
            Err(e) => Err(e.to_string()),
        }
    }

    fn difference(a: &V, b: &V, _: &[&V]) -> Option<String> {
        let (a, b) = (postcard::to_stdvec(a).ok()?, postcard::to_stdvec(b).ok()?);
        (a != b).then(|| format!("they are written as {a:02x?} and {b:02x?}"))
    }
}
