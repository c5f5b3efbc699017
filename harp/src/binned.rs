//! [`Binned`]: a sum of floating-point numbers that does not depend on how it was grouped.

use bytemuck::{Pod, Zeroable};
use std::ops::AddAssign;

/// Bits of a bin. A sum of 2^39 slices of one fits its counter.
const BITS: u32 = 24;
/// Bins that are kept.
const KEPT: usize = 4;

const INFINITE: u32 = 1;
const MINUS_INFINITE: u32 = 2;
const NOT_A_NUMBER: u32 = 4;

/// A sum of `f64` numbers that has the same bits in whatever order and groups they were added: the element of a table whose sums are to be
/// *reproducible*, the same on any number of ranks and threads.
///
/// The number line is cut into bins of 24 bits at fixed places. A number is cut into slices at the borders of the bins, and each bin adds up its slices as
/// whole numbers, which is exact. Of all bins the highest that any of the numbers has reached is kept, and the three below it; what lies lower is dropped,
/// from each number by itself and so in any order alike. (After Demmel and Nguyen, *Parallel Reproducible Summation*, IEEE Transactions on Computers 2015, which
/// does it with floating-point operations.)
///
/// A number loses less than 2^-72 of the largest one of the sum: far less than an ordinary sum. Up to 2^39 numbers may be added. Infinities and NaN
/// give what adding them gives. It takes 40 bytes, and adding a number several times as long as adding to an `f64`.
///
/// ```
/// use aeolian_harp::{Binned, Sum, allreduce_slice};
/// let numbers: Vec<f64> = (1..1000).map(|i| 1.0 / f64::from(i)).collect();
/// let mut results = Vec::new();
/// for ranks in [1, 2, 3, 7] {
///     let sums = aeolian_net::World::local(ranks, |mut world| {
///         let mine = numbers.iter().skip(world.rank() as usize).step_by(ranks as usize);
///         let mut sum = [mine.copied().sum::<Binned>()];
///         allreduce_slice(&mut world, &mut sum, Sum)?;
///         world.finish()?;
///         Ok(f64::from(sum[0]))
///     })?;
///     results.extend(sums);
/// }
/// assert!(results.iter().all(|sum| sum.to_bits() == results[0].to_bits()));
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Binned {
    /// What the kept bins have added up, from the lowest on.
    bins: [i64; KEPT],
    /// Number of the highest bin; 0, which no number reaches, for an empty sum.
    top: i32,
    /// Which of the numbers that are none there were.
    special: u32,
}

impl Binned {
    /// Keeps the bins up to `top`.
    fn raise(&mut self, top: i32) {
        let by = (top - self.top) as usize;
        self.top = top;
        for i in 0..KEPT {
            self.bins[i] = if i + by < KEPT { self.bins[i + by] } else { 0 };
        }
    }

    fn add_special(&mut self, x: f64) {
        self.special |= match x {
            _ if x.is_nan() => NOT_A_NUMBER,
            _ if x > 0.0 => INFINITE,
            _ => MINUS_INFINITE,
        };
    }
}

impl AddAssign<f64> for Binned {
    #[inline]
    fn add_assign(&mut self, x: f64) {
        let bits = x.to_bits();
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as u32, bits & ((1 << 52) - 1));
        let (place, mantissa) = match exponent {
            0 if fraction == 0 => return,
            0 => (0, fraction),
            0x7ff => return self.add_special(x),
            // Place 0 is that of the lowest bit of the smallest number.
            _ => (exponent - 1, fraction | 1 << 52),
        };
        let (low, top) = ((place / BITS) as i32, ((place + 52) / BITS) as i32);
        if top > self.top {
            self.raise(top);
        }
        let sign = if bits >> 63 == 0 { 1 } else { -1 };
        let mut slices = u128::from(mantissa) << (place % BITS);
        let lowest = self.top - (KEPT as i32 - 1);
        for bin in low..=top {
            if bin >= lowest {
                self.bins[(bin - lowest) as usize] += sign * (slices as i64 & ((1 << BITS) - 1));
            }
            slices >>= BITS;
        }
    }
}

impl AddAssign for Binned {
    fn add_assign(&mut self, mut other: Binned) {
        if other.top > self.top {
            self.raise(other.top);
        } else {
            other.raise(self.top);
        }
        self.bins.iter_mut().zip(other.bins).for_each(|(a, b)| *a += b);
        self.special |= other.special;
    }
}

