//! Allreduce: recursive doubling for short tables, shares for long ones of the same shape; node first.
//!
//! No rank knows the others' tables, so all begin with recursive doubling, whose messages hold the table itself as long as it is short, and what it is like. At
//! its end either it is done, or all know alike how to go on: with shares if all tables have the same shape, else by recursive doubling of what is there.

use super::flat::Flat;
use super::shares;
use super::team::Team;
use super::{broadcast, gather};
use crate::call::Call;
use crate::codec::{Encoded, Head, encode};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::join::both;
use crate::partitioner::mix;
use crate::table::Table;
use aeolian_net::Buf;

/// Every table becomes the combination of all in the order of the ranks, with the same bits everywhere.
pub(crate) async fn allreduce<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
) -> Result<()> {
    if !table.combiner().law().associative {
        gather::straight(&Team::all(call), table, 0).await?;
        return broadcast::broadcast(call, table, 0).await;
    }
    let Some(level) = call.level().filter(|level| level.orders(table.combiner())) else {
        return in_team(&Team::all(call), table).await;
    };
    level.reduced(table, 0).await?;
    if let Some(team) = Team::of(call, level.heads(None)) {
        in_team(&team, table).await?;
    }
    level.spread(table, 0).await
}

/// What is known of the tables of some ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// All are short, and what was combined of them is there.
    short: bool,
    /// All have this shape and may be combined in pieces.
    shape: Option<[u64; 2]>,
}

impl Known {
    fn of<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>, short: bool) -> Known {
        let in_pieces = D::element().is_some() && table.combiner().law().elementwise;
        Known { short, shape: in_pieces.then(|| shape(table)) }
    }

    fn and(self, other: Known) -> Known {
        Known { short: self.short && other.short, shape: self.shape.filter(|_| self.shape == other.shape) }
    }

    /// In front of the head of a table, which stays on its boundary.
    const BYTES: usize = 64;

    fn before(self, head: &[u8]) -> Buf {
        let mut buf = Buf::zeroed(Known::BYTES + head.len());
        buf[0] = u8::from(self.short);
        buf[1] = u8::from(self.shape.is_some());
        let [a, b] = self.shape.unwrap_or_default();
        buf[8..16].copy_from_slice(&a.to_le_bytes());
        buf[16..24].copy_from_slice(&b.to_le_bytes());
        buf[Known::BYTES..].copy_from_slice(head);
        buf
    }

    fn read(bytes: &[u8]) -> Option<(Known, &[u8])> {
        let (known, head) = bytes.split_at_checked(Known::BYTES)?;
        let shape =
            [u64::from_le_bytes(*known[8..].first_chunk()?), u64::from_le_bytes(*known[16..].first_chunk()?)];
        Some((Known { short: known[0] == 1, shape: (known[1] == 1).then_some(shape) }, head))
    }
}

/// Fingerprint of ids and lengths, of so many bits that no two tables of one job have the same by chance.
fn shape<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>) -> [u64; 2] {
    table.iter().fold([0, 1], |shape, (id, part)| {
        let len = D::len(part) as u64;
        shape.map(|hash| mix(mix(hash ^ id) ^ len.wrapping_add(hash)))
    })
}

async fn in_team<D: Data, C: Combiner<D::Unit>>(team: &Team<'_>, table: &mut Table<D, C>) -> Result<()> {
    if team.size() == 1 {
        return Ok(());
    }
    let eager = team.choice().eager;
    // To go back to.
    let first = match table.bytes().is_none_or(|bytes| bytes <= eager) {
        true => Some(encode::<D>(table.iter())?).filter(|e| e.apart.is_empty() && e.head.len() <= eager),
        false => None,
    };
    let known = Known::of(table, first.is_some());
    let known = doubled(team, table, known).await?;
    if known.short {
        return Ok(());
    }
    if let Some(Encoded { head, apart }) = first {
        let parts = Head::<D>::decode(&head, team.rank(team.me()))?.with(apart, team.rank(team.me()))?;
        table.clear();
        table.combine_above(parts, team.rank(team.me()))?;
    }
    if known.shape.is_some() {
        let mut flat = Flat::of(table)?;
        shares::allreduce(team, &mut flat, table.combiner()).await?;
        return flat.back(table);
    }
    doubled(team, table, Known { short: true, shape: None }).await.map(drop)
}

/// Recursive doubling; those beyond the largest power of two first fold into a neighbour. Tables go along as long as all are `short`.
async fn doubled<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    table: &mut Table<D, C>,
    mut known: Known,
) -> Result<Known> {
    let (me, size) = (team.me(), team.size());
    let power = 1 << size.ilog2();
    let extra = size - power;
    // The first 2 * extra fold pairwise, so that neighbours stay neighbours and the order is kept.
    let place = if me < 2 * extra {
        if me % 2 == 1 {
            send(team, me - 1, table, known).await?;
            let (all, came) = receive::<D>(team, me - 1).await?;
            if all.short {
                table.clear();
                table.combine_above(came, team.rank(me - 1))?;
            }
            return Ok(all);
        }
        known = meet(team, table, known, receive::<D>(team, me + 1).await?, me + 1)?;
        me / 2
    } else {
        me - extra
    };
    let at = |place: u32| if place < extra { 2 * place } else { place + extra };
    let mut step = 1;
    while step < power {
        let peer = at(place ^ step);
        let ((), came) = both(send(team, peer, table, known), receive::<D>(team, peer)).await?;
        known = meet(team, table, known, came, peer)?;
        step *= 2;
    }
    if me < 2 * extra {
        send(team, me + 1, table, known).await?;
    }
    Ok(known)
}

type Came<D> = (Known, crate::table::Parts<D>);

/// Combines what has come from `peer` with what is here.
fn meet<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    table: &mut Table<D, C>,
    known: Known,
    (other, came): Came<D>,
    peer: u32,
) -> Result<Known> {
    let all = known.and(other);
    if all.short {
        table.check(came.iter().map(|(id, part)| (*id, part)))?;
        let from = team.rank(peer);
        if team.me() < peer { table.combine_above(came, from)? } else { table.combine_below(came, from)? }
    }
    Ok(all)
}

async fn send<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    to: u32,
    table: &Table<D, C>,
    known: Known,
) -> Result<()> {
    if !known.short {
        return team.send(to, known.before(&[])).await;
    }
    let Encoded { head, apart } = encode::<D>(table.iter())?;
    team.send_encoded(to, Encoded { head: known.before(&head), apart }).await
}

async fn receive<D: Data>(team: &Team<'_>, from: u32) -> Result<Came<D>> {
    let body = team.recv(from).await?;
    let Some((known, head)) = Known::read(&body) else {
        return Err(team.broken(from, "it does not say what the table is like"));
    };
    if !known.short {
        return Ok((known, Vec::new()));
    }
    let head = Head::<D>::decode(head, team.rank(from))?;
    let mut apart = Vec::with_capacity(head.apart.len().min(1024));
    for _ in 0..head.apart.len() {
        apart.push(team.recv(from).await?);
    }
    Ok((known, head.with(apart, team.rank(from))?))
}
