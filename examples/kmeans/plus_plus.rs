//! k-means++ over ranks, the same on any number of them.
//!
//! As scikit-learn does it (greedy): every next centroid is the best of `2 + ln k` points drawn with probability
//! proportional to their squared distance D^2 from the centroids so far. Sums of floating point numbers would depend on
//! how rows are dealt out to ranks, and with them the draw. So D^2 is rounded to a whole number, a share of the largest
//! (down to 2^-40 of it while there are fewer than 2^21 points): whole numbers add up alike in any order.
//!
//! Each point costs eight bytes meanwhile. Where that is more than a tenth of it, and there are many points, the draw is
//! among a sample of them, at least 64 for each cluster: the same rows on any number of ranks.

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian_examples::agree::all;
use aeolian_examples::progress::Progress;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Error, Matrix, Result, random};

use crate::{Number, start};

/// Candidates whose distances from a point are computed at once.
const LANES: usize = 8;

/// D^2 as a whole number: `d2 * scale`, at most 2^50, rounded.
#[derive(Clone, Copy)]
struct Share {
    scale: f64,
}

impl Share {
    /// For distances up to `max`, of which `n` will be added up.
    fn new(max: f64, n: u64) -> Share {
        // n * 2^bits stays below 2^62.
        let bits = (62 - (64 - n.leading_zeros() as i32)).min(50);
        Share { scale: (2f64.powi(bits) / max).min(f64::MAX) }
    }

    /// Adding 2^52 leaves the whole number in the mantissa; unlike a conversion, any machine does that in vectors.
    #[inline(always)]
    fn of(self, d2: f64) -> u64 {
        const TWO_52: f64 = 4_503_599_627_370_496.0;
        (d2 * self.scale + TWO_52).to_bits() - TWO_52.to_bits()
    }
}

/// Lowers `nearest` to the squared distances of the rows of `points` from `centroid`; returns the largest.
fn lower<T: Number>(points: &[T], nearest: &mut [f64], centroid: &[f64]) -> f64 {
    const ROWS: usize = 4;
    let d = centroid.len();
    let mut max = 0.0f64;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (rows, nearest) in points.chunks(ROWS * d).zip(nearest.chunks_mut(ROWS)) {
                // Four sums at once, so that one addition need not wait for the one before.
                let mut sums = [0.0; ROWS];
                if rows.len() == ROWS * d {
                    for (j, c) in centroid.iter().enumerate() {
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let t = Element::to_f64(rows[r * d + j]) - c;
                            *sum += t * t;
                        }
                    }
                } else {
                    for (row, sum) in rows.chunks_exact(d).zip(&mut sums) {
                        for (x, c) in row.iter().zip(centroid) {
                            let t = Element::to_f64(*x) - c;
                            *sum += t * t;
                        }
                    }
                }
                for (near, sum) in nearest.iter_mut().zip(sums) {
                    *near = near.min(sum);
                    max = max.max(*near);
                }
            }
        },
    );
    max
}

/// What the sum of D^2 over the rows of `points` would be with each of [`LANES`] candidates (one row a coordinate).
fn potentials<T: Number>(
    points: &[T],
    nearest: &[f64],
    candidates: &[[f64; LANES]],
    share: Share,
) -> [u64; LANES] {
    let mut totals = [0; LANES];
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (row, near) in points.chunks_exact(candidates.len()).zip(nearest) {
                let mut sums = [0.0; LANES];
                for (x, candidates) in row.iter().zip(candidates) {
                    let x = Element::to_f64(*x);
                    for l in 0..LANES {
                        let t = x - candidates[l];
                        sums[l] += t * t;
                    }
                }
                for l in 0..LANES {
                    totals[l] += share.of(if sums[l] < *near { sums[l] } else { *near });
                }
            }
        },
    );
    totals
}

/// Rows of at least this many bytes are all looked at.
const LONG: usize = 80;
/// A sample has about so many rows at least.
const SAMPLE: u64 = 65_536;

/// One of how many rows is looked at, of `n` rows of `row` bytes: the sample with its distances takes a tenth of the data.
fn one_of(n: u64, row: usize, k: usize) -> u64 {
    match row < LONG {
        true => (10 + (LONG / row.max(1)) as u64).min(n / SAMPLE.max(64 * k as u64)).max(1),
        false => 1,
    }
}

