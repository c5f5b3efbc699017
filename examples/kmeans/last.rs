//! What belongs to the final centroids: labels, inertia, and the clusters' sizes and spreads.

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Matrix, Result};

use crate::Number;
use crate::kernel::{Accum, Prepared, pass};
use crate::moments::Moments;

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
    const BLOCK: usize = 4096;
    let d = points.d();
    let k = centroids.len() / d;
    let mut prepared = Prepared::<T>::new(k, d, &moments.shift);
    prepared.update(centroids);
    let parts = workers.split(points.rows(), |range| {
        let mut part = (Vec::new(), vec![0.0; 2 * k], vec![0.0f64; k]);
        let mut acc = Accum::new(k, d);
        let mut own = [0u32; BLOCK];
        for rows in points.as_slice()[range.start * d..range.end * d].chunks(BLOCK * d) {
            let labels = &mut own[..rows.len() / d];
            pass(rows, &prepared, &mut acc, Some(labels));
            for (row, label) in rows.chunks_exact(d).zip(&*labels) {
                let j = *label as usize;
                let centroid = &centroids[j * d..(j + 1) * d];
                let square: f64 =
                    row.iter().zip(centroid).map(|(x, c)| (Element::to_f64(*x) - c).powi(2)).sum();
                part.1[j] += 1.0;
                part.1[k + j] += square;
                part.2[j] = part.2[j].max(square);
            }
            if keep_labels {
                part.0.extend_from_slice(labels);
            }
        }
        part
    });
    let (mut labels, mut sums, mut farthest) = (Vec::new(), vec![0.0; 2 * k], vec![0.0; k]);
    for part in parts {
        labels.extend(part.0);
        sums.iter_mut().zip(part.1).for_each(|(a, b)| *a += b);
        farthest.iter_mut().zip(part.2).for_each(|(a, b)| *a = f64::max(*a, b));
    }
    allreduce_slice(world, &mut sums, Sum)?;
    allreduce_slice(world, &mut farthest, Max)?;
    let squares = sums.split_off(k);
    Ok(Last { labels, counts: sums, squares, farthest })
}
