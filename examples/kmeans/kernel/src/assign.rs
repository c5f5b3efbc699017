//! Which centroid is nearest: the register tile, where nearly all time goes.
//!
//! Points lie in lanes: a tile is two registers of points. [`GROUP`] centroids at a time are scored against it, one fused
//! multiply-add a dimension, and those are what the loop is bound by. Modern cores issue a vector minimum beside them
//! for nothing, but a comparison takes the multiplier's place. Hence two ways to find the smallest score:
//! - **direct**: one comparison for each score (`k / lanes` cycles a point);
//! - **grouped**: only the minimum of each group, one comparison a group, then the winner inside the winning group
//!   by computing its scores once more for each point, now with centroids in lanes (a cost that does not grow with `k`).
use super::Real;
use super::prepared::{GROUP, Scored};
use pulp::{Simd, WithSimd};

/// Lanes of a tile, in registers.
pub(super) const VECTORS: usize = 2;

/// One dimension of a tile of points.
pub(super) type Row<T, S> = [<T as Real>::Reals<S>; VECTORS];

/// Writes the nearest centroid of each point of `tile` (one row a dimension) to `labels` (lanes x [`VECTORS`]).
///
/// If `seconds` has that length too, it gets the second smallest score of each point (infinity if there is no second).
#[inline(always)]
pub(super) fn assign<T: Real, S: Simd, E: Simd>(
    simd: S,
    narrow: E,
    p: Scored<'_, T>,
    tile: &[Row<T, S>],
    labels: &mut [u32],
    seconds: &mut [T],
) {
    // The number of accumulators must fit the registers, or they live on the stack. (An `if` of a constant by itself, since
    // the compiler makes nothing of the other branch then.)
    if S::REGISTER_COUNT >= 32 {
        assign_by::<T, S, E, 8>(simd, narrow, p, tile, labels, seconds);
    } else {
        assign_by::<T, S, E, 4>(simd, narrow, p, tile, labels, seconds);
    }
}

/// [`assign`] as a function of its own, whatever the number of dimensions. `tile` is one of the instruction set that it is called with.
pub(super) struct Assign<'a, T, E> {
    pub(super) narrow: E,
    pub(super) p: Scored<'a, T>,
    pub(super) tile: &'a [T],
    pub(super) labels: &'a mut [u32],
    pub(super) seconds: &'a mut [T],
}

impl<T: Real, E: Simd> WithSimd for Assign<'_, T, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { narrow, p, tile, labels, seconds } = self;
        assign::<T, S, E>(simd, narrow, p, bytemuck::cast_slice(tile), labels, seconds);
    }
}

/// [`assign`] with `M` centroids at a time.
#[inline(always)]
fn assign_by<T: Real, S: Simd, E: Simd, const M: usize>(
    simd: S,
    narrow: E,
    p: Scored<'_, T>,
    tile: &[Row<T, S>],
    labels: &mut [u32],
    seconds: &mut [T],
) {
    match (p.k > 9 * tile.len(), seconds.is_empty()) {
        (true, true) => by_group::<T, S, E, M, false>(simd, narrow, p, tile, labels, seconds),
        (true, false) => by_group::<T, S, E, M, true>(simd, narrow, p, tile, labels, seconds),
        (false, true) => direct::<T, S, M, false>(simd, p, tile, labels, seconds),
        (false, false) => direct::<T, S, M, true>(simd, p, tile, labels, seconds),
    }
}

