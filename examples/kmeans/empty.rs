//! Clusters without points.
//!
//! As scikit-learn does: a cluster that got no point moves to the point that is farthest from its own centroid, and that
//! point leaves its cluster. Several empty clusters, in ascending order, take the farthest, second farthest, ... point
//! (of equally far ones the first row; scikit-learn leaves the order among these points open). If every point lies on a
//! centroid there is nothing to gain, and an empty cluster takes the place of the largest one.

use std::cmp::Ordering;

use aeolian::World;
use aeolian::harp::{Sum, Table, allgather};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Matrix, Result};

use crate::Number;
use aeolian_kmeans_kernel::{Accum, Prepared, farthest, pass, rows_of};

/// Moves points into the empty clusters of `sums` (`k x d`) and `counts`, which are those of all ranks. Collective; call
/// it only if there is an empty cluster. `centroids` are those that the points were assigned to, `accs` what the threads
/// of that pass have found.
pub(crate) fn relocate<T: Number>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    centroids: &Prepared<T>,
    accs: &[Accum],
    sums: &mut [f64],
    counts: &mut [f64],
) -> Result<()> {
    let (d, k) = (points.d(), counts.len());
    let empty: Vec<usize> = (0..k).filter(|j| counts[*j] == 0.0).collect();
    let parts = workers.each(accs.iter().enumerate().collect(), |(t, acc)| {
        let range = rows_of(t, accs.len(), points.rows());
        let rows = &points.as_slice()[range.start * d..range.end * d];
        let far = farthest(rows, centroids, acc.labels(range.len()), empty.len());
        far.into_iter().map(|(distance, row)| (distance, row + range.start)).collect::<Vec<_>>()
    });
    // Each rank offers its farthest points: distance, row, cluster, coordinates.
    let mut mine = parts.concat();
    mine.sort_by(|a, b| farther((a.0, a.1 as f64), (b.0, b.1 as f64)));
    mine.truncate(empty.len());
    let mut offers = Vec::with_capacity(mine.len() * (3 + d));
    let mut scratch = Accum::new(k, d);
    for (distance, row) in mine {
        let mut label = [0];
        pass(points.row(row), centroids, &mut scratch, Some(&mut label));
        offers.extend([distance, (points.first_row + row as u64) as f64, f64::from(label[0])]);
        offers.extend(points.row(row).iter().map(|x| Element::to_f64(*x)));
    }
    let mut table = Table::<f64, Sum>::new(Sum);
    if !offers.is_empty() {
        table.add(u64::from(world.rank()), offers)?;
    }
    allgather(world, &mut table)?;
    let mut offers: Vec<&[f64]> = table.iter().flat_map(|(_, part)| part.chunks_exact(3 + d)).collect();
    offers.sort_by(|a, b| farther((a[0], a[1]), (b[0], b[1])));
    if offers.first().is_none_or(|o| o[0] == 0.0) {
        return Ok(());
    }
    for (&new, offer) in empty.iter().zip(offers) {
        let (old, point) = (offer[2] as usize, &offer[3..]);
        for (i, x) in point.iter().enumerate() {
            sums[old * d + i] -= x;
            sums[new * d + i] = *x;
        }
        counts[new] = 1.0;
        counts[old] -= 1.0;
    }
    Ok(())
}

/// The farther first, of equals the earlier row.
fn farther(a: (f64, f64), b: (f64, f64)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1))
}
