//! What happens when two partitions of one id meet.

use crate::array::Element;

/// Makes one partition of two with the same id: `into` becomes `into . other`.
///
/// Must be associative: `(a . b) . c = a . (b . c)` (floating-point rounding apart). It need not be commutative: ranks are
/// combined in their order, `into` always holding the lower ones.
pub trait Combiner<T>: Clone + Send {
    /// Combines `other` into `into`; both have the same length.
    fn combine(&self, into: &mut [T], other: &[T]);

    /// Its name, which all ranks must agree on.
    fn name(&self) -> &'static str;
}

macro_rules! elementwise {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $trait:path, |$a:ident, $b:ident| $body:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name;

        impl<T: Element + $trait> Combiner<T> for $name {
            fn combine(&self, into: &mut [T], other: &[T]) {
                for ($a, $b) in into.iter_mut().zip(other) {
                    $body;
                }
            }

            fn name(&self) -> &'static str {
                $text
            }
        }
    )* };
}

elementwise! {
    /// Element-wise sum.
    Sum, "sum", std::ops::AddAssign, |a, b| *a += *b;
    /// Element-wise product.
    Product, "product", std::ops::MulAssign, |a, b| *a *= *b;
    /// Element-wise difference, in rank order: what Harp calls MINUS. Not associative; a sequence of more than two is
    /// `a0 - (a1 + a2 + ...)` only when combined one by one, so use it for two.
    Minus, "minus", std::ops::SubAssign, |a, b| *a -= *b;
    /// Element-wise minimum. Of a number and a NaN the number wins, whichever comes first.
    Min, "min", PartialOrd, |a, b| if *b < *a || (unordered(a) && !unordered(b)) { *a = *b };
    /// Element-wise maximum. Of a number and a NaN the number wins, whichever comes first.
    Max, "max", PartialOrd, |a, b| if *b > *a || (unordered(a) && !unordered(b)) { *a = *b };
}

/// A combiner made of a function over whole partitions.
///
/// ```
/// use aeolian_harp::{Combiner, Custom};
/// let keep_first = Custom::new("first", |_into: &mut [u32], _other: &[u32]| {});
/// let mut a = [1];
/// keep_first.combine(&mut a, &[2]);
/// assert_eq!(a, [1]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Custom<F> {
    name: &'static str,
    function: F,
}

impl<F> Custom<F> {
    /// `function(into, other)` must be associative; `name` is shown in errors and must be the same on all ranks.
    pub fn new(name: &'static str, function: F) -> Custom<F> {
        Custom { name, function }
    }
}

impl<T, F: Fn(&mut [T], &[T]) + Clone + Send> Combiner<T> for Custom<F> {
    fn combine(&self, into: &mut [T], other: &[T]) {
        (self.function)(into, other);
    }

    fn name(&self) -> &'static str {
        self.name
    }
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
            Min.combine(&mut v, &[b]);
            assert_eq!(v, [1.0]);
            let mut v = [a];
            Max.combine(&mut v, &[b]);
            assert_eq!(v, [1.0]);
        }
        let mut v = [3u8, 9];
        Max.combine(&mut v, &[5, 2]);
        assert_eq!(v, [5, 9]);
    }
}
