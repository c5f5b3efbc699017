//! Edges to the ranks that own their targets.

use aeolian::World;
use aeolian::harp::Array;
use aeolian_examples::Result;
use aeolian_examples::wires::{exchange, take};
use aeolian_examples::workers::Workers;

/// An edge at the owner of its target: the target's place among this rank's vertices, then the source's number. Sorted,
/// edges lie by target, and of one target by source.
pub(crate) fn pack(target: u64, source: u32) -> u64 {
    target << 32 | u64::from(source)
}

/// Sends the edges `0..n` of this rank, source and target by their numbers, to the owners of the targets; `first` has the
/// first number of each rank's vertices. Returns those that came here. Collective.
pub(crate) fn route(
    world: &mut World,
    workers: &Workers,
    first: &[u64],
    n: usize,
    edge: impl Fn(usize) -> (u32, u32) + Sync,
) -> Result<Vec<u64>> {
    let size = world.size() as usize;
    let pieces = workers.split(n, |range| {
        let mut by_owner = vec![Vec::with_capacity(range.len() / size + range.len() / size / 8); size];
        for (source, target) in range.map(&edge) {
            let target = u64::from(target);
            let owner = first[1..size].partition_point(|f| *f <= target);
            by_owner[owner].push(pack(target - first[owner], source));
        }
        by_owner
    });
    let mut pieces: Vec<_> = pieces.into_iter().map(Vec::into_iter).collect();
    let mut own = Vec::new();
    let mut outgoing = Vec::with_capacity(size);
    for owner in 0..size {
        let mut lists: Vec<Vec<u64>> = pieces.iter_mut().filter_map(Iterator::next).collect();
        if owner == world.rank() as usize {
            // What stays here does not travel.
            own = lists.swap_remove(0);
            lists.drain(..).for_each(|list| own.extend(list));
            outgoing.push(Vec::new());
            continue;
        }
        let mut all = Array::zeroed(lists.iter().map(Vec::len).sum());
        let mut rest = &mut all[..];
        for list in lists {
            let (here, after) = rest.split_at_mut(list.len());
            here.copy_from_slice(&list);
            rest = after;
        }
        outgoing.push(vec![all]);
    }
    for came in exchange(world, outgoing)? {
        let [edges] = take(came);
        own.extend_from_slice(&edges);
    }
    Ok(own)
}
