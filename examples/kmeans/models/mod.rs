//! Harp's computation models: how the ranks come from their points to new centroids.
//!
//! | file | who computes the new centroids | how all get them |
//! |---|---|---|
//! | `allreduce` | everybody all of them | the sums are combined everywhere |
//! | `broadcast_reduce` | rank 0 | a broadcast |
//! | `push_pull` | each rank a block | all pull all blocks |
//! | `regroup_allgather` | each rank a block | an allgather |
//! | `rotation` | each rank a block | the blocks come by |
//!
//! In the first four every rank assigns its points to all centroids; `whole` is what they share, `blocks` how sums lie in tables. In
//! `rotation` no rank has more than a few blocks of the centroids at a time.

mod allreduce;
mod blocks;
mod broadcast_reduce;
mod push_pull;
mod regroup_allgather;
mod rotation;
#[cfg(test)]
mod tests;
mod whole;

use aeolian::World;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Matrix, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::Number;
use crate::moments::Moments;
use rotation::Rotating;
use whole::Whole;

/// A computation model, as `--model` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// sums are combined on all ranks
    Allreduce,
    /// rank 0 combines, divides and tells the others
    BroadcastReduce,
    /// sums are pushed to the owners of blocks of centroids, centroids pulled from there
    PushPull,
    /// sums are regrouped by blocks of centroids, which are then gathered
    RegroupAllgather,
    /// blocks of centroids go round the ranks; no rank has all of them
    Rotation,
}

impl Kind {
    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}

/// What a rank works on, the same in all models.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a, T: Number> {
    pub(crate) workers: &'a Workers,
    pub(crate) points: &'a Matrix<T>,
    pub(crate) moments: &'a Moments,
}

/// What an iteration led to, the same on all ranks.
pub(crate) struct Step {
    /// Of the centroids that the points were assigned to.
    pub(crate) inertia: f64,
    /// Squared movement of all centroids.
    pub(crate) moved: f64,
    /// Whether somebody asked the job to stop.
    pub(crate) stop: bool,
}

/// Centroids that are iterated on in one of the models. All calls are collective.
pub(crate) trait Model {
    /// Assigns all points and moves the centroids.
    fn step(&mut self, world: &mut World) -> Result<Step>;

    /// All centroids (`k x d`), on every rank.
    fn centroids(self: Box<Self>, world: &mut World) -> Result<Vec<f64>>;
}

/// Begins with `centroids` (`k x d`, the same on all ranks).
pub(crate) fn begin<'a, T: Number>(
    world: &mut World,
    kind: Kind,
    own: Own<'a, T>,
    centroids: Vec<f64>,
) -> Result<Box<dyn Model + 'a>> {
    Ok(match kind {
        Kind::Allreduce => Box::new(Whole::new(own, centroids, allreduce::exchange)),
        Kind::BroadcastReduce => Box::new(Whole::new(own, centroids, broadcast_reduce::exchange)),
        Kind::PushPull => Box::new(Whole::new(own, centroids, push_pull::exchange)),
        Kind::RegroupAllgather => Box::new(Whole::new(own, centroids, regroup_allgather::exchange)),
        Kind::Rotation => Box::new(Rotating::new(world, own, &centroids)?),
    })
}

/// 1 if this rank was asked to stop: the sum over the ranks is the same everywhere, so all stop together.
fn stop_vote(world: &World) -> f64 {
    f64::from(u8::from(world.stop_requested()))
}

/// Squared movement of centroids.
fn moved(next: &[f64], centroids: &[f64]) -> f64 {
    next.iter().zip(centroids).map(|(a, b)| (a - b) * (a - b)).sum()
}
