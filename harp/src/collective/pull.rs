//! Pull.

use crate::call::{Call, Op, Pending, agree, blocking, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::exchange;
use crate::table::{Parts, Table};
use aeolian_net::World;

/// The partitions of `local` are replaced by copies of those of the same ids in the ranks' `global` tables. Returns the ids of `local` that
/// no rank has, ascending; they stay as they are.
///
/// The ranks first tell each other the ids of `global`, then ask the owners and are answered: two pairwise exchanges. An id
/// that several ranks have in `global` comes from the lowest of them.
///
/// ```
/// use aeolian_harp::{Sum, Table, pull};
/// aeolian_net::World::local(3, |mut world| {
///     let (mut local, mut global) = (Table::<u64, Sum>::new(Sum), Table::<u64, Sum>::new(Sum));
///     let me = u64::from(world.rank());
///     global.add(me, vec![me * me])?;
///     local.add((me + 1) % 3, vec![0])?; // the next rank's
///     local.add(9, vec![5])?; // nobody's
///     assert_eq!(pull(&mut world, &mut local, &global)?, [9]);
///     let next = (me + 1) % 3;
///     assert_eq!((local.get(next).unwrap()[0], local.get(9).unwrap()[0]), (next * next, 5));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn pull<D: Data, C: Combiner<D::Unit>>(
    world: &mut World,
    local: &mut Table<D, C>,
    global: &Table<D, C>,
) -> Result<Vec<u64>> {
    let agree = agree(global, &[]);
    blocking(world, Op::Pull, agree, async |call| body(call, local, global).await)
}

/// Starts a [`pull`]; both tables and the ids that nobody has come back.
#[expect(clippy::type_complexity, reason = "what was given and what came of it")]
pub fn ipull<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut local: Table<D, C>,
    global: Table<D, C>,
) -> Result<Pending<(Table<D, C>, Table<D, C>, Vec<u64>)>> {
    let agree = agree(&global, &[]);
    starting(world, Op::Pull, agree, async move |call| {
        let missing = body(call, &mut local, &global).await?;
        Ok((local, global, missing))
    })
}

async fn body<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    local: &mut Table<D, C>,
    global: &Table<D, C>,
) -> Result<Vec<u64>> {
    let owners = exchange::owners(call, global.ids().collect()).await?;
    let mut wanted: Vec<Vec<u64>> = (0..call.size()).map(|_| Vec::new()).collect();
    let mut missing = Vec::new();
    for id in local.ids() {
        match owners.get(&id) {
            Some(&rank) => wanted[rank as usize].push(id),
            None => missing.push(id),
        }
    }
    let mut answers: Vec<Parts<D>> = Vec::with_capacity(call.size() as usize);
    for (ids, rank) in exchange::ids(call, wanted).await?.into_iter().zip(0..) {
        let copies = ids.into_iter().map(|id| match global.get(id) {
            Some(part) => Ok((id, D::copy(part))),
            None => {
                let what = format!("it asks for partition {id}, which this rank does not have");
                Err(HarpError::Decode { rank, what })
            }
        });
        answers.push(copies.collect::<Result<_>>()?);
    }
    for (id, part) in exchange::parts::<D>(call, answers).await?.into_iter().flatten() {
        local.insert(id, part);
    }
    Ok(missing)
}