impl std::iter::Sum<f64> for Binned {
    fn sum<I: Iterator<Item = f64>>(numbers: I) -> Binned {
        numbers.fold(Binned::default(), |mut sum, x| {
            sum += x;
            sum
        })
    }
}

impl From<f64> for Binned {
    /// The sum of one number.
    fn from(x: f64) -> Binned {
        std::iter::once(x).sum()
    }
}

impl From<Binned> for f64 {
    /// The sum, rounded once.
    fn from(sum: Binned) -> f64 {
        match sum.special {
            0 => {}
            INFINITE => return f64::INFINITY,
            MINUS_INFINITE => return f64::NEG_INFINITY,
            _ => return f64::NAN,
        }
        let [a, b, c, d] = sum.bins.map(i128::from);
        // The two lower bins are fewer bits than an i128 has beside the upper two.
        let low = a + (b << BITS);
        let high = c + (d << BITS) + (low >> (2 * BITS));
        let low = low & ((1 << (2 * BITS)) - 1);
        let near = high as f64;
        let rest = ((high - near as i128) << (2 * BITS)) + low;
        let whole = near * power_of_two(2 * BITS as i32) + rest as f64;
        let exponent = (sum.top - (KEPT as i32 - 1)) * BITS as i32 - 1074;
        // In two steps, of which at most the last rounds: the whole power may be too small to be a number.
        whole * power_of_two(exponent / 2) * power_of_two(exponent - exponent / 2)
    }
}

/// 2^`exponent`, for those whose powers are normal numbers.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers of all sizes and signs.
    fn any_number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => any::<f64>().prop_filter("a number", |x| x.is_finite()),
            2 => -1e3..1e3f64,
            1 => prop::sample::select(vec![0.0, -0.0, 5e-324, -5e-324, f64::MIN_POSITIVE, f64::MAX / 1e9, 1e300, -1e300]),
        ]
    }

    proptest! {
        #[test]
        fn order_and_groups_do_not_matter(numbers in prop::collection::vec(any_number(), 0..60), cuts in prop::collection::vec(0usize..60, 0..6), seed: u64) {
            let whole: Binned = numbers.iter().copied().sum();
            let mut order: Vec<(u64, f64)> =
                numbers.iter().zip(0u64..).map(|(x, i)| ((seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17), *x)).collect();
            order.sort_by_key(|(key, _)| *key);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(order.len())).chain([0, order.len()]).collect();
            cuts.sort_unstable();
            let mut groups: Vec<Binned> =
                cuts.windows(2).map(|two| order[two[0]..two[1]].iter().map(|(_, x)| *x).sum()).collect();
            while groups.len() > 1 {
                let other = groups.swap_remove(seed as usize % groups.len());
                let at = seed as usize / 7 % groups.len();
                groups[at] += other;
            }
            prop_assert_eq!(groups[0], whole);
            prop_assert_eq!(f64::from(groups[0]).to_bits(), f64::from(whole).to_bits());
        }

        #[test]
        fn sums_that_fit_are_exact(numbers in prop::collection::vec((-(1i64 << 52)..1i64 << 52, 0u32..18), 0..200)) {
            let exact: i128 = numbers.iter().map(|(m, e)| i128::from(*m) << e).sum();
            let sum: Binned = numbers.iter().map(|(m, e)| *m as f64 * f64::from(1u32 << e)).sum();
            prop_assert_eq!(f64::from(sum), exact as f64);
        }

        #[test]
        fn a_number_by_itself_comes_back(x in any_number()) {
            prop_assert_eq!(f64::from(Binned::from(x)), x);
        }
    }

    #[test]
    fn numbers_far_below_the_largest_are_dropped_in_any_order() {
        for order in [[1e300, 1.0, -1e300], [1.0, 1e300, -1e300], [1e300, -1e300, 1.0]] {
            assert_eq!(f64::from(order.into_iter().sum::<Binned>()), 0.0);
        }
        let near: Binned = [1e16, 1.0, -1e16].into_iter().sum();
        assert_eq!(f64::from(near), 1.0, "an ordinary sum gives 0 or 2");
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let sum = |numbers: &[f64]| f64::from(numbers.iter().copied().sum::<Binned>());
        assert_eq!(sum(&[1.0, f64::INFINITY]), f64::INFINITY);
        assert_eq!(sum(&[f64::NEG_INFINITY, 1.0]), f64::NEG_INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan() && sum(&[f64::NAN, 1.0]).is_nan());
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[]).to_bits(), 0);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
    }
}
