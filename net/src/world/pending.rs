//! Operations under way: futures that the world's own calls move on, without an executor or a thread.

use super::World;
use super::core::Core;
use crate::error::{NetError, Result};
use crate::supervisor::OpName;
use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What was spawned: it puts its own outcome where its [`Pending`] finds it.
pub(super) type Task = Pin<Box<dyn Future<Output = Option<NetError>>>>;

type Slot<T, E> = Rc<RefCell<Option<Result<T, E>>>>;

/// An operation under way, as [`World::spawn`] returns it. Any call into the world moves it on; dropping this lets it end by
/// itself.
#[must_use = "an operation under way ends when it is waited for"]
pub struct Pending<T, E: Into<NetError> = NetError> {
    world: World,
    name: Option<(&'static OpName, u64)>,
    slot: Slot<T, E>,
}

impl<T, E: From<NetError> + Into<NetError>> Pending<T, E> {
    /// Moves messages, and tells whether the operation has ended, well or not.
    ///
    /// # Errors
    /// As [`World::progress`]: of the job, not of this operation.
    pub fn test(&self) -> Result<bool> {
        if self.is_done() {
            return Ok(true);
        }
        self.world.progress()?;
        Ok(self.is_done())
    }

    /// Whether it has ended, without moving anything.
    pub fn is_done(&self) -> bool {
        self.slot.borrow().is_some()
    }

    /// Waits until it has ended and returns what came of it.
    pub fn wait(mut self) -> Result<T, E> {
        if let Some((op, seq)) = self.name {
            self.world.enter(op, seq);
        }
        let slot = self.slot.clone();
        let waited = self.world.wait_until(|_| Ok(slot.borrow_mut().take()));
        if self.name.is_some() {
            self.world.leave();
        }
        waited?
    }
}

impl<T, E: Into<NetError>> Drop for Pending<T, E> {
    fn drop(&mut self) {
        // Nobody has heard of it: `finish` tells it.
        if let Some(Err(e)) = self.slot.borrow_mut().take() {
            self.world.core.borrow_mut().unheard.get_or_insert(e.into());
        }
    }
}

impl<T, E: Into<NetError>> std::fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.slot.borrow().is_some() { "ended" } else { "under way" };
        match self.name {
            Some((op, seq)) => write!(f, "Pending({} #{seq}, {state})", op.0),
            None => write!(f, "Pending({state})"),
        }
    }
}

impl World {
    /// Starts an operation that every later call into the world moves on: `future` is polled whenever messages are. It must
    /// return `Poll::Pending` instead of waiting, and use only the calls of the world that return at once (`try_...`), on a
    /// [handle](World::handle). `name` is what reports show while somebody waits for it.
    ///
    /// ```
    /// use aeolian_net::{Buf, NetError, World};
    /// use std::{future::poll_fn, task::Poll};
    /// World::local(2, |world| {
    ///     let (edge, peer) = (world.open_edge()?, 1 - world.rank());
    ///     let inner = world.handle();
    ///     let incoming = world.spawn(None, async move {
    ///         poll_fn(|_| match inner.try_recv_from(edge, peer) {
    ///             Ok(None) => Poll::Pending,
    ///             Ok(Some(message)) => Poll::Ready(Ok::<_, NetError>(message.tag)),
    ///             Err(e) => Poll::Ready(Err(e)),
    ///         })
    ///         .await
    ///     });
    ///     world.try_send(edge, peer, 7, Buf::empty()).map_err(|e| NetError::Usage(e.to_string()))?;
    ///     assert_eq!(incoming.wait()?, 7);
    ///     world.finish()
    /// })?;
    /// # Ok::<(), NetError>(())
    /// ```
    pub fn spawn<T: 'static, E: From<NetError> + Into<NetError> + 'static>(
        &self,
        name: Option<(&'static OpName, u64)>,
        future: impl Future<Output = Result<T, E>> + 'static,
    ) -> Pending<T, E> {
        let slot: Slot<T, E> = Rc::default();
        let mut future = Box::pin(future);
        // Most operations have something to send at once, small ones may end at once.
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => *slot.borrow_mut() = Some(outcome),
            Poll::Pending => {
                let there = slot.clone();
                let task = Box::pin(async move {
                    let outcome = future.await;
                    if Rc::strong_count(&there) > 1 {
                        *there.borrow_mut() = Some(outcome);
                        return None;
                    }
                    outcome.err().map(E::into)
                });
                self.core.borrow_mut().tasks.push(task);
            }
        }
        Pending { world: self.handle(), name, slot }
    }

    /// Polls `future` and moves messages, in turn, until it ends. As for [`World::spawn`], it must not wait inside.
    pub fn run<T, E: From<NetError>>(&mut self, future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        self.wait_until(|_| match future.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => Ok(Some(outcome)),
            Poll::Pending => Ok(None),
        })?
    }
}

/// Polls all that was spawned; true if something ended.
pub(super) fn poll_all(core: &RefCell<Core>) -> bool {
    // Out of the core, because a task borrows it.
    let mut tasks = std::mem::take(&mut core.borrow_mut().tasks);
    if tasks.is_empty() {
        return false;
    }
    let before = tasks.len();
    let mut context = Context::from_waker(Waker::noop());
    tasks.retain_mut(|task| match task.as_mut().poll(&mut context) {
        Poll::Pending => true,
        Poll::Ready(error) => {
            if let Some(e) = error {
                core.borrow_mut().unheard.get_or_insert(e);
            }
            false
        }
    });
    let ended = tasks.len() < before;
    let mut core = core.borrow_mut();
    // What was spawned meanwhile comes after.
    tasks.append(&mut core.tasks);
    core.tasks = tasks;
    ended
}
