//! Split: worlds of some of the ranks.

use crate::call::{Call, Op, blocking};
use crate::error::{HarpError, Result};
use crate::join::both;
use crate::node;
use aeolian_net::{Buf, World};

/// Makes worlds of the ranks that give the same `color`: in each, ranks are ordered by `key`, and by their rank here where keys are
/// equal. A rank that gives no color gets no world. All ranks must call this.
///
/// A world made so shares the wires of this one. It ends by itself; messages between its ranks and those of other worlds never meet.
/// (MPI's `MPI_Comm_split`.) Ring allgather of 24 bytes a rank.
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
    let all = blocking(world, Op::Split, 0, async |call| gathered(call, mine).await)?;
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

async fn gathered(call: &Call, mine: [u64; 3]) -> Result<Vec<[u64; 3]>> {
    let (rank, size) = (call.rank(), call.size());
    let (before, next) = ((rank + size - 1) % size, (rank + 1) % size);
    let mut all = vec![[0; 3]; size as usize];
    if call.near() {
        let lists = node::lists(call, &mine).await?;
        for ((to, list), from) in all.iter_mut().zip(lists).zip(0..) {
            *to = list
                .try_into()
                .map_err(|_| HarpError::Decode { rank: from, what: "not three words".into() })?;
        }
        return Ok(all);
    }
    all[rank as usize] = mine;
    let mut passing = Buf::from_pod(&mine);
    for round in 1..size {
        let ((), came) = both(call.send(next, passing), call.recv(before)).await?;
        let from = (rank + size - round) % size;
        all[from as usize] = came.cast::<u64>().try_into().map_err(|_| HarpError::Decode {
            rank: from,
            what: format!("{} bytes where 24 were due", came.len()),
        })?;
        passing = came;
    }
    Ok(all)
}
