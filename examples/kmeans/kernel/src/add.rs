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
    let (whole, tail) = from[..d].as_chunks::<GROUP>();
    for ((x, c), sum) in whole.iter().zip(centroid).zip(&mut *sum) {
        add_group(simd, widen(x), GROUP, c, sum, &mut inertia);
    }
    if let (false, Some(c), Some(sum)) =
        (tail.is_empty(), centroid.get(whole.len()), sum.get_mut(whole.len()))
    {
        let x = widen_tail(&from[whole.len() * GROUP..], tail.len());
        add_group(simd, x, tail.len(), c, sum, &mut inertia);
    }
    inertia
}

/// [`add_row`] for the `valid` first of [`GROUP`] coordinates; the others are zero, in the centroid too.
#[inline(always)]
fn add_group<E: Simd>(
    simd: E,
    x: [f64; GROUP],
    valid: usize,
    c: &[f64; GROUP],
    sum: &mut [f64; GROUP],
    inertia: &mut [E::f64s; GROUP],
) {
    let x: &[E::f64s] = bytemuck::cast_slice(&x);
    let c: &[E::f64s] = bytemuck::cast_slice(c);
    let sum: &mut [E::f64s] = bytemuck::cast_slice_mut(sum);
    for v in 0..GROUP / E::F64_LANES {
        if v * E::F64_LANES < valid {
            let e = simd.sub_f64s(x[v], c[v]);
            inertia[v] = <f64 as Real>::fma(simd, e, e, inertia[v]);
            sum[v] = simd.add_f64s(sum[v], x[v]);
        }
    }
}

#[inline(always)]
fn widen<T: Real>(x: &[T; GROUP]) -> [f64; GROUP] {
    x.map(T::to_f64)
}

/// The first `valid` of `from`, then zeros.
#[inline(always)]
fn widen_tail<T: Real>(from: &[T], valid: usize) -> [f64; GROUP] {
    match from.first_chunk::<GROUP>() {
        // What lies beyond belongs to the next row: read and masked, it costs less than a loop of unknown length.
        Some(x) => std::array::from_fn(|i| if i < valid { x[i].to_f64() } else { 0.0 }),
        None => {
            let mut x = [0.0; GROUP];
            x.iter_mut().zip(&from[..valid]).for_each(|(x, from)| *x = from.to_f64());
            x
        }
    }
}

/// Squared distance of the point of `d` coordinates at the start of `from` to a centroid.
#[inline(always)]
pub(super) fn distance2<T: Real, E: Simd>(simd: E, from: &[T], d: usize, centroid: &[[f64; GROUP]]) -> f64 {
    if d <= 4 {
        let squares =
            from[..d].iter().zip(centroid.as_flattened()).map(|(x, c)| x.to_f64() - c).map(|e| e * e);
        return squares.sum();
    }
    let mut part = [simd.splat_f64s(0.0); GROUP];
    let (whole, tail) = from[..d].as_chunks::<GROUP>();
    for (x, c) in whole.iter().zip(centroid) {
        distance_group(simd, widen(x), GROUP, c, &mut part);
    }
    if let (false, Some(c)) = (tail.is_empty(), centroid.get(whole.len())) {
        let x = widen_tail(&from[whole.len() * GROUP..], tail.len());
        distance_group(simd, x, tail.len(), c, &mut part);
    }
    let used = &part[1..GROUP / E::F64_LANES];
    simd.reduce_sum_f64s(used.iter().fold(part[0], |sum, &part| simd.add_f64s(sum, part)))
}

/// [`distance2`] for the `valid` first of [`GROUP`] coordinates.
#[inline(always)]
fn distance_group<E: Simd>(
    simd: E,
    x: [f64; GROUP],
    valid: usize,
    c: &[f64; GROUP],
    part: &mut [E::f64s; GROUP],
) {
    let x: &[E::f64s] = bytemuck::cast_slice(&x);
    let c: &[E::f64s] = bytemuck::cast_slice(c);
    for v in 0..GROUP / E::F64_LANES {
        if v * E::F64_LANES < valid {
            let e = simd.sub_f64s(x[v], c[v]);
            part[v] = <f64 as Real>::fma(simd, e, e, part[v]);
        }
    }
}
