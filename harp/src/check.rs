//! Whether a combiner is associative, as it says.

use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use std::any::TypeId;

/// Combines three partitions in both ways, and tells where the results differ by more than floating-point rounding: an example
/// against the combiner's word. Lengths must be equal.
///
/// Builds with debug assertions do this by themselves, in `allreduce`, `reduce` and `scan`, for the first two partitions of one id that meet
/// (and the second of them once more), if their elements are `f32`, `f64`, or small
/// integers of 32 or 64 bits.
///
/// # Errors
/// [`HarpError::NotAssociative`] with the place and both values.
///
/// ```
/// use aeolian_harp::{Array, Custom, Sum, check_associative};
/// let [a, b, c] = [1.0, 2.0, 4.0].map(|x| Array::from(vec![x]));
/// assert!(check_associative::<f64, _>(&Sum, 0, &a, &b, &c).is_ok());
/// let mean = Custom::new("mean", |a: &mut [f64], b: &[f64]| a[0] = (a[0] + b[0]) / 2.0);
/// let error = check_associative::<f64, _>(&mean, 0, &a, &b, &c).unwrap_err().to_string();
/// assert!(error.contains("element 0 is 2.75 and 2"), "{error}");
/// ```
pub fn check_associative<D: Data, C: Combiner<D::Unit>>(
    combiner: &C,
    id: u64,
    a: &D::Part,
    b: &D::Part,
    c: &D::Part,
) -> Result<()> {
    let combined = |a: &D::Part, b: &D::Part| {
        let mut into = D::copy(a);
        combiner.combine(D::unit_mut(&mut into), D::unit(b));
        into
    };
    let left = combined(&combined(a, b), c);
    let right = combined(a, &combined(b, c));
    match D::difference(&left, &right, &[a, b, c]) {
        None => Ok(()),
        Some(difference) => Err(HarpError::NotAssociative { name: combiner.name(), id, difference }),
    }
}

/// Longer partitions are not looked at by themselves.
const LONG: usize = 1 << 16;

/// The check that builds with debug assertions make of themselves.
pub(crate) fn by_the_way<D: Data, C: Combiner<D::Unit>>(
    combiner: &C,
    id: u64,
    a: &D::Part,
    b: &D::Part,
) -> Result<()> {
    if !cfg!(debug_assertions) || !combiner.law().associative || D::len(a) > LONG || D::len(a) != D::len(b) {
        return Ok(());
    }
    // Of other elements nobody knows how exact they can be.
    let number = TypeId::of::<D>();
    let float = [TypeId::of::<f32>(), TypeId::of::<f64>()].contains(&number);
    let small = |bytes: &[u8]| {
        small_integers::<u32>(number, bytes, |x| x < 1 << 8)
            .or_else(|| small_integers::<i32>(number, bytes, |x| x.unsigned_abs() < 1 << 8))
            .or_else(|| small_integers::<u64>(number, bytes, |x| x < 1 << 16))
            .or_else(|| small_integers::<i64>(number, bytes, |x| x.unsigned_abs() < 1 << 16))
            .unwrap_or(false)
    };
    if float || (small(D::bytes(a)) && small(D::bytes(b))) {
        check_associative::<D, C>(combiner, id, a, b, b)
    } else {
        Ok(())
    }
}

/// Whether all are so small that three of them combine without an overflow that the program itself does not have; `None` for another type.
fn small_integers<T: bytemuck::Pod>(number: TypeId, bytes: &[u8], small: impl Fn(T) -> bool) -> Option<bool> {
    if number != TypeId::of::<T>() {
        return None;
    }
    Some(bytemuck::try_cast_slice(bytes).is_ok_and(|all: &[T]| all.iter().all(|x| small(*x))))
}
