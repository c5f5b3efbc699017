//! What happens when two partitions of one id meet.

use crate::array::Element;
use crate::binned::Binned;
use std::any::TypeId;

/// What is true of a combiner, as its author states it: the collectives choose by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Law {
    /// `(a . b) . c = a . (b . c)`, floating-point rounding apart. Without it the tables are combined one by one, in the order of
    /// the ranks, on one of them.
    pub associative: bool,
    /// Element `i` of the result depends on element `i` of both only, so that a partition may be combined in pieces.
    pub elementwise: bool,
    /// `a . b = b . a`, to the bit. Inside a node ranks are combined in their order all the same (two of them may then be combined in place); between nodes in
    /// another one where that is shorter: node by node, if nodes do not have consecutive ranks, or around a ring.
    pub commutative: bool,
}

/// Makes one partition of two with the same id: `into` becomes `into . other`.
///
/// It need not be commutative: ranks are combined in their order, `into` always holding the lower ones, unless it says that it is
/// commutative. `U` is what it gets to see of
/// a partition ([`Data::Unit`](crate::Data::Unit)): `[f64]`, or a value of a `serde` type.
pub trait Combiner<U: ?Sized>: Clone {
    /// Combines `other` into `into`; arrays have the same length.
    fn combine(&self, into: &mut U, other: &U);

    /// What is true of it.
    fn law(&self) -> Law;

    /// Its name, which all ranks must agree on.
    fn name(&self) -> &'static str;
}

macro_rules! elementwise {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $associative:literal, $commutative:expr, $trait:path, |$a:ident, $b:ident| $body:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name;

        impl<T: Element + $trait> Combiner<[T]> for $name {
            fn combine(&self, into: &mut [T], other: &[T]) {
                for ($a, $b) in into.iter_mut().zip(other) {
                    $body;
                }
            }

            fn law(&self) -> Law {
                Law { associative: $associative, elementwise: true, commutative: $commutative }
            }

            fn name(&self) -> &'static str {
                $text
            }
        }
    )* };
}

elementwise! {
    /// Element-wise sum.
    Sum, "sum", true, is_number::<T>(), std::ops::AddAssign, |a, b| *a += *b;
    /// Element-wise product.
    Product, "product", true, is_number::<T>(), std::ops::MulAssign, |a, b| *a *= *b;
    /// Element-wise difference in rank order, `a0 - a1 - a2 - ...`: what Harp calls MINUS. It is not associative, so tables are combined
    /// one by one on one rank.
    Minus, "minus", false, false, std::ops::SubAssign, |a, b| *a -= *b;
    /// Element-wise minimum. Of a number and a NaN the number wins, whichever comes first.
    Min, "min", true, false, PartialOrd, |a, b| if *b < *a || (unordered(a) && !unordered(b)) { *a = *b };
    /// Element-wise maximum. Of a number and a NaN the number wins, whichever comes first.
    Max, "max", true, false, PartialOrd, |a, b| if *b > *a || (unordered(a) && !unordered(b)) { *a = *b };
}

/// A combiner made of a function over whole partitions.
///
/// ```
/// use aeolian_harp::{Combiner, Custom};
/// let keep_first = Custom::new("first", |_into: &mut [u32], _other: &[u32]| {});
/// let mut a = [1];
/// keep_first.combine(&mut a[..], &[2][..]);
/// assert_eq!(a, [1]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Custom<F> {
    name: &'static str,
    law: Law,
    function: F,
}

impl<F> Custom<F> {
    /// `function(into, other)` must be associative; `name` is shown in errors and must be the same on all ranks.
    pub fn new(name: &'static str, function: F) -> Custom<F> {
        Custom { name, law: Law { associative: true, elementwise: false, commutative: false }, function }
    }

    /// States that it combines arrays element by element.
    pub fn elementwise(mut self) -> Custom<F> {
        self.law.elementwise = true;
        self
    }

    /// States that it is commutative, to the bit.
    pub fn commutative(mut self) -> Custom<F> {
        self.law.commutative = true;
        self
    }

    /// States that it is not associative: it is applied one by one in the order of the ranks, which one rank does for all.
    pub fn in_sequence(mut self) -> Custom<F> {
        self.law.associative = false;
        self
    }
}

impl<U: ?Sized, F: Fn(&mut U, &U) + Clone> Combiner<U> for Custom<F> {
    fn combine(&self, into: &mut U, other: &U) {
        (self.function)(into, other);
    }

    fn law(&self) -> Law {
        self.law
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

/// A [`Custom`] of a plain function.
pub(crate) type ByFunction<T> = Custom<fn(&mut [T], &[T])>;

/// Keeps what is there: for tables in which no two ranks have the same id.
pub(crate) fn keep_first<T>() -> ByFunction<T> {
    Custom::new("first", (|_, _| {}) as fn(&mut [T], &[T])).commutative()
}

/// Whether `+` and `*` of this type are what they are of numbers. (A user's type may be a matrix.)
fn is_number<T: 'static>() -> bool {
    macro_rules! one_of {
        ($($number:ty)*) => { $(TypeId::of::<T>() == TypeId::of::<$number>())||* };
    }
    one_of!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 Binned)
}

/// True for a NaN.
fn unordered<T: PartialOrd>(x: &T) -> bool {
    x.partial_cmp(x).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_loses_on_either_side() {
        for (a, b) in [(f64::NAN, 1.0), (1.0, f64::NAN)] {
            let mut v = [a];
            Min.combine(&mut v[..], &[b]);
            assert_eq!(v, [1.0]);
            let mut v = [a];
            Max.combine(&mut v[..], &[b]);
            assert_eq!(v, [1.0]);
        }
        let mut v = [3u8, 9];
        Max.combine(&mut v[..], &[5, 2]);
        assert_eq!(v, [5, 9]);
    }
}
