//! The element types of the data, and the few vector operations that the kernel needs of them.
use super::farthest::Distances;
use super::pass::{Pass, dispatch};
use super::score::Scores;
use bytemuck::Pod;
use pulp::{Arch, Simd};
use std::fmt::Debug;
use std::ops::{Add, Mul};

/// `f32` or `f64`: one coordinate of a point.
///
/// The vector part hides that [`pulp::Simd`] names its operations by element type. Every function is one instruction
/// and is inlined into the kernel, which `pulp` compiles once for each instruction set.
pub trait Real:
    Pod + Debug + PartialOrd + Add<Output = Self> + Mul<Output = Self> + Send + Sync + 'static
{
    /// A register of coordinates.
    type Reals<S: Simd>: Pod;
    /// A register of as many unsigned integers as [`Real::Reals`] has coordinates, of the same width.
    type Indices<S: Simd>: Pod;
    /// The integer in [`Real::Indices`].
    type Index: Pod;

    /// Zero, for padding.
    const ZERO: Self;
    /// Positive infinity: the score of a centroid that does not exist.
    const INFINITY: Self;

    /// The distance from 1 to the next larger number.
    const EPSILON: f64;
    /// The smallest positive number with all its digits.
    const TINY: f64;
    /// An eighth of the largest number.
    const HUGE: f64;

    /// Rounds to this type.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// Narrows an index; `i` is at most `u32::MAX`.
    fn index(i: usize) -> Self::Index;
    /// Widens an index.
    fn position(i: Self::Index) -> usize;

    /// All lanes `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Reals<S>;
    /// All lanes `i`.
    fn splat_index<S: Simd>(simd: S, i: Self::Index) -> Self::Indices<S>;
    /// `a - b`.
    fn sub<S: Simd>(simd: S, a: Self::Reals<S>, b: Self::Reals<S>) -> Self::Reals<S>;
    /// `a * b + c`, fused where the machine can.
    fn fma<S: Simd>(simd: S, a: Self::Reals<S>, b: Self::Reals<S>, c: Self::Reals<S>) -> Self::Reals<S>;
    /// The smaller of each lane.
    fn min<S: Simd>(simd: S, a: Self::Reals<S>, b: Self::Reals<S>) -> Self::Reals<S>;
    /// The larger of each lane.
    fn max<S: Simd>(simd: S, a: Self::Reals<S>, b: Self::Reals<S>) -> Self::Reals<S>;
    /// `yes` in lanes where `a < b`, else `no`.
    fn where_less<S: Simd>(
        simd: S,
        a: Self::Reals<S>,
        b: Self::Reals<S>,
        yes: Self::Indices<S>,
        no: Self::Indices<S>,
    ) -> Self::Indices<S>;

    /// The loop of [`pass()`](super::pass()) on `arch`: the inertia.
    #[doc(hidden)]
    fn pass(arch: Arch, pass: Pass<'_, Self, 0>) -> f64;
    /// That of [`farthest()`](super::farthest()).
    #[doc(hidden)]
    fn distances(distances: Distances<'_, Self>);
    /// That of [`scores()`](super::scores()).
    #[doc(hidden)]
    fn scores(scores: Scores<'_, Self>);
}

macro_rules! real {
    ($t:ty, $index:ty, $reals:ident, $indices:ident, $splat:ident, $splat_index:ident, $sub:ident, $mul:ident, $add:ident,
     $fma:ident, $min:ident, $max:ident, $less:ident, $select:ident) => {
        impl Real for $t {
            type Reals<S: Simd> = S::$reals;
            type Indices<S: Simd> = S::$indices;
            type Index = $index;
            const ZERO: Self = 0.0;
            const INFINITY: Self = <$t>::INFINITY;
            const EPSILON: f64 = <$t>::EPSILON as f64;
            const TINY: f64 = <$t>::MIN_POSITIVE as f64;
            const HUGE: f64 = <$t>::MAX as f64 / 8.0;

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn index(i: usize) -> $index {
                i as $index
            }
            #[inline(always)]
            fn position(i: $index) -> usize {
                i as usize
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$reals {
                simd.$splat(x)
            }
            #[inline(always)]
            fn splat_index<S: Simd>(simd: S, i: $index) -> S::$indices {
                simd.$splat_index(i)
            }
            #[inline(always)]
            fn sub<S: Simd>(simd: S, a: S::$reals, b: S::$reals) -> S::$reals {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn fma<S: Simd>(simd: S, a: S::$reals, b: S::$reals, c: S::$reals) -> S::$reals {
                // Without the instruction a fused multiply-add is a library call.
                if S::IS_SCALAR { simd.$add(simd.$mul(a, b), c) } else { simd.$fma(a, b, c) }
            }
            #[inline(always)]
            fn min<S: Simd>(simd: S, a: S::$reals, b: S::$reals) -> S::$reals {
                simd.$min(a, b)
            }
            #[inline(always)]
            fn max<S: Simd>(simd: S, a: S::$reals, b: S::$reals) -> S::$reals {
                simd.$max(a, b)
            }
            #[inline(always)]
            fn where_less<S: Simd>(
                simd: S,
                a: S::$reals,
                b: S::$reals,
                yes: S::$indices,
                no: S::$indices,
            ) -> S::$indices {
                simd.$select(simd.$less(a, b), yes, no)
            }

            fn pass(arch: Arch, pass: Pass<'_, Self, 0>) -> f64 {
                dispatch(arch, pass)
            }
            fn distances(distances: Distances<'_, Self>) {
                Arch::new().dispatch(distances);
            }
            fn scores(scores: Scores<'_, Self>) {
                Arch::new().dispatch(scores);
            }
        }
    };
}

real!(
    f64,
    u64,
    f64s,
    u64s,
    splat_f64s,
    splat_u64s,
    sub_f64s,
    mul_f64s,
    add_f64s,
    mul_add_e_f64s,
    min_f64s,
    max_f64s,
    less_than_f64s,
    select_u64s
);
real!(
    f32,
    u32,
    f32s,
    u32s,
    splat_f32s,
    splat_u32s,
    sub_f32s,
    mul_f32s,
    add_f32s,
    mul_add_e_f32s,
    min_f32s,
    max_f32s,
    less_than_f32s,
    select_u32s
);
