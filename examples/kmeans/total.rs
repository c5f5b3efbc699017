//! What sums over points are made in: `f64`, or with `--reproducible` the [`Binned`] numbers that add up alike on any number of ranks and
//! threads.

use std::ops::AddAssign;

use aeolian::World;
use aeolian::harp::{Binned, Element, Sum, allreduce_slice};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Matrix, Result};

use crate::Number;

/// A sum under way.
pub(crate) trait Total:
    Element + Copy + Default + AddAssign<f64> + AddAssign + Into<f64> + Sync
{
}

impl Total for f64 {}
impl Total for Binned {}

/// The sums of the points of each cluster (`k x d`) and of their squared distances from `centroids`, over all ranks. Collective.
///
/// The kernel adds up points in the order that is fastest, which another number of ranks would change; this takes them one by one.
pub(crate) fn by_cluster<T: Number>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    labels: &[u32],
    centroids: &[f64],
) -> Result<(Vec<f64>, f64)> {
    let d = points.d();
    let parts = workers.split(points.rows(), |range| {
        let mut totals = vec![Binned::default(); centroids.len() + 1];
        let rows = points.as_slice()[range.start * d..range.end * d].chunks_exact(d);
        for (row, label) in rows.zip(&labels[range]) {
            let first = *label as usize * d;
            let mut square = 0.0;
            for ((x, c), total) in row.iter().zip(&centroids[first..]).zip(&mut totals[first..]) {
                let x = aeolian_examples::Element::to_f64(*x);
                *total += x;
                square += (x - c) * (x - c);
            }
            totals[centroids.len()] += square;
        }
        totals
    });
    let mut sums = over_ranks(world, parts, centroids.len() + 1)?;
    let inertia = sums.pop().unwrap_or(0.0);
    Ok((sums, inertia))
}

/// Adds up the threads' and the ranks' totals, `len` of each. Collective.
pub(crate) fn over_ranks<S: Total>(world: &mut World, parts: Vec<Vec<S>>, len: usize) -> Result<Vec<f64>> {
    let mut all = vec![S::default(); len];
    for part in parts {
        all.iter_mut().zip(part).for_each(|(a, b)| *a += b);
    }
    allreduce_slice(world, &mut all, Sum)?;
    Ok(all.into_iter().map(S::into).collect())
}
