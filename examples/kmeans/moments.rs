//! Mean and variance of the columns.

use aeolian::World;
use aeolian::harp::{Binned, Max, allreduce_slice};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Error, Matrix, Result};

use crate::Number;
use crate::total::{Total, over_ranks};
use aeolian_kmeans_kernel::Real;

/// What the columns are like.
pub(crate) struct Moments {
    /// `d` numbers near the columns' means, with few digits: what the kernel takes from every coordinate. Whole numbers
    /// (pixels, counts) stay whole, so equal distances stay equal and the first of two equally near centroids wins;
    /// the mean itself would leave that to rounding errors.
    pub(crate) shift: Vec<f64>,
    /// Mean over the columns of the population variance; what the tolerance is measured in.
    pub(crate) variance: f64,
    /// Whether sums are to be the same on any number of ranks.
    pub(crate) reproducible: bool,
}

/// Two passes over the points: the second sums squared distances from the mean, which loses no digits.
///
/// # Errors
/// If the squares of the numbers leave the range of `T`: labels would silently be wrong. `place` is the input.
pub(crate) fn of<T: Number>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    place: &str,
    reproducible: bool,
) -> Result<Moments> {
    match reproducible {
        true => of_as::<T, Binned>(world, workers, points, place).map(|m| Moments { reproducible, ..m }),
        false => of_as::<T, f64>(world, workers, points, place),
    }
}

fn of_as<T: Number, S: Total>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    place: &str,
) -> Result<Moments> {
    let n = points.n_total.max(1) as f64;
    let mut means = over_ranks(world, column_sums::<T, S>(workers, points, |x, _| x), points.d())?;
    means.iter_mut().for_each(|m| *m /= n);
    let squares = column_sums::<T, S>(workers, points, |x, j| (x - means[j]) * (x - means[j]));
    let squares = over_ranks(world, squares, points.d())?;
    let mut farthest = [farthest(workers, points, &means)];
    allreduce_slice(world, &mut farthest, Max)?;
    in_range::<T>(farthest[0], points.d(), place)?;
    let shift = means.iter().zip(&squares).map(|(mean, s)| rounded(*mean, (s / n).sqrt())).collect();
    let variance = squares.iter().map(|s| s / n).sum::<f64>() / points.d() as f64;
    Ok(Moments { shift, variance, reproducible: false })
}

/// The largest distance of a number from its column's mean.
fn farthest<T: Number>(workers: &Workers, points: &Matrix<T>, means: &[f64]) -> f64 {
    let d = means.len();
    let parts = workers.split(points.rows(), |range| {
        let mut most = vec![0.0; d];
        for row in points.as_slice()[range.start * d..range.end * d].chunks_exact(d) {
            for ((most, x), mean) in most.iter_mut().zip(row).zip(means) {
                let far = (Element::to_f64(*x) - mean).abs();
                *most = if far > *most { far } else { *most };
            }
        }
        most.into_iter().fold(0.0, f64::max)
    });
    parts.into_iter().fold(0.0, f64::max)
}

/// Checks that squares of numbers up to `farthest` from the mean, and sums of `d` of them, keep their digits in `T`.
fn in_range<T: Number>(farthest: f64, d: usize, place: &str) -> Result<()> {
    // The kernel's shift is near the mean, not on it.
    let square = (2.0 * farthest) * (2.0 * farthest);
    let fine = farthest == 0.0
        || (square * d as f64) < <T as Real>::HUGE && square > <T as Real>::TINY / <T as Real>::EPSILON;
    let size = if square < 1.0 { "small" } else { "large" };
    match fine {
        true => Ok(()),
        false => Err(Error::data(
            place,
            format!(
                "the numbers are up to {farthest:e} from their columns' means: too {size} to be squared in {}",
                T::NAME
            ),
            "scale the columns; for f32, --dtype f64 may do",
        )),
    }
}

/// The multiple of the largest power of two below `deviation` that is nearest to `mean`.
fn rounded(mean: f64, deviation: f64) -> f64 {
    let unit = 2f64.powi(deviation.log2().floor().clamp(-1000.0, 1000.0) as i32);
    let near = (mean / unit).round() * unit;
    // A constant column has no deviation: its mean is as good.
    if deviation > 0.0 && near.is_finite() { near } else { mean }
}

/// Of each thread.
fn column_sums<T: Number, S: Total>(
    workers: &Workers,
    points: &Matrix<T>,
    term: impl Fn(f64, usize) -> f64 + Sync + Send,
) -> Vec<Vec<S>> {
    let d = points.d();
    workers.split(points.rows(), |range| {
        let mut sums = vec![S::default(); d];
        for row in points.as_slice()[range.start * d..range.end * d].chunks_exact(d) {
            for (j, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
                *sum += term(Element::to_f64(*x), j);
            }
        }
        sums
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
