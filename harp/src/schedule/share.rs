//! How many threads a rank may use.

use crate::collective::allgather::allgather;
use crate::combiner::Sum;
use crate::error::Result;
use crate::table::Table;
use aeolian_net::World;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Threads for each rank to use: the cores that this rank may use, divided by the ranks of its node that may use the same ones;
/// at least 1. Where the launcher has bound ranks to cores of their own, that is all of a rank's.
///
/// A collective, because ranks tell each other which cores those are: all must call it.
///
/// ```
/// use aeolian_harp::schedule::fair_share;
/// let threads = aeolian_net::World::local(2, |mut world| {
///     let threads = fair_share(&mut world)?;
///     world.finish()?;
///     Ok(threads)
/// })?;
/// let cores = std::thread::available_parallelism()?.get();
/// assert_eq!(threads, [(cores / 2).max(1); 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fair_share(world: &mut World) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut hasher = DefaultHasher::new();
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        (0..rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| set.is_set(cpu).hash(&mut hasher));
    }
    let mine = hasher.finish();
    let mut masks = Table::<u64, Sum>::new(Sum);
    masks.add(u64::from(world.rank()), vec![mine])?;
    allgather(world, &mut masks)?;
    let node_of = &world.layout().node_of;
    let node = node_of[world.rank() as usize];
    let same = |(rank, mask): (u64, &crate::array::Array<u64>)| {
        node_of[rank as usize] == node && mask.first() == Some(&mine)
    };
    let sharing = masks.iter().filter(|&it| same(it)).count();
    Ok((cores / sharing.max(1)).max(1))
}