/// The rows to choose from, if not all. Collective.
fn sample<T: Number>(
    world: &mut World,
    points: &Matrix<T>,
    k: usize,
    seed: u64,
) -> Result<Option<Matrix<T>>> {
    let d = points.d();
    let every = one_of(points.n_total, d * size_of::<T>(), k);
    if every == 1 {
        return Ok(None);
    }
    let rows = || {
        let chosen = |i: &usize| random::below(seed, u64::MAX, points.first_row + *i as u64, every) == 0;
        (0..points.rows()).filter(chosen)
    };
    let mut data = Vec::with_capacity(rows().count() * d);
    rows().for_each(|i| data.extend_from_slice(points.row(i)));
    let mut sample = Matrix::from_rows(data, d);
    let counts = all(world, sample.rows() as u64)?;
    sample.first_row = counts[..world.rank() as usize].iter().sum();
    sample.n_total = counts.iter().sum();
    Ok((sample.n_total >= k as u64).then_some(sample))
}

/// Chooses `k` of the points. Collective.
pub(crate) fn choose<T: Number>(
    world: &mut World,
    workers: &Workers,
    points: &Matrix<T>,
    k: usize,
    seed: u64,
    progress: &Progress,
) -> Result<Vec<f64>> {
    let sampled = sample(world, points, k, seed)?;
    let points = sampled.as_ref().unwrap_or(points);
    let (d, n) = (points.d(), points.n_total);
    let trials = 2 + (k as f64).ln() as usize;
    let mut nearest = vec![f64::INFINITY; points.rows()];
    let mut centroids = start::rows(world, points, &[random::below(seed, 0, 0, n)])?;
    while centroids.len() < k * d {
        let step = (centroids.len() / d) as u64;
        let last = &centroids[centroids.len() - d..];
        let maxima = workers.split_mut(&mut nearest, 1, |range, nearest| {
            lower(&points.as_slice()[range.start * d..range.end * d], nearest, last)
        });
        let mut max = [maxima.into_iter().fold(0.0, f64::max)];
        allreduce_slice(world, &mut max, Max)?;
        if max[0] < f64::MIN_POSITIVE {
            // Fewer different points than clusters: which one is taken does not matter any more.
            let next = start::rows(world, points, &[random::below(seed, step, 0, n)])?;
            centroids.extend(next);
            continue;
        }
        if !max[0].is_finite() {
            return Err(Error::data(
                "input",
                "squared distances between its points are too large for 64-bit floating point numbers",
                "scale the columns down (numbers should stay below 1e150)",
            ));
        }
        let share = Share::new(max[0], n);
        let mine =
            workers.split(nearest.len(), |range| nearest[range].iter().map(|x| share.of(*x)).sum::<u64>());
        let totals = all(world, mine.iter().sum())?;
        let total: u64 = totals.iter().sum();
        let before: u64 = totals[..world.rank() as usize].iter().sum();
        // The rank in whose stretch of 0..total a draw falls has the point.
        let mut candidates = vec![0.0; trials * d];
        for (trial, out) in candidates.chunks_exact_mut(d).enumerate() {
            let draw = random::below(seed, step, trial as u64, total);
            let Some(mut left) = draw.checked_sub(before).filter(|l| *l < totals[world.rank() as usize])
            else {
                continue;
            };
            let chosen = nearest.iter().position(|x| {
                let weight = share.of(*x);
                let here = left < weight;
                left = left.saturating_sub(weight);
                here
            });
            if let Some(i) = chosen {
                out.iter_mut().zip(points.row(i)).for_each(|(o, x)| *o = Element::to_f64(*x));
            }
        }
        allreduce_slice(world, &mut candidates, Sum)?;
        let mut sums = Vec::with_capacity(trials);
        for group in candidates.chunks(LANES * d) {
            let mut lanes = vec![[0.0; LANES]; d];
            for (l, candidate) in group.chunks_exact(d).enumerate() {
                lanes.iter_mut().zip(candidate).for_each(|(row, x)| row[l] = *x);
            }
            let parts = workers.split(nearest.len(), |range| {
                potentials(&points.as_slice()[range.start * d..range.end * d], &nearest[range], &lanes, share)
            });
            let used = group.len() / d;
            sums.extend((0..used).map(|l| parts.iter().map(|p| p[l]).sum::<u64>()));
        }
        allreduce_slice(world, &mut sums, Sum)?;
        let best = (0..trials).min_by_key(|t| sums[*t]).unwrap_or(0);
        centroids.extend_from_slice(&candidates[best * d..(best + 1) * d]);
        progress.tick(step + 1, k as u64, || format!("centroid {} of {k}", step + 1));
    }
    Ok(centroids)
}

#[cfg(test)]
mod tests {
    use aeolian_examples::progress::Mode;

    use super::*;
    use crate::lloyd::{self, Limits};
    use crate::models::{Kind, Own};
    use crate::{last, moments};