/// Scores of the `M` centroids of a group that start at `first`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "an index that is a constant after unrolling")]
fn scores<T: Real, S: Simd, const M: usize>(
    simd: S,
    tile: &[Row<T, S>],
    packed: &[[T; GROUP]],
    norms: &[T; GROUP],
    first: usize,
) -> [Row<T, S>; M] {
    let mut acc = [[T::splat(simd, T::ZERO); VECTORS]; M];
    let (Some((x, tile)), Some((c, packed))) = (tile.split_first(), packed.split_first()) else {
        return acc;
    };
    // The first dimension fills the accumulators, which need no start value then; the others go two at a time.
    for (m, acc) in acc.iter_mut().enumerate() {
        let (c, norm) = (T::splat(simd, c[first + m]), T::splat(simd, norms[first + m]));
        for v in 0..VECTORS {
            acc[v] = T::fma(simd, x[v], c, norm);
        }
    }
    let ((x_pairs, x_left), (c_pairs, c_left)) = (tile.as_chunks::<2>(), packed.as_chunks::<2>());
    for (x, c) in x_pairs.iter().zip(c_pairs) {
        add::<T, S, M>(simd, &x[0], &c[0], first, &mut acc);
        add::<T, S, M>(simd, &x[1], &c[1], first, &mut acc);
    }
    if let (Some(x), Some(c)) = (x_left.first(), c_left.first()) {
        add::<T, S, M>(simd, x, c, first, &mut acc);
    }
    acc
}

