//! Barrier: dissemination, node first.

use super::team::Team;
use crate::call::Call;
use crate::error::Result;
use crate::node::Shows;
use aeolian_net::Buf;

pub(crate) async fn barrier(call: &Call) -> Result<()> {
    let Some(level) = call.level() else { return dissemination(&Team::all(call)).await };
    level.lift(inside(level.node()).await)?;
    if let Some(team) = Team::of(call, level.heads(None)) {
        dissemination(&team).await?;
    }
    level.lift(inside(level.node()).await)
}

async fn inside(node: &Call) -> Result<()> {
    if node.near() {
        let mut view = node.show(0, Shows::new).await?;
        return view.all().await;
    }
    dissemination(&Team::all(node)).await
}

/// Nobody is through before all have come (Hensgen, Finkel, Manber 1988).
pub(super) async fn dissemination(team: &Team<'_>) -> Result<()> {
    let (me, size) = (team.me(), team.size());
    let mut distance = 1;
    while distance < size {
        team.send((me + distance) % size, Buf::empty()).await?;
        team.recv((me + size - distance) % size).await?;
        distance *= 2;
    }
    Ok(())
}
