//! The models in which every rank has all centroids: assign, add up, exchange, move.

use aeolian::World;
use aeolian_examples::Result;

use super::{Model, Own, Step, allreduce, moved, stop_vote};
use crate::{Number, empty, total};
use aeolian_kmeans_kernel::{Accum, Prepared, pass_parallel};

/// What a rank has found in its own points.
pub(super) struct Sums<'a> {
    /// `k x d`: of the points of each cluster.
    pub(super) sums: &'a [f64],
    /// `k`: points.
    pub(super) counts: Vec<f64>,
    /// Inertia, and the vote to stop.
    pub(super) scalars: [f64; 2],
}

/// What all ranks know after an exchange.
pub(super) struct Totals {
    /// `k x d`: sums, or means where they are `divided` and the cluster has points.
    pub(super) values: Vec<f64>,
    pub(super) divided: bool,
    pub(super) counts: Vec<f64>,
    pub(super) scalars: [f64; 2],
}

/// Brings together what all ranks have found. Collective.
pub(super) type Exchange = fn(&mut World, &Sums<'_>) -> Result<Totals>;

/// Centroids that every rank has all of.
pub(super) struct Whole<'a, T: Number> {
    own: Own<'a, T>,
    centroids: Vec<f64>,
    prepared: Prepared<T>,
    accs: Vec<Accum>,
    /// Of the points, where sums are to be the same on any number of ranks.
    labels: Option<Vec<u32>>,
    exchange: Exchange,
}

impl<'a, T: Number> Whole<'a, T> {
    pub(super) fn new(own: Own<'a, T>, centroids: Vec<f64>, exchange: Exchange) -> Whole<'a, T> {
        let d = own.points.d();
        let k = centroids.len() / d;
        Whole {
            own,
            centroids,
            prepared: Prepared::new(k, d, &own.moments.shift),
            accs: vec![Accum::new(k, d).same_rows(); own.workers.threads()],
            labels: own.moments.reproducible.then(|| vec![0; own.points.rows()]),
            exchange,
        }
    }
}

impl<T: Number> Model for Whole<'_, T> {
    fn step(&mut self, world: &mut World) -> Result<Step> {
        let Own { workers, points, .. } = self.own;
        self.prepared.update(&self.centroids);
        let (prepared, accs, labels) = (&self.prepared, &mut self.accs, self.labels.as_deref_mut());
        workers.install(|| pass_parallel(points.as_slice(), prepared, accs, labels));
        let found = &self.accs[0];
        let mine = Sums {
            sums: &found.sums,
            counts: found.counts.iter().map(|c| *c as f64).collect(),
            scalars: [found.inertia, stop_vote(world)],
        };
        let mut all = (self.exchange)(world, &mine)?;
        if let Some(labels) = &self.labels {
            (all.values, all.scalars[0]) =
                total::by_cluster(world, workers, points, labels, &self.centroids)?;
        }
        if all.counts.contains(&0.0) {
            // Points that change their cluster are taken from sums, which not every model brings to all ranks.
            if all.divided {
                all = allreduce::exchange(world, &mine)?;
            }
            empty::relocate(world, workers, points, prepared, &self.accs, &mut all.values, &mut all.counts)?;
        }
        if !all.divided {
            average(&mut all.values, &all.counts, points.d());
        }
        let moved = moved(&all.values, &self.centroids);
        self.centroids = all.values;
        Ok(Step { inertia: all.scalars[0], moved, stop: all.scalars[1] > 0.0 })
    }

    fn centroids(self: Box<Self>, _: &mut World) -> Result<Vec<f64>> {
        Ok(self.centroids)
    }
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
