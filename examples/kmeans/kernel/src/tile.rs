//! Rows into tiles: points in lanes, one register row a dimension.
use super::Real;
use super::assign::{Row, VECTORS};
use super::prepared::Prepared;
use pulp::Simd;

/// Rows of `d` coordinates to columns of `lanes`; lanes without a row keep what they had.
#[inline(always)]
pub(super) fn transpose<T: Real>(rows: &[T], d: usize, lanes: usize, tile: &mut [T]) {
    // As integers: of those a core stores two a cycle.
    let rows: &[T::Index] = bytemuck::cast_slice(rows);
    let tile: &mut [T::Index] = bytemuck::cast_slice_mut(tile);
    for (lane, row) in rows.chunks_exact(d).enumerate() {
        for (column, &x) in tile.chunks_exact_mut(lanes).zip(row) {
            column[lane] = x;
        }
    }
}

/// The same for the rows of `rows` that `chosen` lists.
#[inline(always)]
pub(super) fn gather<T: Real>(rows: &[T], chosen: &[u32], d: usize, lanes: usize, tile: &mut [T]) {
    let rows: &[T::Index] = bytemuck::cast_slice(rows);
    let tile: &mut [T::Index] = bytemuck::cast_slice_mut(tile);
    for (lane, &r) in chosen.iter().enumerate() {
        let row = &rows[r as usize * d..][..d];
        for (column, &x) in tile.chunks_exact_mut(lanes).zip(row) {
            column[lane] = x;
        }
    }
}

/// Takes the shift of `p` from every point of a tile.
#[inline(always)]
pub(super) fn shift<T: Real, S: Simd>(simd: S, p: &Prepared<T>, tile: &mut [Row<T, S>]) {
    for (row, &shift) in tile.iter_mut().zip(&p.shift) {
        let shift = T::splat(simd, shift);
        for x in row {
            *x = T::sub(simd, *x, shift);
        }
    }
}

/// The squared norms of the points of a tile.
#[inline(always)]
pub(super) fn norms2<T: Real, S: Simd>(simd: S, tile: &[Row<T, S>]) -> Row<T, S> {
    let mut sum: Row<T, S> = [T::splat(simd, T::ZERO); VECTORS];
    for row in tile {
        for (sum, &x) in sum.iter_mut().zip(row) {
            *sum = T::fma(simd, x, x, *sum);
        }
    }
    sum
}
