//! What the main thread and the control thread of a rank share.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use super::protocol::{OpName, Phase, Pulse, StopReason, ToMaster};
use crate::error::{Blame, NetError, Result};

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came for the main thread.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) exchanged: Option<(u64, Vec<Vec<u8>>)>,
    pub(crate) all_finished: bool,
    pub(crate) thread_ended: bool,
}

pub(crate) struct Shared {
    pub(crate) rank: u32,
    op: AtomicPtr<OpName>,
    seq: AtomicU64,
    progress: AtomicU64,
    waiting: AtomicBool,
    failure: OnceLock<Blame>,
    /// Nobody has to wait any more for the failure to be printed.
    pub(crate) reported: AtomicBool,
    pub(crate) stop: OnceLock<StopReason>,
    pub(crate) aware: AtomicBool,
    queue: Mutex<Vec<ToMaster>>,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) changed: Condvar,
    pub(crate) waker: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// Bytes: 0 wakes the control thread, others are numbers of signals that came. Both ends live as long as this, so
    /// that a signal handler never writes into a closed or reused descriptor.
    pub(crate) wake_read: OwnedFd,
    pub(crate) wake_write: OwnedFd,
}

impl Shared {
    pub(crate) fn new(rank: u32) -> Result<Self> {
        let (wake_read, wake_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|error| NetError::Os { what: "making a pipe".into(), source: error.into() })?;
        Ok(Shared {
            rank,
            op: AtomicPtr::new(std::ptr::null_mut()),
            seq: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            failure: OnceLock::new(),
            reported: AtomicBool::new(false),
            stop: OnceLock::new(),
            aware: AtomicBool::new(false),
            queue: Mutex::new(Vec::new()),
            inbox: Mutex::new(Inbox::default()),
            changed: Condvar::new(),
            waker: Mutex::new(None),
            wake_read,
            wake_write,
        })
    }

    pub(crate) fn enter(&self, op: &'static OpName, seq: u64) {
        self.op.store(std::ptr::from_ref(op).cast_mut(), Ordering::Relaxed);
        self.seq.store(seq, Ordering::Relaxed);
        self.waiting.store(true, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    pub(crate) fn progressed(&self) {
        // One writer, the main thread: no locked instruction needed.
        self.progress.store(self.progress.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Where the main thread is, as [`Shared::enter`] takes it back.
    pub(crate) fn place(&self) -> Option<(&'static OpName, u64)> {
        let op = self.waiting.load(Ordering::Relaxed).then(|| self.op_name()).flatten()?;
        Some((op, self.seq.load(Ordering::Relaxed)))
    }

    fn op_name(&self) -> Option<&'static OpName> {
        // SAFETY: the pointer is null or was made from a `&'static OpName` in `enter`.
        unsafe { self.op.load(Ordering::Relaxed).cast_const().as_ref() }
    }

    pub(crate) fn pulse(&self) -> Pulse {
        let waiting = self.waiting.load(Ordering::Relaxed);
        Pulse {
            phase: if waiting { Phase::Waiting } else { Phase::Computing },
            op: self.op_name().map_or(String::new(), |op| op.0.into()),
            seq: self.seq.load(Ordering::Relaxed),
            progress: self.progress.load(Ordering::Relaxed),
            since_ms: 0,
        }
    }

    pub(crate) fn failure(&self) -> Option<&Blame> {
        self.failure.get()
    }

    /// Records the verdict (the first one stays) and wakes everyone who waits.
    pub(crate) fn fail_with(&self, blame: Blame) -> &Blame {
        let verdict = self.failure.get_or_init(|| blame);
        self.wake_main();
        verdict
    }

    pub(crate) fn wake_main(&self) {
        // The lock orders this after a waiter's look at the state and before its sleep.
        drop(locked(&self.inbox));
        self.changed.notify_all();
        if let Some(waker) = &*locked(&self.waker) {
            waker();
        }
    }

    /// Gives the control thread a message to send.
    pub(crate) fn tell(&self, message: ToMaster) {
        locked(&self.queue).push(message);
        let _ = rustix::io::write(&self.wake_write, &[0]);
    }

    pub(crate) fn take_queue(&self) -> Vec<ToMaster> {
        std::mem::take(&mut *locked(&self.queue))
    }

    pub(crate) fn finished(&self) -> bool {
        locked(&self.inbox).all_finished
    }

    /// Waits until `look` finds something, the job has failed, the thread has ended or the time is over.
    pub(crate) fn wait<T>(
        &self,
        timeout: Duration,
        mut look: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut inbox = locked(&self.inbox);
        loop {
            if let Some(found) = look(&mut inbox) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || inbox.thread_ended || self.failure().is_some() {
                return None;
            }
            inbox = self.changed.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the verdict on the job.
    pub(crate) fn verdict(&self, timeout: Duration) -> Option<&Blame> {
        self.wait(timeout, |_| None::<()>);
        self.failure()
    }
}
