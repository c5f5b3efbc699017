//! Split: worlds of some of the ranks.

use crate::call::{Op, blocking};
use crate::error::{HarpError, Result};
use crate::exchange;
use aeolian_net::World;

/// Makes worlds of the ranks that give the same `color`: in each, ranks are ordered by `key`, and by their rank here where keys are
/// equal. A rank that gives no color gets no world. All ranks must call this.
///
/// A world made so shares the wires of this one. It ends by itself; messages between its ranks and those of other worlds never meet.
/// (MPI's `MPI_Comm_split`.) An allgather of 24 bytes a rank.
///
/// ```
/// use aeolian_harp::{Sum, allreduce_slice, split};
/// // Even and odd ranks add up their numbers apart.
/// let sums = aeolian_net::World::local(5, |mut world| {
///     let me = world.rank();
///     let mut mates = split(&mut world, Some(me % 2), 0)?.unwrap();
///     let mut sum = [me];
///     allreduce_slice(&mut mates, &mut sum, Sum)?;
///     world.finish()?;
///     Ok(sum[0])
/// })?;
/// assert_eq!(sums, [6, 4, 6, 4, 6]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn split(world: &mut World, color: Option<u32>, key: i64) -> Result<Option<World>> {
    let mine = [color.map_or(u64::MAX, u64::from), key as u64, u64::from(world.next_context())];
    let all = blocking(world, Op::Split, 0, async |call| {
        let lists = exchange::lists(call, mine.to_vec()).await?;
        lists.into_iter().zip(0..).map(|(list, from)| three_words(list, from)).collect::<Result<Vec<_>>>()
    })?;
    // One context for all the worlds that are made here: they have no rank in common.
    let context = all.iter().map(|m| m[2]).max().unwrap_or(0) as u32;
    let Some(color) = color else {
        return Ok(None);
    };
    let mut ranks: Vec<(i64, u32)> = all
        .iter()
        .zip(0..)
        .filter(|(m, _)| m[0] == u64::from(color))
        .map(|(m, rank)| (m[1] as i64, rank))
        .collect();
    ranks.sort_unstable();
    let ranks: Vec<u32> = ranks.into_iter().map(|(_, rank)| rank).collect();
    Ok(Some(world.sub(&ranks, context)?))
}

/// Makes a world of the ranks on each node: those that share memory. (MPI's `MPI_Comm_split_type`.)
///
/// ```
/// use aeolian_harp::split_by_node;
/// aeolian_net::World::local(3, |mut world| {
///     assert_eq!(split_by_node(&mut world)?.size(), 3); // threads are on one node
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn split_by_node(world: &mut World) -> Result<World> {
    let node = world.layout().node_of[world.rank() as usize];
    match split(world, Some(node), 0)? {
        Some(mates) => Ok(mates),
        None => Err(HarpError::Usage("a rank without a node".into())),
    }
}

fn three_words(list: Vec<u64>, rank: u32) -> Result<[u64; 3]> {
    list.try_into().map_err(|list: Vec<u64>| HarpError::Decode {
        rank,
        what: format!("{} words where 3 were due", list.len()),
    })
}