/// Adds one dimension to scores. (Not a closure: that would not be compiled for the instruction set.)
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "an index that is a constant after unrolling")]
fn add<T: Real, S: Simd, const M: usize>(
    simd: S,
    x: &Row<T, S>,
    c: &[T; GROUP],
    first: usize,
    acc: &mut [Row<T, S>; M],
) {
    for (m, acc) in acc.iter_mut().enumerate() {
        let c = T::splat(simd, c[first + m]);
        for v in 0..VECTORS {
            acc[v] = T::fma(simd, x[v], c, acc[v]);
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "an index that is a constant after unrolling")]
fn direct<T: Real, S: Simd, const M: usize, const SECOND: bool>(
    simd: S,
    p: Scored<'_, T>,
    tile: &[Row<T, S>],
    labels: &mut [u32],
    seconds: &mut [T],
) {
    let mut second: Row<T, S> = [T::splat(simd, T::INFINITY); VECTORS];
    let mut best: Row<T, S> = [T::splat(simd, T::INFINITY); VECTORS];
    let mut winner = [T::splat_index(simd, T::index(0)); VECTORS];
    for (g, (packed, norms)) in p.packed.chunks_exact(tile.len()).zip(p.norms.iter()).enumerate() {
        for first in (0..GROUP).step_by(M) {
            let acc = scores::<T, S, M>(simd, tile, packed, norms, first);
            for m in 0..M {
                let here = T::splat_index(simd, T::index(g * GROUP + first + m));
                for v in 0..VECTORS {
                    winner[v] = T::where_less(simd, acc[m][v], best[v], here, winner[v]);
                    if SECOND {
                        second[v] = T::min(simd, second[v], T::max(simd, acc[m][v], best[v]));
                    }
                    best[v] = T::min(simd, acc[m][v], best[v]);
                }
            }
        }
    }
    let winner: &[T::Index] = bytemuck::cast_slice(&winner);
    for (label, &w) in labels.iter_mut().zip(winner) {
        *label = T::position(w) as u32;
    }
    if SECOND {
        seconds.copy_from_slice(&bytemuck::cast_slice(&second)[..labels.len()]);
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "an index that is a constant after unrolling")]
fn by_group<T: Real, S: Simd, E: Simd, const M: usize, const SECOND: bool>(
    simd: S,
    narrow: E,
    p: Scored<'_, T>,
    tile: &[Row<T, S>],
    labels: &mut [u32],
    seconds: &mut [T],
) {
    // Of the groups' minima; inside the winning group there may be a smaller one.
    let mut second: Row<T, S> = [T::splat(simd, T::INFINITY); VECTORS];
    let mut best: Row<T, S> = [T::splat(simd, T::INFINITY); VECTORS];
    let mut winner = [T::splat_index(simd, T::index(0)); VECTORS];
    for (g, (packed, norms)) in p.packed.chunks_exact(tile.len()).zip(p.norms.iter()).enumerate() {
        let here = T::splat_index(simd, T::index(g));
        for first in (0..GROUP).step_by(M) {
            let mut acc = scores::<T, S, M>(simd, tile, packed, norms, first);
            // A tree, because the latency of M minima in a row would show.
            let mut left = M;
            while left > 1 {
                left /= 2;
                for m in 0..left {
                    let other = acc[m + left];
                    for (a, b) in acc[m].iter_mut().zip(other) {
                        *a = T::min(simd, *a, b);
                    }
                }
            }
            for v in 0..VECTORS {
                winner[v] = T::where_less(simd, acc[0][v], best[v], here, winner[v]);
                if SECOND {
                    second[v] = T::min(simd, second[v], T::max(simd, acc[0][v], best[v]));
                }
                best[v] = T::min(simd, acc[0][v], best[v]);
            }
        }
    }
    let lanes = labels.len();
    let best: &[T] = bytemuck::cast_slice(&best);
    let winner: &[T::Index] = bytemuck::cast_slice(&winner);
    let coordinates: &[T] = bytemuck::cast_slice(tile);
    for (lane, ((label, &w), &best)) in labels.iter_mut().zip(winner).zip(best).enumerate() {
        let g = T::position(w);
        // The same operations in the same order give the same bits, so the winner is the first that equals the minimum.
        let scores = scores_in_group::<T, E>(
            narrow,
            coordinates.chunks_exact(lanes).map(|x| x[lane]),
            &p.packed[g * tile.len()..][..tile.len()],
            p.norms[g],
        );
        let in_group = first_of::<T, E>(narrow, &scores, best);
        *label = (g * GROUP) as u32 + in_group;
        if SECOND {
            let others = scores.iter().enumerate().filter(|(m, _)| *m != in_group as usize);
            let least = others.fold(T::INFINITY, |least, (_, &s)| if s < least { s } else { least });
            let of_groups = bytemuck::cast_slice::<_, T>(&second)[lane];
            seconds[lane] = if least < of_groups { least } else { of_groups };
        }
    }
}

/// The scores of a group of centroids for the point with coordinates `x`.
#[inline(always)]
fn scores_in_group<T: Real, E: Simd>(
    simd: E,
    x: impl Iterator<Item = T>,
    packed: &[[T; GROUP]],
    mut norms: [T; GROUP],
) -> [T; GROUP] {
    let score: &mut [T::Reals<E>] = bytemuck::cast_slice_mut(&mut norms);
    for (x, c) in x.zip(packed) {
        let c: &[T::Reals<E>] = bytemuck::cast_slice(c);
        let x = T::splat(simd, x);
        for (score, &c) in score.iter_mut().zip(c) {
            *score = T::fma(simd, x, c, *score);
        }
    }
    norms
}

/// Which of the scores of a group is the first that is `best`, their minimum.
#[inline(always)]
fn first_of<T: Real, E: Simd>(simd: E, scores: &[T; GROUP], best: T) -> u32 {
    let best = T::splat(simd, best);
    let none = T::splat_index(simd, T::index(0));
    let mut bits = [T::index(0); GROUP];
    for (m, bit) in bits.iter_mut().enumerate() {
        *bit = T::index(1 << m);
    }
    let scores: &[T::Reals<E>] = bytemuck::cast_slice(scores);
    for (bit, &score) in bytemuck::cast_slice_mut::<_, T::Indices<E>>(&mut bits).iter_mut().zip(scores) {
        *bit = T::where_less(simd, best, score, none, *bit);
    }
    // Without branches: which of the group it is cannot be predicted.
    let found = bits.iter().fold(0, |found, bit| found | T::position(*bit) as u32);
    debug_assert!(found != 0, "a group has lost its minimum");
    (found | 1 << (GROUP - 1)).trailing_zeros()
}
