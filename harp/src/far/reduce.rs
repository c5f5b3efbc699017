//! Reduce: a binomial tree, node first.

use super::{gather, team::Team};
use crate::call::Call;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::table::Table;

/// The root's table becomes the combination of all in the order of the ranks; the others become empty.
pub(crate) async fn reduce<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    if !table.combiner().law().associative {
        return gather::straight(&Team::all(call), table, root).await;
    }
    let Some(level) = call.level().filter(|level| level.orders(table.combiner())) else {
        return binomial(&Team::all(call), table, root).await;
    };
    level.reduced(table, level.head(Some(root))).await?;
    match Team::of(call, level.heads(Some(root))) {
        Some(team) => binomial(&team, table, call.world().layout().node_of[root as usize]).await,
        None => Ok(()),
    }
}

/// Along a binomial tree to the first, which keeps the order, and from there to the root.
///
/// Where the order does not matter, the tree has its root there.
pub(crate) async fn binomial<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let size = team.size();
    let top = if table.combiner().law().commutative { root } else { 0 };
    let place = (team.me() + size - top) % size;
    let at = |place: u32| (place + top) % size;
    let mut step = 1;
    while step < size {
        if place & step != 0 {
            team.send_parts::<D>(at(place - step), table.take()).await?;
            break;
        }
        if place + step < size {
            let from = at(place + step);
            let higher = team.recv_parts::<D>(from).await?;
            table.check(higher.iter().map(|(id, part)| (*id, part)))?;
            table.combine_above(higher, team.rank(from))?;
        }
        step *= 2;
    }
    if root != top {
        if team.me() == top {
            team.send_parts::<D>(root, table.take()).await?;
        } else if team.me() == root {
            let all = team.recv_parts::<D>(top).await?;
            table.combine_above(all, team.rank(top))?;
        }
    }
    Ok(())
}
