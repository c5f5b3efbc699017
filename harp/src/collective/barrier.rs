//! Barrier.

use crate::brief::{self, Plan};
use crate::call::{Call, Op, Pending, starting};
use crate::error::Result;
use crate::far;
use crate::node::Shows;
use aeolian_net::World;

/// Returns on no rank before all ranks have called it.
///
/// Ranks that share memory look at each other's boards: one hand-over. Else dissemination (Hensgen, Finkel, Manber 1988): `ceil(log2 n)` rounds of one empty
/// message a rank; of nodes with several ranks one each does that, between two looks at the node's boards.
///
/// ```
/// aeolian_net::World::local(3, |mut world| {
///     aeolian_harp::barrier(&mut world)?;
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn barrier(world: &mut World) -> Result<()> {
    let plan = brief::plan::<(), _>(|world, ()| Some(Plan::of_others(0..world.size())));
    brief::blocking(
        world,
        Op::Barrier,
        0,
        &mut (),
        plan,
        |_, _, ()| Ok(true),
        async |call, ()| body(call).await,
    )
}

/// Starts a [`barrier`]: it is over once all ranks have started it.
///
/// ```
/// aeolian_net::World::local(3, |world| {
///     let all_here = aeolian_harp::ibarrier(&world)?;
///     // ... something else ...
///     all_here.wait()?;
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn ibarrier(world: &World) -> Result<Pending<()>> {
    starting(world, Op::Barrier, 0, body)
}

async fn body(call: &Call) -> Result<()> {
    if call.near() {
        let mut view = call.show(0, Shows::new).await?;
        return view.all().await;
    }
    far::barrier::barrier(call).await
}
