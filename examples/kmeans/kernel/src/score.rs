//! The score by which a pass has chosen, for those who choose between several passes.
use super::prepared::GROUP;
use super::{Prepared, Real};
use pulp::{Simd, WithSimd};

/// Writes the score of each row of `points` with the centroid of its label: what [`pass()`](super::pass()) compares, with the same
/// bits, so that the smallest over several sets of centroids is that of a pass over all of them.
pub fn scores<T: Real>(points: &[T], centroids: &Prepared<T>, labels: &[u32], scores: &mut [T]) {
    T::scores(Scores { points, p: centroids, labels, scores });
}

pub struct Scores<'a, T> {
    points: &'a [T],
    p: &'a Prepared<T>,
    labels: &'a [u32],
    scores: &'a mut [T],
}

impl<T: Real> WithSimd for Scores<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { points, p, labels, scores } = self;
        let d = p.d();
        for ((row, &label), score) in points.chunks_exact(d).zip(labels).zip(scores) {
            let (group, lane) = (label as usize / GROUP, label as usize % GROUP);
            let mut sum = T::splat(simd, p.norms[group][lane]);
            for ((&x, &shift), c) in row.iter().zip(&p.shift).zip(&p.packed[group * d..][..d]) {
                let x = T::sub(simd, T::splat(simd, x), T::splat(simd, shift));
                sum = T::fma(simd, x, T::splat(simd, c[lane]), sum);
            }
            *score = bytemuck::cast_slice(std::slice::from_ref(&sum))[0];
        }
    }
}
