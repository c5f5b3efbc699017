//! Everybody to everybody, and who has what: what regroup, push, pull, join and alltoall are made of.

use crate::call::Call;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::join::both;
use crate::node;
use crate::table::Parts;
use aeolian_net::Buf;
use std::collections::HashMap;

/// Sends `outgoing[r]` to rank `r` and returns what each rank sent here.
///
/// Pairwise (Thakur, Rabenseifner, Gropp 2005): in round `i` a rank sends to the `i`th after it and receives from the `i`th before it, so
/// no rank is sent to by two at a time.
pub(crate) async fn parts<D: Data>(call: &Call, mut outgoing: Vec<Parts<D>>) -> Result<Vec<Parts<D>>> {
    let (rank, size) = (call.rank(), call.size());
    if call.near() {
        return node::exchanged::<D>(call, outgoing).await;
    }
    let mut incoming: Vec<Parts<D>> = (0..size).map(|_| Vec::new()).collect();
    incoming[rank as usize] = std::mem::take(&mut outgoing[rank as usize]);
    for round in 1..size {
        let (to, from) = ((rank + round) % size, (rank + size - round) % size);
        let out = std::mem::take(&mut outgoing[to as usize]);
        let ((), came) = both(call.send_parts::<D>(to, out), call.recv_parts::<D>(from)).await?;
        incoming[from as usize] = came;
    }
    Ok(incoming)
}

/// As [`parts`], of lists of ids.
pub(crate) async fn ids(call: &Call, mut outgoing: Vec<Vec<u64>>) -> Result<Vec<Vec<u64>>> {
    let (rank, size) = (call.rank(), call.size());
    if call.near() {
        return node::exchanged_ids(call, outgoing).await;
    }
    let mut incoming: Vec<Vec<u64>> = (0..size).map(|_| Vec::new()).collect();
    incoming[rank as usize] = std::mem::take(&mut outgoing[rank as usize]);
    for round in 1..size {
        let (to, from) = ((rank + round) % size, (rank + size - round) % size);
        let out = Buf::from_pod(&outgoing[to as usize]);
        let ((), came) = both(call.send(to, out), call.recv(from)).await?;
        incoming[from as usize] = whole_ids(&came, from)?.to_vec();
    }
    Ok(incoming)
}

/// Which rank has which of the ids that the ranks say they have; of several the lowest.
///
/// Ring allgather of the ids: every rank gets all of them.
pub(crate) async fn owners(call: &Call, mine: Vec<u64>) -> Result<HashMap<u64, u32>> {
    let (rank, size) = (call.rank(), call.size());
    let (before, next) = ((rank + size - 1) % size, (rank + 1) % size);
    let mut all: Vec<(u32, Vec<u64>)> = Vec::with_capacity(size as usize);
    if call.near() {
        all.extend((0..).zip(node::lists(call, &mine).await?));
        return Ok(first_of_each(all));
    }
    let mut passing = Buf::from_pod(&mine);
    all.push((rank, mine));
    for round in 1..size {
        let ((), came) = both(call.send(next, passing), call.recv(before)).await?;
        let from = (rank + size - round) % size;
        all.push((from, whole_ids(&came, from)?.to_vec()));
        passing = came;
    }
    all.sort_unstable_by_key(|(rank, _)| *rank);
    Ok(first_of_each(all))
}

fn first_of_each(all: Vec<(u32, Vec<u64>)>) -> HashMap<u64, u32> {
    let mut owners = HashMap::with_capacity(all.iter().map(|(_, ids)| ids.len()).sum());
    for (rank, ids) in all {
        for id in ids {
            owners.entry(id).or_insert(rank);
        }
    }
    owners
}

fn whole_ids(body: &Buf, rank: u32) -> Result<&[u64]> {
    if !body.len().is_multiple_of(8) {
        return Err(HarpError::Decode { rank, what: format!("{} bytes of ids", body.len()) });
    }
    Ok(body.cast())
}
