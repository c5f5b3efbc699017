//! Broadcast: short partitions along a binomial tree, long ones in pieces along a chain, or by MPI's own broadcast; between nodes first.
//!
//! MPI's takes a partition from where it lies and puts it where it will, one copy less on either side. What it will be called for all know from the head of the
//! table, which goes along the tree in any case; and by a barrier, that all are in this call: MPI has no word for it if they are not.

use super::barrier::dissemination;
use super::team::Team;
use crate::call::Call;
use crate::codec::{self, Head, Long, encode_lying};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
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
        give(&team, table).await?;
        return level.spread(table, head).await;
    }
    let from = call.world().layout().node_of[root as usize];
    // What has come goes on inside the node as it is; only then it is added to this rank's own.
    let mut came = table.like();
    came.combine_above(take::<D>(&team, from).await?, root)?;
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
    if team.me() == root {
        return give(team, table).await;
    }
    table.combine_above(take::<D>(team, root).await?, team.rank(root))
}

/// Whether a partition of so many bytes goes by MPI's own broadcast.
fn by_mpi(team: &Team<'_>, len: usize) -> bool {
    len >= team.mpi_from() && team.mpi().is_some()
}

/// Gives this member's table to all others.
async fn give<D: Data, C: Combiner<D::Unit>>(team: &Team<'_>, table: &mut Table<D, C>) -> Result<()> {
    let root = team.me();
    let (head, long) = encode_lying::<D>(table.iter())?;
    tree(team, root, head).await?;
    let (mut bufs, mut lent) = (Vec::new(), Vec::new());
    // Alone, nobody would take what goes to the next.
    for (id, long) in long.into_iter().filter(|_| team.size() > 1) {
        match long {
            long if !by_mpi(team, long.len()) => chain_from_root(team, root, &long).await?,
            Long::Made(buf) => bufs.push((buf, root)),
            Long::Lies(_) => {
                lent.push((id, bufs.len()));
                bufs.push((Buf::empty(), root));
            }
        }
    }
    if !bufs.is_empty() {
        dissemination(team).await?;
    }
    lending(team, table, bufs, lent).await.map(drop)
}

/// MPI's broadcasts of `bufs`, with the partitions of this member's table that are `lent` where they are named; returns what has come.
pub(super) async fn lending<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    table: &mut Table<D, C>,
    mut bufs: Vec<(Buf, u32)>,
    lent: Vec<(u64, usize)>,
) -> Result<Vec<Buf>> {
    let failed = |id| move |what| HarpError::Encode { id, what };
    for &(id, at) in &lent {
        if let Some(part) = table.get_mut(id) {
            bufs[at].0 = D::lend(part).map_err(failed(id))?;
        }
    }
    let mut came = team.broadcast_by_mpi(bufs).await?;
    for (id, at) in lent {
        if let Some(part) = table.get_mut(id) {
            D::give_back(part, std::mem::take(&mut came[at])).map_err(failed(id))?;
        }
    }
    Ok(came)
}

/// Takes what `root` [gives](give).
async fn take<D: Data>(team: &Team<'_>, root: u32) -> Result<Parts<D>> {
    let head = tree(team, root, Buf::empty()).await?;
    let (mut apart, mut bufs, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for len in codec::apart(&head, team.rank(root))? {
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        if by_mpi(team, bytes) {
            places.push(apart.len());
            bufs.push((Buf::stale(bytes), root));
            apart.push(Buf::empty());
        } else {
            apart.push(chain(team, root, len).await?);
        }
    }
    if !bufs.is_empty() {
        dissemination(team).await?;
    }
    for (at, buf) in places.into_iter().zip(team.broadcast_by_mpi(bufs).await?) {
        apart[at] = buf;
    }
    // Only now, so that a value that does not decode here keeps nobody from the bytes.
    Head::<D>::decode(&head, team.rank(root))?.with(apart, team.rank(root))
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
