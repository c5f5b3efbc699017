//! Regroup: partitions to their ranks, where they are combined; inside each node first.
//!
//! Where nodes have as many ranks each, the ranks of a node first combine what is for the others: the `i`th of them what is for the `i`th of every node. Then the
//! `i`th of all nodes exchange it: of each partition one comes from a node, however many of its ranks have it.

use super::exchange::{exchange, in_team};
use super::levels::Level;
use super::team::Team;
use crate::call::Call;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::node;
use crate::table::{Parts, Table};

/// Each partition, of which `outgoing` has a list for each rank, goes to rank `rank_of(id)`, and comes into its table.
pub(crate) async fn regroup<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    outgoing: Vec<Parts<D>>,
    rank_of: impl Fn(u64) -> Result<u32>,
) -> Result<()> {
    let level = call.level().filter(|level| level.is_even() && level.orders(table.combiner()));
    let Some(level) = level else {
        for (parts, from) in exchange::<D>(call, outgoing).await?.into_iter().zip(0..) {
            table.combine_above(parts, from)?;
        }
        return Ok(());
    };
    in_node(level, table, outgoing).await?;
    let (nodes, node_of) = (level.nodes(), &call.world().layout().node_of);
    let mut by_node: Vec<Parts<D>> = nodes.ranks().iter().map(|_| Vec::new()).collect();
    for (id, part) in table.take() {
        by_node[node_of[rank_of(id)? as usize] as usize].push((id, part));
    }
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
    mut outgoing: Vec<Parts<D>>,
) -> Result<()> {
    let node = level.node();
    let mut inside: Vec<Parts<D>> = (0..node.size()).map(|_| Vec::new()).collect();
    for ranks in level.nodes().ranks() {
        for (&rank, place) in ranks.iter().zip(&mut inside) {
            place.append(&mut outgoing[rank as usize]);
        }
    }
    inside.iter_mut().for_each(|parts| parts.sort_by_key(|(id, _)| *id));
    if node.near() {
        return level.lift(node::regrouped(node, table, inside).await);
    }
    let came = level.lift(in_team::<D>(&Team::all(node), inside).await)?;
    for (parts, from) in came.into_iter().zip(0..) {
        level.lift(table.combine_above(parts, from))?;
    }
    Ok(())
}
