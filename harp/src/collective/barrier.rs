//! Barrier.

use super::{Call, Op};
use crate::error::Result;
use aeolian_net::{Buf, World};

/// Returns on no rank before all ranks have called it.
///
/// Dissemination (Hensgen, Finkel, Manber 1988): `ceil(log2 n)` rounds of one empty message a rank.
///
/// ```
/// aeolian_net::World::local(3, |mut world| {
///     aeolian_harp::barrier(&mut world)?;
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn barrier(world: &mut World) -> Result<()> {
    let mut call = Call::new(world, Op::Barrier, 0);
    let (rank, size) = (call.rank(), call.size());
    let mut distance = 1;
    while distance < size {
        call.send((rank + distance) % size, Buf::empty())?;
        call.recv((rank + size - distance % size) % size)?;
        distance *= 2;
    }
    Ok(())
}
