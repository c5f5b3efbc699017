//! Events: messages beside the collectives, to one rank or all, that a rank looks for when it likes.

use crate::error::{HarpError, Result};
use aeolian_net::{Buf, Message, NetError, TrySendError, World};

/// Whom an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// One rank, which may be the sender.
    Rank(u32),
    /// All ranks but the sender.
    All,
}

/// Sends an event. `tag` is for the receiver to tell events apart; `body` may be empty.
///
/// Events from one rank to another arrive in the order in which they were sent; there is no order among those of different ranks, nor between events and
/// collectives. Those that nobody has looked for when the job ends are dropped. A receiver that never looks holds the sender up
/// once more than [`WINDOW`](aeolian_net::WINDOW) bytes wait for it.
///
/// ```
/// use aeolian_harp::{To, poll_event, send_event, wait_event};
/// use aeolian_net::Buf;
/// aeolian_net::World::local(3, |mut world| {
///     if world.rank() == 0 {
///         send_event(&mut world, To::All, 42, Buf::from_pod(&[2.5f64]))?;
///     } else {
///         let event = wait_event(&mut world)?;
///         assert_eq!((event.from, event.tag, event.body.cast::<f64>()[0]), (0, 42, 2.5));
///         assert!(poll_event(&mut world)?.is_none());
///     }
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn send_event(world: &mut World, to: To, tag: u64, body: Buf) -> Result<()> {
    let edge = world.event_edge();
    let me = world.rank();
    match to {
        To::Rank(rank) => Ok(world.send(edge, rank, tag, body)?),
        To::All => {
            for rank in (0..world.size()).filter(|&r| r != me) {
                world.send(edge, rank, tag, body.clone())?;
            }
            Ok(())
        }
    }
}

/// As [`send_event`] to one rank, but hands the body back if the receiver is behind: `Ok(Some(body))`.
pub fn try_send_event(world: &World, to: u32, tag: u64, body: Buf) -> Result<Option<Buf>> {
    match world.try_send(world.event_edge(), to, tag, body) {
        Ok(()) => Ok(None),
        Err(TrySendError::Full(body)) => Ok(Some(body)),
        Err(TrySendError::Failed(e)) => Err(e.into()),
    }
}

/// The oldest event that has come and was not looked at, if there is one. Moves messages once.
pub fn poll_event(world: &mut World) -> Result<Option<Message>> {
    world.progress()?;
    Ok(world.try_recv(world.event_edge())?)
}

/// Waits for an event.
///
/// # Errors
/// If the world has one rank and no event is there: only itself could send one.
pub fn wait_event(world: &mut World) -> Result<Message> {
    world.recv(world.event_edge()).map_err(|e| match e {
        NetError::Usage(what) => HarpError::Usage(what),
        e => e.into(),
    })
}