    #[test]
    fn short_rows_of_large_data_are_sampled() {
        assert_eq!((one_of(2_000_000, 16, 1000), one_of(2_000_000, 8, 1000)), (15, 20));
        assert_eq!((one_of(100_000, 8, 10), one_of(10 << 20, 800, 10)), (1, 1));
        assert_eq!(one_of(1 << 20, 8, 1 << 14), 1, "64 rows for each of many clusters");
    }

    #[test]
    fn shares_are_whole_and_add_up() {
        for (max, n) in
            [(1.0, 5), (3e300, 1 << 20), (1e-300, 7), (f64::MIN_POSITIVE, 3), (5.0, u64::MAX >> 20)]
        {
            let share = Share::new(max, n);
            assert!(share.of(max) > 0 && u128::from(share.of(max)) * u128::from(n) < 1 << 63, "{max} {n}");
            assert_eq!((share.of(0.0), share.of(max) >> 1), (0, share.of(max / 2.0) - share.of(max) % 2));
        }
    }

    #[test]
    fn blocked_loops_equal_the_plain_ones() {
        for d in [1, 2, 3, 10, 17] {
            for n in [1, 3, 4, 9] {
                let number = |i: usize| random::below(9, d as u64, i as u64, 1000) as f64;
                let points: Vec<f64> = (0..n * d).map(number).collect();
                let centroids: Vec<f64> = (1000..1000 + LANES * d).map(number).collect();
                let plain = |i: usize, c: &[f64]| -> f64 {
                    points[i * d..(i + 1) * d].iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum()
                };
                let mut nearest = vec![f64::INFINITY; n];
                let max = lower(&points, &mut nearest, &centroids[..d]);
                let want: Vec<f64> = (0..n).map(|i| plain(i, &centroids[..d])).collect();
                assert_eq!((&nearest, max), (&want, want.iter().copied().fold(0.0, f64::max)));
                let lanes: Vec<[f64; LANES]> =
                    (0..d).map(|j| std::array::from_fn(|l| centroids[l * d + j])).collect();
                let share = Share { scale: 1.0 };
                let sums = potentials(&points, &nearest, &lanes, share);
                for (l, c) in centroids.chunks(d).enumerate() {
                    assert_eq!(sums[l], (0..n).map(|i| share.of(plain(i, c).min(nearest[i]))).sum::<u64>());
                }
            }
        }
    }

    /// Inertia after the iterations from first centroids by the method `how`.
    fn inertia(points: &[f64], d: usize, how: &str, k: usize, seed: u64) -> f64 {
        let ends = World::local(1, |mut world| {
            let workers = Workers::new(1).unwrap();
            let points = Matrix::from_rows(points.to_vec(), d);
            let silent = Progress::new("", Mode::Silent);
            let moments = moments::of(&mut world, &workers, &points, "points", false).unwrap();
            let first = start::centroids(&mut world, &workers, &points, (how, k, seed), &silent).unwrap();
            let limits = Limits { iterations: 300, tolerance: 0.0 };
            let own = Own { workers: &workers, points: &points, moments: &moments };
            let fit = lloyd::fit(&mut world, own, first, Kind::Allreduce, &limits, &silent).unwrap();
            let end = last::assign(&mut world, &workers, &points, &fit.centroids, &moments, false).unwrap();
            world.finish()?;
            Ok(end.inertia())
        });
        ends.unwrap()[0]
    }

    #[test]
    fn separate_blobs_are_found_where_random_rows_miss_some() {
        const SEEDS: u64 = 20;
        let (k, d, rows) = (16, 3, 50);
        // Cubes of side 2 on a grid of width 20: whoever finds each of them has the least inertia.
        let unit = |i: usize, j: usize| random::at(11, j as u64, i as u64) as f64 / u64::MAX as f64;
        let points: Vec<f64> = (0..k * rows * d)
            .map(|x| (x / d, x % d))
            .map(|(i, j)| 20.0 * ((i % k) >> (2 * j) & 3) as f64 + 2.0 * unit(i, j))
            .collect();
        let least: f64 = (0..k)
            .flat_map(|blob| (0..d).map(move |j| (blob, j)))
            .map(|(blob, j)| {
                let xs = || (blob..k * rows).step_by(k).map(|i| points[i * d + j]);
                let mean = xs().sum::<f64>() / rows as f64;
                xs().map(|x| (x - mean) * (x - mean)).sum::<f64>()
            })
            .sum();
        let mean = |how| {
            (1..=SEEDS).map(|seed| inertia(&points, d, how, k, seed)).sum::<f64>() / SEEDS as f64 / least
        };
        let (chosen, random) = (mean("kmeans++"), mean("random"));
        assert!(chosen < 2.0 && random > 5.0 * chosen, "kmeans++ {chosen}, random {random} times the least");
    }
}
