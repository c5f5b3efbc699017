//! [`LogicalPlan`]: which tasks an operator has, and on which rank each is.

use crate::error::{OpsError, Result};
use aeolian_net::World;

/// The tasks of an operator: *sources*, which give records, and *targets*, which get them; each numbered from 0, each on one rank. Ranks
/// may have several, or none.
///
/// All ranks make the same plan. By default tasks are dealt to ranks in turn, first to one rank of each node; other plans say so:
///
/// ```
/// use aeolian_ops::LogicalPlan;
/// aeolian_net::World::local(3, |world| {
///     let plan = LogicalPlan::new(&world, 4, 1);
///     assert_eq!(plan.sources(), [0, 1, 2, 0]);
///     let plan = plan.targets_on(&[2, 2])?;
///     assert_eq!(plan.targets_of(2).collect::<Vec<_>>(), [0, 1]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalPlan {
    ranks: u32,
    sources: Vec<u32>,
    targets: Vec<u32>,
}

impl LogicalPlan {
    /// So many sources and targets, each kind dealt to the ranks of `world` in turn, first to one rank of each node.
    pub fn new(world: &World, sources: u32, targets: u32) -> LogicalPlan {
        let order = nodes_in_turn(world);
        let deal = |tasks: u32| order.iter().copied().cycle().take(tasks as usize).collect();
        LogicalPlan { ranks: world.size(), sources: deal(sources), targets: deal(targets) }
    }

    /// One source and one target on each rank, with the rank's number.
    pub fn each_rank(world: &World) -> LogicalPlan {
        let each: Vec<u32> = (0..world.size()).collect();
        LogicalPlan { ranks: world.size(), sources: each.clone(), targets: each }
    }

    /// The same with these sources: task `i` on rank `ranks[i]`.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if there is no such rank.
    pub fn sources_on(mut self, ranks: &[u32]) -> Result<LogicalPlan> {
        self.sources = self.known("source", ranks)?;
        Ok(self)
    }

    /// The same with these targets: task `i` on rank `ranks[i]`.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if there is no such rank.
    pub fn targets_on(mut self, ranks: &[u32]) -> Result<LogicalPlan> {
        self.targets = self.known("target", ranks)?;
        Ok(self)
    }

    fn known(&self, kind: &'static str, ranks: &[u32]) -> Result<Vec<u32>> {
        match ranks.iter().position(|rank| *rank >= self.ranks) {
            None => Ok(ranks.into()),
            Some(task) => Err(OpsError::Plan(format!(
                "{kind} {task} is to be on rank {}, but the world has {} ranks",
                ranks[task], self.ranks
            ))),
        }
    }

    /// The rank of each source.
    pub fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// The rank of each target.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// The sources on a rank, ascending.
    pub fn sources_of(&self, rank: u32) -> impl Iterator<Item = u32> + '_ {
        on(&self.sources, rank)
    }

    /// The targets on a rank, ascending.
    pub fn targets_of(&self, rank: u32) -> impl Iterator<Item = u32> + '_ {
        on(&self.targets, rank)
    }

    /// Where each record goes to one target, there must be one.
    pub(crate) fn needs_targets(&self, operator: &str) -> Result<()> {
        match (self.sources.len(), self.targets.len()) {
            (1.., 0) => {
                Err(OpsError::Plan(format!("{operator} from {} sources to no target", self.sources.len())))
            }
            _ => Ok(()),
        }
    }

    /// Ranks of the world that it is for.
    pub(crate) fn ranks(&self) -> u32 {
        self.ranks
    }

    /// Its ranks that have sources, ascending.
    pub(crate) fn source_ranks(&self) -> Vec<u32> {
        distinct(&self.sources)
    }

    /// Its ranks that have targets, ascending.
    pub(crate) fn target_ranks(&self) -> Vec<u32> {
        distinct(&self.targets)
    }
}

fn on(tasks: &[u32], rank: u32) -> impl Iterator<Item = u32> + '_ {
    (0..).zip(tasks).filter(move |(_, r)| **r == rank).map(|(task, _)| task)
}

fn distinct(tasks: &[u32]) -> Vec<u32> {
    let mut ranks = tasks.to_vec();
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}

/// The first rank of each node, then the second of each that has one, and so on.
fn nodes_in_turn(world: &World) -> Vec<u32> {
    let layout = world.layout();
    let mut places: Vec<(u32, u32, u32)> = Vec::new();
    for node in 0..layout.hosts.len() as u32 {
        places.extend((0..).zip(layout.ranks_on(node)).map(|(place, rank)| (place, node, rank)));
    }
    places.sort_unstable();
    places.into_iter().map(|(_, _, rank)| rank).collect()
}
