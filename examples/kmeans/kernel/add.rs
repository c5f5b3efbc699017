//! The point-by-point work: distances to one centroid, and sums by cluster, both in f64.
use super::Real;
use super::prepared::GROUP;
use pulp::Simd;

/// Adds the point of `d` coordinates at the start of `from` to the sum of its cluster, and its squared distance to
/// `inertia`, of which [`GROUP`] lanes are used.
#[inline(always)]
pub(super) fn add_row<T: Real, E: Simd>(
    simd: E,
    from: &[T],
    d: usize,
    centroid: &[[f64; GROUP]],
    sum: &mut [[f64; GROUP]],
    mut inertia: [E::f64s; GROUP],
) -> [E::f64s; GROUP] {
    let lanes = E::F64_LANES;
    for (i, (c, sum)) in centroid.iter().zip(sum).enumerate() {
        let c: &[E::f64s] = bytemuck::cast_slice(c);
        let sum: &mut [E::f64s] = bytemuck::cast_slice_mut(sum);
        for v in 0..GROUP / lanes {
            let at = i * GROUP + v * lanes;
            if at < d {
                let x = widen(simd, &from[at..], d - at);
                let e = simd.sub_f64s(x, c[v]);
                inertia[v] = <f64 as Real>::fma(simd, e, e, inertia[v]);
                sum[v] = simd.add_f64s(sum[v], x);
            }
        }
    }
    inertia
}

/// The first `valid` numbers of `from` as a register, then zeros.
#[inline(always)]
fn widen<T: Real, E: Simd>(simd: E, from: &[T], valid: usize) -> E::f64s {
    let zero = simd.splat_f64s(0.0);
    let mut x = zero;
    let lanes: &mut [f64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut x));
    let n = lanes.len();
    if let Some(from) = from.get(..n) {
        for (x, from) in lanes.iter_mut().zip(from) {
            *x = from.to_f64();
        }
        if valid < n {
            // What lies beyond belongs to the next row: read and masked, it costs less than a loop of unknown length.
            x = simd.select_f64s(simd.mask_between_m64s(0, valid as u64).mask(), x, zero);
        }
    } else {
        for (x, from) in lanes.iter_mut().zip(&from[..valid.min(from.len())]) {
            *x = from.to_f64();
        }
    }
    x
}

/// Squared distance of the point of `d` coordinates at the start of `from` to a centroid.
#[inline(always)]
pub(super) fn distance2<T: Real, E: Simd>(simd: E, from: &[T], d: usize, centroid: &[[f64; GROUP]]) -> f64 {
    if d <= 4 {
        let squares =
            from[..d].iter().zip(centroid.as_flattened()).map(|(x, c)| x.to_f64() - c).map(|e| e * e);
        return squares.sum();
    }
    let lanes = E::F64_LANES;
    let mut part = [simd.splat_f64s(0.0); 2];
    for (i, c) in centroid.iter().enumerate() {
        let c: &[E::f64s] = bytemuck::cast_slice(c);
        for v in 0..GROUP / lanes {
            let at = i * GROUP + v * lanes;
            if at < d {
                let e = simd.sub_f64s(widen(simd, &from[at..], d - at), c[v]);
                part[v % 2] = <f64 as Real>::fma(simd, e, e, part[v % 2]);
            }
        }
    }
    simd.reduce_sum_f64s(simd.add_f64s(part[0], part[1]))
}
