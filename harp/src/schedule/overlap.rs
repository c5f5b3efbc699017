//! Computing while messages move.

use super::task::{TaskError, Work, guarded, lock};
use crate::error::{HarpError, Result};
use aeolian_net::{NetError, World};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Looks for messages that find none, before this thread naps between them.
const EAGER: u32 = 64;
const SHORTEST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// Runs `compute` on another thread while this one moves the world's messages: those of collectives under way, such as the rotations of a
/// [`Rotator`](crate::schedule::Rotator), which stand still while a rank computes on the thread that has the world.
///
/// `compute` may start as many threads as it likes: the schedulers of this module do. This thread naps where there is nothing to
/// move, a millisecond at most: it costs about a hundredth of a core beside them, and what the copying of messages takes.
///
/// # Errors
/// That of `compute`; [`HarpError::Panicked`] if it panics; that of the world if the job has failed, once `compute` has ended.
///
/// ```
/// use aeolian_harp::{Sum, Table, iallreduce, schedule::overlap};
/// aeolian_net::World::local(2, |mut world| {
///     let mut table = Table::<u64, Sum>::new(Sum);
///     table.add(0, vec![1; 1000])?;
///     let pending = iallreduce(&world, table)?;
///     let sum = overlap(&mut world, || Ok((0..1_000_000u64).sum::<u64>()))?;
///     assert_eq!(sum, 499_999_500_000);
///     assert_eq!(pending.wait()?.get(0).unwrap()[0], 2);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn overlap<T: Send>(
    world: &mut World,
    compute: impl FnOnce() -> Result<T, TaskError> + Send,
) -> Result<T> {
    let (outcome, ended) = (Mutex::new(None), Condvar::new());
    std::thread::scope(|scope| {
        let run = || {
            let result = guarded(Work::Compute, compute);
            *lock(&outcome) = Some(result);
            ended.notify_all();
        };
        Builder::new()
            .name("compute".into())
            .spawn_scoped(scope, run)
            .map_err(NetError::os("cannot start a thread"))?;
        let failed = drive(
            world,
            || lock(&outcome).is_some(),
            |nap| {
                let guard = lock(&outcome);
                if guard.is_none() {
                    drop(ended.wait_timeout(guard, nap).unwrap_or_else(PoisonError::into_inner));
                }
            },
        );
        // The world has nothing to say any more, but `compute` may hold references to what the caller has.
        let mut guard = lock(&outcome);
        loop {
            if let Some(result) = guard.take() {
                // A failed job is the cause of whatever else went wrong.
                return failed.and(result);
            }
            guard = super::task::wait(&ended, guard);
        }
    })
}

/// Moves messages until `over`, or the job fails.
fn drive(world: &World, over: impl Fn() -> bool, nap: impl Fn(Duration)) -> Result<(), HarpError> {
    let (mut idle, mut length) = (0, SHORTEST_NAP);
    while !over() {
        if world.progress()? {
            (idle, length) = (0, SHORTEST_NAP);
        } else if idle < EAGER {
            idle += 1;
            std::thread::yield_now();
        } else {
            nap(length);
            length = (length * 2).min(LONGEST_NAP);
        }
    }
    Ok(())
}
