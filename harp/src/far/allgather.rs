//! Allgather: Bruck for short tables, a ring for long ones; node first.
//!
//! Bruck's algorithm (Bruck, Ho, Kipnis, Upfal, Weathersby 1997) brings the short tables of all to all in `ceil(log2 n)` rounds, and of the long ones the word
//! that they are long. So all know which tables follow around the ring (Thakur, Rabenseifner, Gropp 2005), where each goes to the next as it came. If all
//! ranks of a job talk by Open MPI, and none has many partitions, its own broadcasts bring the long ones, from where they lie to where they will.

use super::broadcast::lending;
use super::team::Team;
use crate::call::Call;
use crate::codec::{self, Encoded, Head, Long, encode_lying};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::join::both;
use crate::table::Table;
use aeolian_net::Buf;
use aeolian_net::mpi::Flavor;

/// Every table becomes the union of all, combined in the order of the ranks.
pub(crate) async fn allgather<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
) -> Result<()> {
    let Some(level) = call.level().filter(|level| level.orders(table.combiner())) else {
        return in_team(&Team::all(call), table).await;
    };
    level.gathered(table, 0).await?;
    if let Some(team) = Team::of(call, level.heads(None)) {
        in_team(&team, table).await?;
    }
    level.spread(table, 0).await
}

async fn in_team<D: Data, C: Combiner<D::Unit>>(team: &Team<'_>, table: &mut Table<D, C>) -> Result<()> {
    let (me, size) = (team.me(), team.size());
    let (head, long) = encode_lying::<D>(table.iter())?;
    // One broadcast from each: in Open MPI that is faster than a ring, in MPICH it is slower (`docs/src/measurements.md`).
    let broadcasts = team.mpi() == Some(Flavor::OpenMpi);
    let known = head.len() <= team.choice().eager && (long.is_empty() || broadcasts);
    let blocks = bruck(team, known.then_some(&head[..])).await?;
    // Block `i` is that of the `i`th after this one. All see the same blocks, so all make the same of them.
    let after = |place: u32| ((place + size - me) % size) as usize;
    let mut lens = Vec::with_capacity(blocks.len());
    for (head, step) in blocks.iter().zip(0..size) {
        let rank = team.rank((me + step) % size);
        lens.push(head.as_ref().map(|head| codec::apart(head, rank)).transpose()?);
    }
    let by_mpi = broadcasts && lens.iter().all(Option::is_some);
    let around = |place: u32| lens[after(place)].as_ref().is_none_or(|lens| !by_mpi && !lens.is_empty());
    let mut all: Vec<Option<_>> = (0..size).map(|_| None).collect();
    let (mut passing, mut bufs, mut lent) = (None, Vec::new(), Vec::new());
    if around(me) {
        passing = Some(Encoded { head, apart: long.into_iter().map(|(_, long)| long.into_buf()).collect() });
    } else if by_mpi {
        let mut own = Some(long);
        for place in 0..size {
            // As many of this member's as its head says.
            for (id, long) in own.take_if(|_| place == me).into_iter().flatten() {
                let buf = match long {
                    Long::Made(buf) => buf,
                    Long::Lies(_) => {
                        lent.push((id, bufs.len()));
                        Buf::empty()
                    }
                };
                bufs.push((buf, place));
            }
            for &len in lens[after(place)].iter().flatten().filter(|_| place != me) {
                bufs.push((Buf::stale(usize::try_from(len).unwrap_or(usize::MAX)), place));
            }
        }
    }
    for round in 1..size {
        let of = |round: u32| (me + size - round % size) % size;
        let (gone, come) = (of(round - 1), of(round));
        let send = async {
            match passing.take().filter(|_| around(gone)) {
                Some(encoded) => team.send_encoded((me + 1) % size, encoded).await,
                None => Ok(()),
            }
        };
        let receive = async {
            match around(come) {
                true => team.recv_encoded((me + size - 1) % size).await.map(Some),
                false => Ok(None),
            }
        };
        let ((), came) = both(send, receive).await?;
        if let Some(came) = came {
            passing =
                (round + 1 < size).then(|| Encoded { head: came.head.clone(), apart: came.apart.clone() });
            let from = team.rank(come);
            all[come as usize] = Some(Head::<D>::decode(&came.head, from)?.with(came.apart, from)?);
        }
    }
    let mut long = lending(team, table, bufs, lent).await?.into_iter();
    for (place, lens) in (0..size).map(|place| (place, &lens[after(place)])) {
        let apart = long.by_ref().take(lens.iter().flatten().filter(|_| by_mpi).count()).collect();
        if let (Some(head), false) = (&blocks[after(place)], place == me || around(place)) {
            let from = team.rank(place);
            all[place as usize] = Some(Head::<D>::decode(head, from)?.with(apart, from)?);
        }
    }
    all[me as usize] = Some(table.take());
    for (parts, place) in all.into_iter().zip(0..) {
        table.combine_above(parts.unwrap_or_default(), team.rank(place))?;
    }
    Ok(())
}

/// The block of each, from this one on around to the one before it; without bytes those that were given none.
async fn bruck(team: &Team<'_>, mine: Option<&[u8]>) -> Result<Vec<Option<Vec<u8>>>> {
    let (me, size) = (team.me(), team.size());
    let mut blocks = vec![mine.map(<[u8]>::to_vec)];
    let mut distance = 1;
    while distance < size {
        let count = distance.min(size - distance) as usize;
        let (to, from) = ((me + size - distance) % size, (me + distance) % size);
        let ((), came) = both(team.send(to, written(&blocks[..count])), team.recv(from)).await?;
        let Some(came) = read(&came, count) else {
            return Err(team.broken(from, "not the blocks that were due"));
        };
        blocks.extend(came);
        distance *= 2;
    }
    Ok(blocks)
}

/// The length that says that there are no bytes.
const NONE: u64 = u64::MAX;

fn written(blocks: &[Option<Vec<u8>>]) -> Buf {
    let mut bytes = Vec::new();
    for block in blocks {
        let len = block.as_ref().map_or(NONE, |b| b.len() as u64);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(block.as_deref().unwrap_or_default());
    }
    Buf::from_slice(&bytes)
}

fn read(mut bytes: &[u8], count: usize) -> Option<Vec<Option<Vec<u8>>>> {
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, rest) = bytes.split_first_chunk()?;
        let len = u64::from_le_bytes(*len);
        bytes = rest;
        if len == NONE {
            blocks.push(None);
            continue;
        }
        let (block, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
        blocks.push(Some(block.to_vec()));
        bytes = rest;
    }
    bytes.is_empty().then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_they_were_written_and_nothing_else_is() {
        let blocks = vec![Some(vec![1, 2, 3]), None, Some(vec![]), Some(vec![9; 100])];
        let bytes = written(&blocks);
        assert_eq!(read(&bytes, 4), Some(blocks));
        assert_eq!(read(&bytes, 3), None);
        assert_eq!(read(&bytes, 5), None);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end], 4), None, "{end} bytes of it");
        }
    }
}
