//! Everybody to everybody.
//!
//! In a team: pairwise (Thakur, Rabenseifner, Gropp 2005). With many partners, of whom few may have something to say, they first tell each other whether they
//! have: one byte for each, all together in `ceil(log2 n)` messages (the all-to-all of Bruck, Ho, Kipnis, Upfal, Weathersby 1997). Then who has nothing sends
//! nothing.
//!
//! Between nodes with several ranks, short partitions are bundled by node: each pair of nodes has a *courier* on either side, to whom those of a node hand what
//! is for the other, and who send each other one bundle. The couriers of a node's pairs are its ranks in turn. Long partitions would gain nothing by that
//! and follow straight from rank to rank.

use super::bundle::{self, Item};
use super::levels::Level;
use super::team::Team;
use crate::call::Call;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::join::both;
use crate::node;
use crate::table::Parts;
use aeolian_net::Buf;

/// From this length on a partition goes straight to its rank.
const LONG: usize = 32 << 10;

/// Sends `outgoing[r]` to rank `r` and returns what each rank sent here.
pub(crate) async fn exchange<D: Data>(call: &Call, outgoing: Vec<Parts<D>>) -> Result<Vec<Parts<D>>> {
    match call.level() {
        Some(level) => bundled::<D>(call, level, outgoing).await,
        None => in_team::<D>(&Team::all(call), outgoing).await,
    }
}

/// Pairwise; if there are many, only with those who have something to say.
pub(crate) async fn in_team<D: Data>(team: &Team<'_>, mut outgoing: Vec<Parts<D>>) -> Result<Vec<Parts<D>>> {
    let (me, size) = (team.me(), team.size());
    let speaks = match size >= team.choice().sparse {
        true => Some(whispered(team, outgoing.iter().map(|parts| !parts.is_empty()).collect()).await?),
        false => None,
    };
    let mut incoming: Vec<Parts<D>> = (0..size).map(|_| Vec::new()).collect();
    incoming[me as usize] = std::mem::take(&mut outgoing[me as usize]);
    for round in 1..size {
        let (to, from) = ((me + round) % size, (me + size - round) % size);
        let out = std::mem::take(&mut outgoing[to as usize]);
        let send = async {
            match speaks.is_some() && out.is_empty() {
                true => Ok(()),
                false => team.send_parts::<D>(to, out).await,
            }
        };
        let receive = async {
            match speaks.as_ref().is_none_or(|speaks| speaks[from as usize]) {
                true => team.recv_parts::<D>(from).await,
                false => Ok(Vec::new()),
            }
        };
        ((), incoming[from as usize]) = both(send, receive).await?;
    }
    Ok(incoming)
}

/// Who has something for this one, of what each has for whom.
async fn whispered(team: &Team<'_>, mine: Vec<bool>) -> Result<Vec<bool>> {
    let (me, size) = (team.me(), team.size());
    // Word `i` is on its way to the `i`th after the one that it is with, less the steps that it has made.
    let mut words: Vec<u8> = (0..size).map(|i| u8::from(mine[((me + i) % size) as usize])).collect();
    let mut distance = 1;
    while distance < size {
        let moving: Vec<usize> = (0..size).filter(|i| i & distance != 0).map(|i| i as usize).collect();
        let out: Vec<u8> = moving.iter().map(|&i| words[i]).collect();
        let (to, from) = ((me + distance) % size, (me + size - distance) % size);
        let ((), came) = both(team.send(to, Buf::from_slice(&out)), team.recv(from)).await?;
        if came.len() != moving.len() {
            return Err(team.broken(from, "not the words that were due"));
        }
        moving.iter().zip(came.iter()).for_each(|(&i, word)| words[i] = *word);
        distance *= 2;
    }
    // The word that has made `i` steps is that of the `i`th before this one.
    Ok((0..size).map(|from| words[((me + size - from) % size) as usize] != 0).collect())
}

