//! Mean and variance of the columns.

use aeolian::World;
use aeolian::harp::{Sum, allreduce_slice};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Matrix, Result};

use crate::Number;

/// The columns' means and the mean of their variances.
pub(crate) struct Moments {
    /// `d` means.
    pub(crate) means: Vec<f64>,
    /// Mean over the columns of the population variance; what the tolerance is measured in.
    pub(crate) variance: f64,
}

/// Two passes over the points: the second sums squared distances from the mean, which loses no digits.
pub(crate) fn of<T: Number>(world: &mut World, workers: &Workers, points: &Matrix<T>) -> Result<Moments> {
    let n = points.n_total.max(1) as f64;
    let mut means = column_sums(workers, points, |x, _| x);
    allreduce_slice(world, &mut means, Sum)?;
    means.iter_mut().for_each(|m| *m /= n);
    let mut squares = column_sums(workers, points, |x, j| (x - means[j]) * (x - means[j]));
    allreduce_slice(world, &mut squares, Sum)?;
    let variance = squares.iter().map(|s| s / n).sum::<f64>() / points.d() as f64;
    Ok(Moments { means, variance })
}

fn column_sums<T: Number>(
    workers: &Workers,
    points: &Matrix<T>,
    term: impl Fn(f64, usize) -> f64 + Sync + Send,
) -> Vec<f64> {
    let d = points.d();
    let parts = workers.split(points.rows(), |range| {
        let mut sums = vec![0.0; d];
        for row in points.as_slice()[range.start * d..range.end * d].chunks_exact(d) {
            for (j, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
                *sum += term(Element::to_f64(*x), j);
            }
        }
        sums
    });
    parts.into_iter().fold(vec![0.0; d], |mut all, part| {
        all.iter_mut().zip(part).for_each(|(a, b)| *a += b);
        all
    })
}
