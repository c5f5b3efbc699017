//! Regroup: partitions to their ranks, where they are combined; inside each node first.
//!
//! Where nodes have as many ranks each, the ranks of a node first combine what is for the others: the `i`th of them what is for the `i`th of every node. Then the
//! `i`th of all nodes exchange it: of each partition one comes from a node, however many of its ranks have it.

use super::exchange::{exchange, in_team};
use super::levels::Level;
use super::team::Team;
use crate::call::Call;
use crate::collective::regroup::by_rank;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::node;
use crate::table::Table;

/// Each partition goes to rank `rank_of(id)`, and comes into its table.
pub(crate) async fn regroup<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    rank_of: impl Fn(u64) -> Result<u32>,
) -> Result<()> {
    let level = call.level().filter(|level| level.is_even() && level.orders(table.combiner()));
    let Some(level) = level else {
        let outgoing = by_rank::<D>(table.take(), call.size(), rank_of)?;
        for (parts, from) in exchange::<D>(call, outgoing).await?.into_iter().zip(0..) {
            table.combine_above(parts, from)?;
        }
        return Ok(());
    };
    let nodes = level.nodes();
    // Rank -> its place in its node.
    let mut places = vec![0; call.size() as usize];
    for (&rank, place) in nodes.ranks().iter().flat_map(|ranks| ranks.iter().zip(0..)) {
        places[rank as usize] = place;
    }
    in_node(level, table, |id| Ok(places[rank_of(id)? as usize])).await?;
    let node_of = &call.world().layout().node_of;
    let by_node =
        by_rank::<D>(table.take(), nodes.ranks().len() as u32, |id| Ok(node_of[rank_of(id)? as usize]))?;
    let place = level.node().rank() as usize;
    let alike: Vec<u32> = nodes.ranks().iter().map(|ranks| ranks[place]).collect();
    if let Some(team) = Team::of(call, alike) {
        for (parts, from) in in_team::<D>(&team, by_node).await?.into_iter().zip(0..) {
            table.combine_above(parts, team.rank(from))?;
        }
    }
    Ok(())
}

/// What is for the `i`th rank of any node comes together at the `i`th of this one.
async fn in_node<D: Data, C: Combiner<D::Unit>>(
    level: &Level,
    table: &mut Table<D, C>,
    place_of: impl Fn(u64) -> Result<u32>,
) -> Result<()> {
    let node = level.node();
    if node.near() {
        return level.lift(node::regrouped(node, table, place_of).await);
    }
    let inside = by_rank::<D>(table.take(), node.size(), place_of)?;
    let came = level.lift(in_team::<D>(&Team::all(node), inside).await)?;
    for (parts, from) in came.into_iter().zip(0..) {
        level.lift(table.combine_above(parts, from))?;
    }
    Ok(())
}
