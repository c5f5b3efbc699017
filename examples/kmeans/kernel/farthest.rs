//! Points to move empty clusters to.
use super::{Accum, Algorithm, Prepared, Real, pass};
use std::cmp::Ordering;

/// The `m` rows of `points` (`n x d`, row-major) that are farthest from their nearest centroid: pairs of squared distance
/// and row, the farthest first, and of equals the first row first. Fewer if there are fewer rows.
///
/// Lloyd's algorithm needs it only when a cluster is empty, to put its centroid there as scikit-learn does. With `labels`
/// of the pass before (length `n`) it costs one distance a point, without them a whole pass.
pub(crate) fn farthest<T: Real>(
    points: &[T],
    centroids: &Prepared<T>,
    labels: Option<&[u32]>,
    m: usize,
) -> Vec<(f64, usize)> {
    const BLOCK: usize = 4096;
    let (d, width) = (centroids.d(), centroids.width());
    let mut far: Vec<(f64, usize)> = Vec::new();
    if d == 0 || m == 0 || centroids.k() == 0 {
        return far;
    }
    let mut acc = Accum::new(centroids.k(), d).with(Algorithm::Lloyd);
    let mut own = [0_u32; BLOCK];
    for (b, rows) in points.chunks(BLOCK * d).enumerate() {
        let n = rows.len() / d;
        let labels = match labels {
            Some(labels) => &labels[b * BLOCK..][..n],
            None => {
                pass(rows, centroids, &mut acc, Some(&mut own[..n]));
                &own[..n]
            }
        };
        for (r, (row, &label)) in rows.chunks_exact(d).zip(labels).enumerate() {
            let centroid = centroids.rows[label as usize * width..][..width].as_flattened();
            let dist2 = row.iter().zip(centroid).map(|(x, c)| (x.to_f64() - c).powi(2)).sum();
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
