//! Which centroid is nearest: the register tile, where nearly all time goes.
//!
//! Points lie in lanes: a tile is two registers of points. [`GROUP`] centroids at a time are scored against it, one fused
//! multiply-add a dimension, and those are what the loop is bound by. Modern cores issue a vector minimum beside them
//! for nothing, but a comparison takes the multiplier's place. Hence two ways to find the smallest score:
//! - **direct**: one comparison for each score (a share of `1/d`);
//! - **grouped**: only the minimum of each group, one comparison a group, then the winner inside the winning group
//!   by computing its scores once more for each point, now with centroids in lanes (a share of `GROUP/k`).
use super::Real;
use super::prepared::{GROUP, Prepared};
use pulp::Simd;

/// Lanes of a tile, in registers.
pub(super) const VECTORS: usize = 2;

/// One dimension of a tile of points.
pub(super) type Row<T, S> = [<T as Real>::Reals<S>; VECTORS];

/// Writes the nearest centroid of each point of `tile` (one row a dimension) to `labels` (lanes x [`VECTORS`]).
#[inline(always)]
pub(super) fn assign<T: Real, S: Simd>(simd: S, p: &Prepared<T>, tile: &[Row<T, S>], labels: &mut [u32]) {
    // The number of accumulators must fit the registers, or they live on the stack.
    let grouped = p.k() > 9 * tile.len();
    match (grouped, S::REGISTER_COUNT >= 32) {
        (true, true) => by_group::<T, S, 8>(simd, p, tile, labels),
        (true, false) => by_group::<T, S, 4>(simd, p, tile, labels),
        (false, true) => direct::<T, S, 8>(simd, p, tile, labels),
        (false, false) => direct::<T, S, 4>(simd, p, tile, labels),
    }
}

/// Scores of the `M` centroids of a group that start at `first`.
#[inline(always)]
fn scores<T: Real, S: Simd, const M: usize>(
    simd: S,
    tile: &[Row<T, S>],
    packed: &[[T; GROUP]],
    norms: &[T; GROUP],
    first: usize,
) -> [Row<T, S>; M] {
    let mut acc = [[T::splat(simd, T::ZERO); VECTORS]; M];
    for m in 0..M {
        acc[m] = [T::splat(simd, norms[first + m]); VECTORS];
    }
    for (x, c) in tile.iter().zip(packed) {
        for m in 0..M {
            let c = T::splat(simd, c[first + m]);
            for v in 0..VECTORS {
                acc[m][v] = T::fma(simd, x[v], c, acc[m][v]);
            }
        }
    }
    acc
}

#[inline(always)]
fn direct<T: Real, S: Simd, const M: usize>(
    simd: S,
    p: &Prepared<T>,
    tile: &[Row<T, S>],
    labels: &mut [u32],
) {
    let mut best: Row<T, S> = [T::splat(simd, T::INFINITY); VECTORS];
    let mut winner = [T::splat_index(simd, T::index(0)); VECTORS];
    for (g, (packed, norms)) in p.packed.chunks_exact(tile.len()).zip(&p.norms).enumerate() {
        for first in (0..GROUP).step_by(M) {
            let acc = scores::<T, S, M>(simd, tile, packed, norms, first);
            for m in 0..M {
                let here = T::splat_index(simd, T::index(g * GROUP + first + m));
                for v in 0..VECTORS {
                    winner[v] = T::where_less(simd, acc[m][v], best[v], here, winner[v]);
                    best[v] = T::min(simd, acc[m][v], best[v]);
                }
            }
        }
    }
    let winner: &[T::Index] = bytemuck::cast_slice(&winner);
    for (label, &w) in labels.iter_mut().zip(winner) {
        *label = T::position(w) as u32;
    }
}

#[inline(always)]
fn by_group<T: Real, S: Simd, const M: usize>(
    simd: S,
    p: &Prepared<T>,
    tile: &[Row<T, S>],
    labels: &mut [u32],
) {
    let mut best: Row<T, S> = [T::splat(simd, T::INFINITY); VECTORS];
    let mut winner = [T::splat_index(simd, T::index(0)); VECTORS];
    for (g, (packed, norms)) in p.packed.chunks_exact(tile.len()).zip(&p.norms).enumerate() {
        let here = T::splat_index(simd, T::index(g));
        for first in (0..GROUP).step_by(M) {
            let mut acc = scores::<T, S, M>(simd, tile, packed, norms, first);
            // A tree, because the latency of M minima in a row would show.
            let mut left = M;
            while left > 1 {
                left /= 2;
                for m in 0..left {
                    for v in 0..VECTORS {
                        acc[m][v] = T::min(simd, acc[m][v], acc[m + left][v]);
                    }
                }
            }
            for v in 0..VECTORS {
                winner[v] = T::where_less(simd, acc[0][v], best[v], here, winner[v]);
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
        let mut score = p.norms[g];
        for (x, c) in coordinates.chunks_exact(lanes).zip(&p.packed[g * tile.len()..]) {
            let x = x[lane];
            for m in 0..GROUP {
                score[m] = if S::IS_SCALAR { x * c[m] + score[m] } else { x.fused(c[m], score[m]) };
            }
        }
        // The same operations in the same order give the same bits, so the winner is the first that equals the minimum.
        let mut at = GROUP as u32;
        for m in 0..GROUP {
            at = at.min(if score[m] == best { m as u32 } else { GROUP as u32 });
        }
        debug_assert!(at < GROUP as u32, "the group {g} has lost its minimum");
        *label = (g * GROUP) as u32 + at.min(GROUP as u32 - 1);
    }
}
