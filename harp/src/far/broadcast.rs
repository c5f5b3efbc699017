//! Broadcast: short partitions along a binomial tree, long ones in pieces along a chain; between nodes first.

use super::team::Team;
use crate::call::Call;
use crate::codec::{Head, Long, encode_lying};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::table::{Parts, Table};
use aeolian_net::Buf;

/// All others add copies of the partitions of `root`'s table to theirs.
pub(crate) async fn broadcast<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let Some(level) = call.level() else { return spread_table(&Team::all(call), table, root).await };
    let head = level.head(Some(root));
    let Some(team) = Team::of(call, level.heads(Some(root))) else {
        return level.spread(table, head).await;
    };
    if call.rank() == root {
        spread::<D>(&team, team.me(), Some(encode_lying::<D>(table.iter())?)).await?;
        return level.spread(table, head).await;
    }
    let from = call.world().layout().node_of[root as usize];
    // What has come goes on inside the node as it is; only then it is added to this rank's own.
    let mut came = table.like();
    if let Some(parts) = spread::<D>(&team, from, None).await? {
        came.combine_above(parts, root)?;
    }
    level.spread(&mut came, head).await?;
    table.combine_above(came.take(), root)
}

/// As [`broadcast`], in a team.
pub(crate) async fn spread_table<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    if team.size() == 1 {
        return Ok(());
    }
    let mine = if team.me() == root { Some(encode_lying::<D>(table.iter())?) } else { None };
    match spread::<D>(team, root, mine).await? {
        Some(came) => table.combine_above(came, team.rank(root)),
        None => Ok(()),
    }
}

/// Brings what `root` has encoded to all others, which get it decoded.
async fn spread<D: Data>(
    team: &Team<'_>,
    root: u32,
    mine: Option<(Buf, Vec<Long<'_>>)>,
) -> Result<Option<Parts<D>>> {
    let (head, apart) = match mine {
        Some((head, apart)) => (head, Some(apart)),
        None => (Buf::empty(), None),
    };
    let head = tree(team, root, head).await?;
    match apart {
        Some(apart) => {
            // Alone, nobody would take what goes to the next.
            for bytes in apart.iter().filter(|_| team.size() > 1) {
                chain_from_root(team, root, bytes).await?;
            }
            Ok(None)
        }
        None => {
            let head = Head::<D>::decode(&head, team.rank(root))?;
            let mut apart = Vec::with_capacity(head.apart.len().min(1024));
            for &len in &head.apart {
                apart.push(chain(team, root, len).await?);
            }
            Ok(Some(head.with(apart, team.rank(root))?))
        }
    }
}

/// Sends `body` from `root` to all along a binomial tree; every one gets it back.
async fn tree(team: &Team<'_>, root: u32, mut body: Buf) -> Result<Buf> {
    let size = team.size();
    let place = (team.me() + size - root) % size;
    let mut step = 1;
    while step < size && place & step == 0 {
        step *= 2;
    }
    if place != 0 {
        body = team.recv((place - step + root) % size).await?;
    }
    step /= 2;
    while step > 0 {
        if place + step < size {
            team.send((place + step + root) % size, body.clone()).await?;
        }
        step /= 2;
    }
    Ok(body)
}

async fn chain_from_root(team: &Team<'_>, root: u32, bytes: &[u8]) -> Result<()> {
    let next = (root + 1) % team.size();
    for piece in bytes.chunks(team.choice().piece) {
        team.send(next, Buf::from_slice(piece)).await?;
    }
    Ok(())
}

/// Receives `len` bytes in pieces and passes them on.
async fn chain(team: &Team<'_>, root: u32, len: u64) -> Result<Buf> {
    let (me, size) = (team.me(), team.size());
    let (before, next) = ((me + size - 1) % size, (me + 1) % size);
    let len = len as usize;
    let broken = |came, due| Err(team.broken(before, format!("{came} bytes where {due} were due")));
    let mut all = Buf::empty();
    let mut at = 0;
    while at < len {
        let piece = team.recv(before).await?;
        if at == 0 && piece.len() == len {
            // The only one.
            if next != root {
                team.send(next, piece.clone()).await?;
            }
            return Ok(piece);
        }
        if at == 0 {
            all = Buf::stale(len);
        }
        let Some(to) = all.get_mut(at..at + piece.len()).filter(|to| !to.is_empty()) else {
            return broken(piece.len(), len - at);
        };
        to.copy_from_slice(&piece);
        at += piece.len();
        if next != root {
            team.send(next, piece).await?;
        }
    }
    Ok(all)
}
