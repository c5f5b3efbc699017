//! Everybody to everybody, and who has what: what push, pull, join, alltoall and split are made of.

use crate::array::Array;
use crate::call::Call;
use crate::collective::allgather;
use crate::combiner::keep_first;
use crate::data::Data;
use crate::error::Result;
use crate::far;
use crate::node;
use crate::table::{Parts, Table};
use std::collections::HashMap;

/// Sends `outgoing[r]` to rank `r` and returns what each rank sent here.
pub(crate) async fn parts<D: Data>(call: &Call, outgoing: Vec<Parts<D>>) -> Result<Vec<Parts<D>>> {
    match call.near() {
        true => node::exchanged::<D>(call, outgoing).await,
        false => far::exchange::exchange::<D>(call, outgoing).await,
    }
}

/// As [`parts`], of one list of ids to each rank.
pub(crate) async fn ids(call: &Call, outgoing: Vec<Vec<u64>>) -> Result<Vec<Vec<u64>>> {
    let outgoing = outgoing.into_iter().map(|list| match list.is_empty() {
        true => Vec::new(),
        false => vec![(0, Array::from(list))],
    });
    let incoming = parts::<u64>(call, outgoing.collect()).await?;
    Ok(incoming
        .into_iter()
        .map(|parts| parts.first().map_or_else(Vec::new, |(_, list)| list.to_vec()))
        .collect())
}

/// A list of every rank, for all, by rank: an allgather.
pub(crate) async fn lists(call: &Call, mine: Vec<u64>) -> Result<Vec<Vec<u64>>> {
    let mut lists = Table::<u64, _>::new(keep_first());
    lists.insert(u64::from(call.rank()), mine);
    allgather::body(call, &mut lists).await?;
    Ok(lists.iter().map(|(_, list)| list.to_vec()).collect())
}

/// Which rank has which of the ids that the ranks say they have; of several the lowest. Every rank gets all of them.
pub(crate) async fn owners(call: &Call, mine: Vec<u64>) -> Result<HashMap<u64, u32>> {
    let lists = lists(call, mine).await?;
    let mut owners = HashMap::with_capacity(lists.iter().map(Vec::len).sum());
    for (ids, rank) in lists.into_iter().zip(0..) {
        for id in ids {
            owners.entry(id).or_insert(rank);
        }
    }
    Ok(owners)
}
