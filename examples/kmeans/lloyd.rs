//! Lloyd's algorithm: assign, add up, sum over ranks, average, until the centroids stand still.

use aeolian::World;
use aeolian::harp::{Sum, Table, allreduce};
use aeolian_examples::progress::Progress;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Matrix, Result};

use crate::kernel::{Accum, Prepared, pass_parallel};
use crate::moments::Moments;
use crate::{Number, empty, total};

/// What the iterations led to.
pub(crate) struct Fit {
    /// `k x d`.
    pub(crate) centroids: Vec<f64>,
    /// Inertia at the start of each iteration: that of the centroids which the points were assigned to.
    pub(crate) history: Vec<f64>,
    /// Whether the centroids moved no more than the tolerance allows.
    pub(crate) converged: bool,
    /// Whether somebody asked the job to stop.
    pub(crate) stopped: bool,
}

/// When to stop.
pub(crate) struct Limits {
    /// At most this many iterations.
    pub(crate) iterations: usize,
    /// Times the mean variance of the columns: the squared movement of all centroids that is taken for standing still.
    pub(crate) tolerance: f64,
}

// Partitions of the table that is summed over the ranks in every iteration.
const SUMS: u64 = 0;
const COUNTS: u64 = 1;
const SCALARS: u64 = 2;

/// Iterates from `centroids` (`k x d`) on. Collective.
///
/// The rules are scikit-learn's: an iteration assigns all points and moves the centroids; it is the last if the squared
/// movement of all centroids together is at most `tolerance` times the mean variance of the columns. (Unchanged labels,
/// its other rule, mean unchanged sums and so a movement of zero.)
pub(crate) fn fit<T: Number>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    mut centroids: Vec<f64>,
    moments: &Moments,
    limits: &Limits,
    progress: &Progress,
) -> Result<Fit> {
    let d = points.d();
    let k = centroids.len() / d;
    let enough = limits.tolerance * moments.variance;
    let mut prepared = Prepared::<T>::new(k, d, &moments.shift);
    let mut accs = vec![Accum::new(k, d).same_rows(); workers.threads()];
    let mut labels = moments.reproducible.then(|| vec![0; points.rows()]);
    let mut fit = Fit { centroids: Vec::new(), history: Vec::new(), converged: false, stopped: false };
    for iteration in 1..=limits.iterations {
        prepared.update(&centroids);
        workers.install(|| pass_parallel(points.as_slice(), &prepared, &mut accs, labels.as_deref_mut()));
        let mine = &accs[0];
        let counts: Vec<f64> = mine.counts.iter().map(|c| *c as f64).collect();
        let mut table = Table::<f64, Sum>::new(Sum);
        table.add(SUMS, &mine.sums[..])?;
        table.add(COUNTS, counts)?;
        table.add(SCALARS, vec![mine.inertia, f64::from(u8::from(world.stop_requested()))])?;
        allreduce(world, &mut table)?;
        let take = |id| table.get(id).map(|a| a.to_vec()).unwrap_or_default();
        let (mut next, mut counts, mut scalars) = (take(SUMS), take(COUNTS), take(SCALARS));
        if let Some(labels) = &labels {
            (next, scalars[0]) = total::by_cluster(world, workers, points, labels, &centroids)?;
        }
        fit.history.push(scalars[0]);
        if counts.contains(&0.0) {
            empty::relocate(world, workers, points, &prepared, &accs, &mut next, &mut counts)?;
        }
        average(&mut next, &counts, d);
        let moved: f64 = next.iter().zip(&centroids).map(|(a, b)| (a - b) * (a - b)).sum();
        centroids = next;
        progress.tick(iteration as u64, limits.iterations as u64, || {
            format!("iteration {iteration} of at most {}  inertia {:.6e}", limits.iterations, scalars[0])
        });
        fit.converged = moved <= enough;
        // The sum is the same on all ranks, so all stop here together.
        fit.stopped = !fit.converged && scalars[1] > 0.0;
        if fit.converged || fit.stopped {
            break;
        }
    }
    fit.centroids = centroids;
    Ok(fit)
}

/// Sums to means; a cluster that is still empty takes the mean of the largest one.
fn average(sums: &mut [f64], counts: &[f64], d: usize) {
    for (sum, count) in sums.chunks_exact_mut(d).zip(counts).filter(|(_, c)| **c > 0.0) {
        sum.iter_mut().for_each(|s| *s /= count);
    }
    let largest =
        (0..counts.len()).max_by(|a, b| counts[*a].total_cmp(&counts[*b]).then(b.cmp(a))).unwrap_or(0);
    for j in (0..counts.len()).filter(|j| counts[*j] <= 0.0) {
        sums.copy_within(largest * d..(largest + 1) * d, j * d);
    }
}
