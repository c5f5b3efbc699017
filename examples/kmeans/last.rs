//! What belongs to the final centroids: labels, inertia, and the clusters' sizes and spreads.

use aeolian::World;
use aeolian::harp::{Binned, Max, allreduce_slice};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Matrix, Result};

use crate::Number;
use crate::moments::Moments;
use crate::total::{Total, over_ranks};
use aeolian_kmeans_kernel::{Accum, Prepared, pass};

/// The final assignment. Vectors have one entry a cluster and are the same on every rank.
pub(crate) struct Last {
    /// The cluster of each row of this rank, if asked for.
    pub(crate) labels: Vec<u32>,
    /// Points.
    pub(crate) counts: Vec<f64>,
    /// Sum of squared distances to the centroid.
    pub(crate) squares: Vec<f64>,
    /// Squared distance of the farthest point.
    pub(crate) farthest: Vec<f64>,
}

impl Last {
    /// Sum of squared distances of all points to their centroids.
    pub(crate) fn inertia(&self) -> f64 {
        self.squares.iter().sum()
    }
}

/// Assigns every point once more and measures its distance as differences in f64, without the kernel's shortcut through
/// norms. Collective.
pub(crate) fn assign<T: Number>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    centroids: &[f64],
    moments: &Moments,
    keep_labels: bool,
) -> Result<Last> {
    match moments.reproducible {
        true => assign_as::<T, Binned>(world, workers, points, centroids, moments, keep_labels),
        false => assign_as::<T, f64>(world, workers, points, centroids, moments, keep_labels),
    }
}

fn assign_as<T: Number, S: Total>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    centroids: &[f64],
    moments: &Moments,
    keep_labels: bool,
) -> Result<Last> {
    const BLOCK: usize = 4096;
    let d = points.d();
    let k = centroids.len() / d;
    let mut prepared = Prepared::<T>::new(k, d, &moments.shift);
    prepared.update(centroids);
    let mut labels = vec![0u32; if keep_labels { points.rows() } else { 0 }];
    let one = |range: std::ops::Range<usize>, mut kept: Option<&mut [u32]>| {
        let mut part = (vec![S::default(); 2 * k], vec![0.0f64; k]);
        let mut acc = Accum::new(k, d);
        let mut own = [0u32; BLOCK];
        for (b, rows) in points.as_slice()[range.start * d..range.end * d].chunks(BLOCK * d).enumerate() {
            let labels = &mut own[..rows.len() / d];
            pass(rows, &prepared, &mut acc, Some(labels));
            for (row, label) in rows.chunks_exact(d).zip(&*labels) {
                let j = *label as usize;
                let centroid = &centroids[j * d..(j + 1) * d];
                let square: f64 =
                    row.iter().zip(centroid).map(|(x, c)| (Element::to_f64(*x) - c).powi(2)).sum();
                part.0[j] += 1.0;
                part.0[k + j] += square;
                part.1[j] = part.1[j].max(square);
            }
            if let Some(kept) = &mut kept {
                kept[b * BLOCK..][..labels.len()].copy_from_slice(labels);
            }
        }
        part
    };
    let parts = match keep_labels {
        true => workers.split_mut(&mut labels, 1, |range, kept| one(range, Some(kept))),
        false => workers.split(points.rows(), |range| one(range, None)),
    };
    let mut farthest = vec![0.0; k];
    let mut sums = Vec::with_capacity(parts.len());
    for part in parts {
        sums.push(part.0);
        farthest.iter_mut().zip(part.1).for_each(|(a, b)| *a = f64::max(*a, b));
    }
    let mut sums = over_ranks(world, sums, 2 * k)?;
    allreduce_slice(world, &mut farthest, Max)?;
    let squares = sums.split_off(k);
    Ok(Last { labels, counts: sums, squares, farthest })
}