async fn bundled<D: Data>(call: &Call, level: &Level, mut outgoing: Vec<Parts<D>>) -> Result<Vec<Parts<D>>> {
    let (me, size) = (call.rank(), call.size());
    let mut incoming: Vec<Parts<D>> = (0..size).map(|_| Vec::new()).collect();
    incoming[me as usize] = std::mem::take(&mut outgoing[me as usize]);
    let nodes = level.nodes();
    let (mine, mates) = (nodes.mine(), &nodes.ranks()[nodes.mine()]);
    let node_of = &call.world().layout().node_of;
    let mate_of = |rank: u32| mates.iter().position(|&mate| mate == rank);
    // What goes to whom in the node, for it or for the node that it is the courier to; and what goes straight.
    let mut handed: Vec<Vec<Item>> = mates.iter().map(|_| Vec::new()).collect();
    let mut straight: Vec<Vec<Buf>> = (0..size).map(|_| Vec::new()).collect();
    for (parts, to) in outgoing.into_iter().zip(0..) {
        let node = node_of[to as usize] as usize;
        let courier = mate_of(to).unwrap_or(node % mates.len());
        for (id, part) in parts {
            let bytes = D::into_buf(part).map_err(|what| HarpError::Encode { id, what })?;
            let bytes = match node != mine && bytes.len() >= LONG {
                true => {
                    straight[to as usize].push(bytes);
                    None
                }
                false => Some(bytes),
            };
            handed[courier].push(Item { from: me, to, id, bytes });
        }
    }
    let mut arrived = Vec::new();
    let mut carried: Vec<Vec<Item>> = nodes.ranks().iter().map(|_| Vec::new()).collect();
    for item in in_node(level, handed).await? {
        match node_of.get(item.to as usize) {
            Some(&node) if node as usize != mine => carried[node as usize].push(item),
            _ => arrived.push(item),
        }
    }
    let mut given: Vec<Vec<Item>> = mates.iter().map(|_| Vec::new()).collect();
    for item in between_nodes(call, level, carried).await? {
        match mate_of(item.to) {
            Some(mate) => given[mate].push(item),
            None => return Err(HarpError::Decode { rank: item.from, what: "a stray partition".into() }),
        }
    }
    arrived.extend(in_node(level, given).await?);
    let expected = sorted::<D>(call, arrived, &mut incoming)?;
    follow::<D>(&Team::all(call), straight, expected, &mut incoming).await?;
    incoming.iter_mut().for_each(|parts| parts.sort_by_key(|(id, _)| *id));
    Ok(incoming)
}

/// Hands items to the others in the node.
async fn in_node(level: &Level, handed: Vec<Vec<Item>>) -> Result<Vec<Item>> {
    let node = level.node();
    let bundles = handed.into_iter().map(bundle::pack).collect::<Result<Vec<_>>>()?;
    let came = match node.near() {
        true => node::exchanged::<u8>(node, bundles).await,
        false => in_team::<u8>(&Team::all(node), bundles).await,
    };
    let mut items = Vec::new();
    for (parts, mate) in level.lift(came)?.into_iter().zip(0..) {
        items.append(&mut level.lift(bundle::unpack(parts, mate))?);
    }
    Ok(items)
}

/// What is for other nodes goes there, if this rank is the courier to them.
async fn between_nodes(call: &Call, level: &Level, mut carried: Vec<Vec<Item>>) -> Result<Vec<Item>> {
    let nodes = level.nodes();
    let (mine, count) = (nodes.mine(), nodes.ranks().len());
    let courier = |of: usize, to: usize| nodes.ranks()[of][to % nodes.ranks()[of].len()];
    let mut items = Vec::new();
    for round in 1..count {
        let (to, from) = ((mine + round) % count, (mine + count - round) % count);
        let send = async {
            if courier(mine, to) == call.rank() {
                let bundle = bundle::pack(std::mem::take(&mut carried[to]))?;
                call.send_parts::<u8>(courier(to, mine), bundle).await?;
            }
            Ok(())
        };
        let receive = async {
            if courier(mine, from) != call.rank() {
                return Ok(Vec::new());
            }
            let sender = courier(from, mine);
            bundle::unpack(call.recv_parts::<u8>(sender).await?, sender)
        };
        let ((), mut came) = both(send, receive).await?;
        items.append(&mut came);
    }
    Ok(items)
}

/// The partitions that have come, by their senders, and the ids of those that will follow straight.
fn sorted<D: Data>(call: &Call, items: Vec<Item>, incoming: &mut [Parts<D>]) -> Result<Vec<Vec<u64>>> {
    let mut expected: Vec<Vec<u64>> = incoming.iter().map(|_| Vec::new()).collect();
    for Item { from, to, id, bytes } in items {
        let (Some(parts), true) = (incoming.get_mut(from as usize), to == call.rank()) else {
            let what = format!("a partition from rank {from} to rank {to}");
            return Err(HarpError::Decode { rank: from, what });
        };
        match bytes {
            Some(bytes) => parts.push((id, bundle::part::<D>(from, id, bytes)?)),
            None => expected[from as usize].push(id),
        }
    }
    Ok(expected)
}

/// Long partitions, pairwise.
async fn follow<D: Data>(
    team: &Team<'_>,
    mut straight: Vec<Vec<Buf>>,
    expected: Vec<Vec<u64>>,
    incoming: &mut [Parts<D>],
) -> Result<()> {
    let (me, size) = (team.me(), team.size());
    for round in 1..size {
        let (to, from) = ((me + round) % size, (me + size - round) % size);
        let send = async {
            for buf in std::mem::take(&mut straight[to as usize]) {
                team.send(to, buf).await?;
            }
            Ok(())
        };
        let receive = async {
            for &id in &expected[from as usize] {
                let bytes = team.recv(from).await?;
                incoming[from as usize].push((id, bundle::part::<D>(from, id, bytes)?));
            }
            Ok(())
        };
        both(send, receive).await?;
    }
    Ok(())
}
