//! Points to move empty clusters to.
use super::add::distance2;
use super::prepared::GROUP;
use super::{Accum, Algorithm, Prepared, Real, pass};
use pulp::{Simd, WithSimd};
use std::cmp::Ordering;

/// The `m` rows of `points` (`n x d`, row-major) that are farthest from their nearest centroid: pairs of squared distance
/// and row, the farthest first, and of equals the first row first. Fewer if there are fewer rows.
///
/// Lloyd's algorithm needs it only when a cluster is empty, to put its centroid there as scikit-learn does. With `labels`
/// of the pass before (length `n`) it costs one distance a point, without them a whole pass.
pub fn farthest<T: Real>(
    points: &[T],
    centroids: &Prepared<T>,
    labels: Option<&[u16]>,
    m: usize,
) -> Vec<(f64, usize)> {
    const BLOCK: usize = 4096;
    let (d, width) = (centroids.d(), centroids.width());
    let mut far: Vec<(f64, usize)> = Vec::new();
    if d == 0 || m == 0 || centroids.k() == 0 {
        return far;
    }
    let mut acc = Accum::new(centroids.k(), d).with(Algorithm::Lloyd);
    let (mut own, mut dist2) = (vec![0_u32; BLOCK], vec![0.0; BLOCK]);
    for (b, rows) in points.chunks(BLOCK * d).enumerate() {
        let n = rows.len() / d;
        let own = &mut own[..n];
        match labels {
            Some(labels) => {
                own.iter_mut().zip(&labels[b * BLOCK..]).for_each(|(own, label)| *own = u32::from(*label));
            }
            None => pass(rows, centroids, &mut acc, Some(own)),
        }
        let dist2 = &mut dist2[..n];
        T::distances(Distances { rows, labels: own, d, centroids: &centroids.rows, width, dist2 });
        for (r, &dist2) in dist2.iter().enumerate() {
            // The last is the one to beat; rows come in order, so an equal distance does not displace it.
            if far.len() < m || far.last().is_some_and(|last| dist2 > last.0) {
                let at = far.partition_point(|x| x.0.total_cmp(&dist2) != Ordering::Less);
                far.insert(at, (dist2, b * BLOCK + r));
                far.truncate(m);
            }
        }
    }
    far
}

/// Squared distances of rows to the centroids of their labels.
pub struct Distances<'a, T> {
    rows: &'a [T],
    labels: &'a [u32],
    d: usize,
    centroids: &'a [[f64; GROUP]],
    width: usize,
    dist2: &'a mut [f64],
}

impl<T: Real> WithSimd for Distances<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, labels, d, centroids, width, dist2 } = self;
        for (r, (&label, dist2)) in labels.iter().zip(dist2).enumerate() {
            let centroid = &centroids[label as usize * width..][..width];
            *dist2 = distance2::<T, S>(simd, &rows[r * d..], d, centroid);
        }
    }
}
