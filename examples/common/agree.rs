//! Errors that all ranks must know of, and small exchanges between ranks.

use aeolian::World;
use aeolian::harp::{Sum, Table, allgather, allreduce_slice, broadcast, gather};

use crate::{Error, Result};

/// Tells all ranks whether this step went well on every one. Everybody gets its own value back, or everybody the same
/// [`Error::Agreed`], which is that of the lowest rank that failed. Call it on every rank, with success or failure; such an error, which
/// all ranks have, stays as it is.
///
/// ```
/// use aeolian_examples::{Error, agree::agree};
/// let texts = aeolian::World::local(3, |mut world| {
///     let mine = if world.rank() == 1 { Err(Error::data("a.csv:7", "bad", "mend it")) } else { Ok(()) };
///     let text = agree(&mut world, mine).unwrap_err().to_string();
///     world.finish()?;
///     Ok(text)
/// })?;
/// assert!(texts.iter().all(|t| t == "a.csv:7: bad\n  help: mend it\n  rank: 1 of 3"));
/// # Ok::<(), aeolian::net::NetError>(())
/// ```
pub fn agree<T>(world: &mut World, mine: Result<T>) -> Result<T> {
    if world.size() == 1 || matches!(mine, Err(Error::Net(_) | Error::Agreed { .. })) {
        return mine;
    }
    let mut failed = [u64::from(mine.is_err())];
    allreduce_slice(world, &mut failed, Sum)?;
    if failed[0] == 0 {
        return mine;
    }
    let mut table = Table::<u8, Sum>::new(Sum);
    if let Err(e) = &mine {
        let mut text = vec![e.exit_code()];
        text.extend_from_slice(e.to_string().as_bytes());
        table.add(u64::from(world.rank()), text)?;
    }
    allgather(world, &mut table)?;
    let size = world.size() as usize;
    let first = table.iter().next().map(|(rank, text)| (rank as usize, text.to_vec()));
    let (rank, text) = first.unwrap_or_default();
    let (code, message) = text
        .split_first()
        .map_or((70, String::new()), |(code, rest)| (*code, String::from_utf8_lossy(rest).into_owned()));
    Err(Error::Agreed { rank, failed: failed[0] as usize, size, code, message })
}

/// Every rank's number, by rank.
pub fn all(world: &mut World, mine: u64) -> Result<Vec<u64>> {
    let mut slots = vec![0; world.size() as usize];
    slots[world.rank() as usize] = mine;
    allreduce_slice(world, &mut slots, Sum)?;
    Ok(slots)
}

/// The numbers of rank 0, on every rank.
pub fn from_first(world: &mut World, numbers: Vec<f64>) -> Result<Vec<f64>> {
    let mut table = Table::<f64, Sum>::new(Sum);
    if world.rank() == 0 {
        table.add(0, numbers)?;
    }
    broadcast(world, &mut table, 0)?;
    Ok(table.get(0).map(|a| a.to_vec()).unwrap_or_default())
}

/// The numbers of all ranks in rank order, on rank 0 (elsewhere nothing).
pub fn to_first<T: aeolian::harp::Element>(world: &mut World, mine: Vec<T>) -> Result<Vec<T>>
where
    Sum: aeolian::harp::Combiner<[T]>,
{
    let mut table = Table::<T, Sum>::new(Sum);
    if !mine.is_empty() {
        table.add(u64::from(world.rank()), mine)?;
    }
    gather(world, &mut table, 0)?;
    let mut all = Vec::new();
    if world.rank() == 0 {
        table.iter().for_each(|(_, part)| all.extend_from_slice(part));
    }
    Ok(all)
}
