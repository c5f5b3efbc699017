//! Allreduce of long arrays: each one combines a share of the elements, then all get all shares.
//!
//! By halving (Rabenseifner 2004): neighbours exchange halves, then pairs of neighbours exchange quarters, and so on, which keeps the order of the ranks; then the
//! same way back. Or around a ring, for any number of members alike, where the order does not matter.

use super::flat::{Arriving, Flat};
use super::team::Team;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;

/// All become the combination of all, element by element in the order of the ranks.
pub(crate) async fn allreduce<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    flat: &mut Flat<D>,
    combiner: &C,
) -> Result<()> {
    let size = team.size();
    let long = flat.bytes() / size as usize >= team.choice().ring_share;
    match !size.is_power_of_two() && combiner.law().commutative && long {
        true => ring(team, flat, combiner).await,
        false => halving(team, flat, combiner).await,
    }
}

async fn ring<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    flat: &mut Flat<D>,
    combiner: &C,
) -> Result<()> {
    let (me, size, len) = (team.me(), team.size(), flat.len());
    let (next, before) = ((me + 1) % size, (me + size - 1) % size);
    let share = |place: u32| {
        let (place, size) = ((place % size) as usize, size as usize);
        len * place / size..len * (place + 1) / size
    };
    for step in 0..size - 1 {
        let (out, come) = (share(me + size - step), share(me + 2 * size - step - 1));
        flat.swap(team, (next, out), (before, come), Arriving::Above, combiner).await?;
    }
    for step in 0..size - 1 {
        let (out, come) = (share(me + 1 + size - step), share(me + size - step));
        flat.swap(team, (next, out), (before, come), Arriving::Replace, combiner).await?;
    }
    Ok(())
}

async fn halving<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    flat: &mut Flat<D>,
    combiner: &C,
) -> Result<()> {
    let (me, size, len) = (team.me(), team.size(), flat.len());
    let power = 1 << size.ilog2();
    let extra = size - power;
    // The first 2 * extra fold pairwise, so that neighbours stay neighbours and the order is kept.
    let place = if me < 2 * extra {
        if me % 2 == 1 {
            let (all, none) = ((me - 1, 0..len), (me - 1, 0..0));
            flat.swap(team, all.clone(), none.clone(), Arriving::Replace, combiner).await?;
            return flat.swap(team, none, all, Arriving::Replace, combiner).await;
        }
        flat.swap(team, (me + 1, 0..0), (me + 1, 0..len), Arriving::Above, combiner).await?;
        me / 2
    } else {
        me - extra
    };
    let at = |place: u32| if place < extra { 2 * place } else { place + extra };
    let mut mine = 0..len;
    let mut halves = Vec::new();
    let mut step = 1;
    while step < power {
        let peer = at(place ^ step);
        let middle = mine.start + (mine.end - mine.start) / 2;
        let (low, high) = (mine.start..middle, middle..mine.end);
        let (keep, give, how) = match place & step == 0 {
            true => (low, high, Arriving::Above),
            false => (high, low, Arriving::Below),
        };
        flat.swap(team, (peer, give.clone()), (peer, keep.clone()), how, combiner).await?;
        halves.push((peer, keep.clone(), give));
        mine = keep;
        step *= 2;
    }
    while let Some((peer, keep, give)) = halves.pop() {
        flat.swap(team, (peer, keep), (peer, give), Arriving::Replace, combiner).await?;
    }
    if me < 2 * extra {
        flat.swap(team, (me + 1, 0..len), (me + 1, 0..0), Arriving::Replace, combiner).await?;
    }
    Ok(())
}
