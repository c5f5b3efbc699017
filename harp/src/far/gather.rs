//! Gather: straight to the root; of nodes with several ranks, one message a node.

use super::team::Team;
use crate::call::Call;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::table::Table;

/// The root's table becomes the union of all, combined in the order of the ranks; the others become empty.
pub(crate) async fn gather<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let Some(level) = call.level().filter(|level| level.orders(table.combiner())) else {
        return straight(&Team::all(call), table, root).await;
    };
    level.gathered(table, level.head(Some(root))).await?;
    match Team::of(call, level.heads(Some(root))) {
        Some(team) => straight(&team, table, call.world().layout().node_of[root as usize]).await,
        None => Ok(()),
    }
}

/// Every one sends to the root, which combines them one by one in their order.
pub(crate) async fn straight<D: Data, C: Combiner<D::Unit>>(
    team: &Team<'_>,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    if team.me() != root {
        return team.send_parts::<D>(root, table.take()).await;
    }
    let mut mine = Some(table.take());
    for from in 0..team.size() {
        let parts = match mine.take_if(|_| from == root) {
            Some(own) => own,
            None => team.recv_parts::<D>(from).await?,
        };
        table.combine_above(parts, team.rank(from))?;
    }
    Ok(())
}
