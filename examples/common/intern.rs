//! Numbers for names, the same on all ranks: each name belongs to the rank that its hash says, which numbers those that it
//! owns in the order in which the ranks tell it. Rank after rank this makes dense numbers.

use crate::agree::all;
use crate::names::{Names, hash};
use crate::wires::{exchange, take};
use crate::{Error, Result};
use aeolian::World;
use aeolian::harp::Array;

/// Distinct names, distributed.
pub struct Interned {
    /// The names that this rank owns.
    pub owned: Names,
    /// The first number of each rank's names, and at last the number of all.
    pub first: Vec<u64>,
    /// Of each of the names that were given: its number.
    pub numbers: Vec<u32>,
}

/// Numbers the names that this rank has seen; `what` they are, for messages ("vertices"). Collective.
///
/// # Errors
/// [`Error::Data`] on all ranks if there are more than 32 bits can number.
pub fn intern(world: &mut World, seen: &Names, what: &str) -> Result<Interned> {
    let size = world.size() as usize;
    let mut outgoing: Vec<(Vec<u8>, Vec<u8>)> = vec![Default::default(); size];
    let owners: Vec<u32> = seen.iter().map(|name| owner(name, size)).collect();
    for (name, owner) in seen.iter().zip(&owners) {
        let (lengths, bytes) = &mut outgoing[*owner as usize];
        lengths.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name);
    }
    let outgoing = outgoing.into_iter().map(|(lengths, bytes)| vec![lengths.into(), bytes.into()]).collect();
    let mut owned = Names::default();
    let mut answers: Vec<Vec<Array<u32>>> = Vec::with_capacity(size);
    for came in exchange::<u8>(world, outgoing)? {
        let [lengths, bytes] = take(came);
        let mut rest = &bytes[..];
        let mut numbers = Vec::with_capacity(lengths.len() / 4);
        for length in lengths.as_chunks().0 {
            let length = u32::from_le_bytes(*length) as usize;
            let (name, others) = rest.split_at(rest.len().min(length));
            rest = others;
            // One that has no number fails below, where all count.
            numbers.push(owned.intern(name).unwrap_or(u32::MAX));
        }
        answers.push(vec![numbers.into()]);
    }
    let first = firsts(world, owned.len() as u64, what)?;
    let numbers_of: Vec<[Array<u32>; 1]> = exchange(world, answers)?.into_iter().map(take).collect();
    let mut next = vec![0; size];
    let numbers = owners.iter().map(|owner| {
        let owner = *owner as usize;
        next[owner] += 1;
        first[owner] as u32 + numbers_of[owner][0][next[owner] - 1]
    });
    Ok(Interned { numbers: numbers.collect(), owned, first })
}

/// The first number of each rank's names, of which this one has `mine`, and the number of all. Collective.
fn firsts(world: &mut World, mine: u64, what: &str) -> Result<Vec<u64>> {
    let counts = all(world, mine)?;
    let mut first = vec![0];
    first.extend(counts.iter().scan(0, |sum, n| {
        *sum += n;
        Some(*sum)
    }));
    match first.last() {
        Some(n) if *n >= u64::from(u32::MAX) => Err(Error::data(
            "the input",
            format!("it has {n} {what}, but they are numbered with 32 bits"),
            "use a part of it",
        )),
        _ => Ok(first),
    }
}

// The table inside of `Names` goes by the low bits.
fn owner(name: &[u8], size: usize) -> u32 {
    (((hash(name) >> 32) * size as u64) >> 32) as u32
}
