//! Mean and variance of the columns.

use aeolian::World;
use aeolian::harp::{Sum, allreduce_slice};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Matrix, Result};

use crate::Number;

/// What the columns are like.
pub(crate) struct Moments {
    /// `d` numbers near the columns' means, with few digits: what the kernel takes from every coordinate. Whole numbers
    /// (pixels, counts) stay whole, so equal distances stay equal and the first of two equally near centroids wins;
    /// the mean itself would leave that to rounding errors.
    pub(crate) shift: Vec<f64>,
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
    let shift = means.iter().zip(&squares).map(|(mean, s)| rounded(*mean, (s / n).sqrt())).collect();
    let variance = squares.iter().map(|s| s / n).sum::<f64>() / points.d() as f64;
    Ok(Moments { shift, variance })
}

/// The multiple of the largest power of two below `deviation` that is nearest to `mean`.
fn rounded(mean: f64, deviation: f64) -> f64 {
    let unit = 2f64.powi(deviation.log2().floor().clamp(-1000.0, 1000.0) as i32);
    let near = (mean / unit).round() * unit;
    // A constant column has no deviation: its mean is as good.
    if deviation > 0.0 && near.is_finite() { near } else { mean }
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

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn near_the_mean_with_few_digits() {
        for (mean, deviation, want) in
            [(7.3, 5.0, 8.0), (1e4 + 0.3, 1.0, 1e4), (0.3, 0.1, 0.3125), (-7.3, 5.0, -8.0), (42.0, 0.0, 42.0)]
        {
            assert_eq!(rounded(mean, deviation), want);
            assert!((rounded(mean, deviation) - mean).abs() <= deviation / 2.0);
        }
    }
}
