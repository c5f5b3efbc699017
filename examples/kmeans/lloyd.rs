//! Lloyd's algorithm: assign, add up, sum over ranks, average, until the centroids stand still. How the ranks do it together: `models`.

use aeolian::World;
use aeolian_examples::Result;
use aeolian_examples::progress::Progress;

use crate::Number;
use crate::models::{self, Kind, Own};

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

/// Iterates from `centroids` (`k x d`) on, in the model `kind`. Collective.
///
/// The rules are scikit-learn's: an iteration assigns all points and moves the centroids; it is the last if the squared
/// movement of all centroids together is at most `tolerance` times the mean variance of the columns. (Unchanged labels,
/// its other rule, mean unchanged sums and so a movement of zero.)
pub(crate) fn fit<T: Number>(
    world: &mut World,
    own: Own<'_, T>,
    centroids: Vec<f64>,
    kind: Kind,
    limits: &Limits,
    progress: &Progress,
) -> Result<Fit> {
    let enough = limits.tolerance * own.moments.variance;
    let mut model = models::begin(world, kind, own, centroids)?;
    let mut fit = Fit { centroids: Vec::new(), history: Vec::new(), converged: false, stopped: false };
    for iteration in 1..=limits.iterations {
        let step = model.step(world)?;
        fit.history.push(step.inertia);
        progress.tick(iteration as u64, limits.iterations as u64, || {
            format!("iteration {iteration} of at most {}  inertia {:.6e}", limits.iterations, step.inertia)
        });
        fit.converged = step.moved <= enough;
        fit.stopped = !fit.converged && step.stop;
        if fit.converged || fit.stopped {
            break;
        }
    }
    fit.centroids = model.centroids(world)?;
    Ok(fit)
}
