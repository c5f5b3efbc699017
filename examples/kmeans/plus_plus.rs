//! k-means++ over ranks, the same on any number of them.
//!
//! As scikit-learn does it (greedy): every next centroid is the best of `2 + ln k` points drawn with probability
//! proportional to their squared distance D^2 from the centroids so far. Sums of floating point numbers would depend on
//! how rows are dealt out to ranks, and with them the draw. So D^2 is rounded to a whole number, a share of the largest
//! (at least 2^-40 of it while there are fewer than 2^21 points): whole numbers add up alike in any order.

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian_examples::agree::all;
use aeolian_examples::progress::Progress;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Element, Error, Matrix, Result, random};

use crate::{Number, start};

fn distance<T: Number>(row: &[T], centroid: &[f64]) -> f64 {
    row.iter().zip(centroid).map(|(x, c)| (Element::to_f64(*x) - c) * (Element::to_f64(*x) - c)).sum()
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
    let (d, n) = (points.d(), points.n_total);
    let trials = 2 + (k as f64).ln() as usize;
    // n * 2^bits stays below 2^62.
    let unit = 2f64.powi(62 - (64 - n.leading_zeros() as i32));
    let mut nearest = vec![f64::INFINITY; points.rows()];
    let mut centroids = start::rows(world, points, &[random::below(seed, 0, 0, n)])?;
    while centroids.len() < k * d {
        let step = (centroids.len() / d) as u64;
        let last = &centroids[centroids.len() - d..];
        let maxima = workers.split_mut(&mut nearest, 1, |range, nearest| {
            range.zip(nearest).fold(0.0f64, |max, (i, best)| {
                *best = best.min(distance(points.row(i), last));
                max.max(*best)
            })
        });
        let mut max = [maxima.into_iter().fold(0.0, f64::max)];
        allreduce_slice(world, &mut max, Max)?;
        if max[0] == 0.0 {
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
        let share = |d2: f64| (d2 / max[0] * unit) as u64;
        let mine =
            workers.split(nearest.len(), |range| nearest[range].iter().map(|x| share(*x)).sum::<u64>());
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
                let weight = share(*x);
                let here = left < weight;
                left = left.saturating_sub(weight);
                here
            });
            if let Some(i) = chosen {
                out.iter_mut().zip(points.row(i)).for_each(|(o, x)| *o = Element::to_f64(*x));
            }
        }
        allreduce_slice(world, &mut candidates, Sum)?;
        let parts = workers.split(nearest.len(), |range| {
            let mut sums = vec![0u64; trials];
            for i in range {
                for (sum, candidate) in sums.iter_mut().zip(candidates.chunks_exact(d)) {
                    *sum += share(nearest[i].min(distance(points.row(i), candidate)));
                }
            }
            sums
        });
        let mut sums = vec![0u64; trials];
        parts.iter().flat_map(|p| p.iter().enumerate()).for_each(|(t, s)| sums[t] += s);
        allreduce_slice(world, &mut sums, Sum)?;
        let best = (0..trials).min_by_key(|t| sums[*t]).unwrap_or(0);
        centroids.extend_from_slice(&candidates[best * d..(best + 1) * d]);
        progress.tick(step + 1, k as u64, || format!("centroid {} of {k}", step + 1));
    }
    Ok(centroids)
}
