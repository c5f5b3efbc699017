//! The main thread's side of the control connection.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::connect::{Pending, connect};
use super::protocol::{JobId, MAX_EXCHANGE, OpName, StopReason, ToMaster};
use super::shared::{Shared, locked};
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::secret::Secret;

static EXCHANGE: OpName = OpName("exchange");
static FINISH: OpName = OpName("finish");

/// How long [`Control::fail`] waits for the master's verdict (which may wait 1 s for a better explanation).
const VERDICT: Duration = Duration::from_millis(2500);

/// A registered rank's line to the job master.
///
/// Dropping it without [`Control::finish`] tells the master that this rank has left, which fails the job.
pub struct Control {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    exchanges: Mutex<u64>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("rank", &self.shared.rank).finish_non_exhaustive()
    }
}

impl Control {
    /// Connects to the master and proves the secret; both ends must mean the same job and epoch. Tries again, while
    /// nobody listens there, until `timeout`.
    ///
    /// # Errors
    /// [`NetError::TimedOut`] if the master cannot be reached, [`NetError::NotAllowed`] if the proof fails (seen at
    /// the latest after 8 s of being hung up on), [`NetError::Os`] if the address makes no sense.
    pub fn connect(
        addr: SocketAddr,
        secret: &Secret,
        job: JobId,
        epoch: u32,
        timeout: Duration,
    ) -> Result<Pending> {
        connect(addr, secret, job, epoch, timeout)
    }

    pub(super) fn new(shared: Arc<Shared>, thread: JoinHandle<()>) -> Self {
        Control { shared, thread: Mutex::new(Some(thread)), exchanges: Mutex::new(0) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// This rank's number.
    pub fn rank(&self) -> u32 {
        self.shared.rank
    }

    /// Says that the main thread is now in an operation that may wait for others, the `seq`-th of the program. A few
    /// plain stores.
    #[inline]
    pub fn enter(&self, op: &'static OpName, seq: u64) {
        self.shared.enter(op, seq);
    }

    /// Says that the main thread is back in user code.
    #[inline]
    pub fn leave(&self) {
        self.shared.leave();
    }

    /// Says that something has moved. Only the main thread may call it.
    #[inline]
    pub fn progressed(&self) {
        self.shared.progressed();
    }

    /// The cause, if the job has failed. One atomic load while it has not.
    #[inline]
    pub fn failure(&self) -> Option<&Blame> {
        self.shared.failure()
    }

    /// `Err` if the job has failed.
    ///
    /// # Errors
    /// [`NetError::JobFailed`].
    #[inline]
    pub fn check(&self) -> Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(blame) => Err(NetError::JobFailed(Box::new(blame.clone()))),
        }
    }

    /// Gives `bytes` to every rank and returns everyone's, in order of rank. All ranks must call it, as often and in
    /// the same order; nobody returns before all have called, so it is a barrier, too. For small things: at most 15
    /// MiB over all ranks.
    ///
    /// # Errors
    /// [`NetError::JobFailed`], [`NetError::TimedOut`] (the job cannot go on then), [`NetError::Usage`] if it is too
    /// long.
    pub fn exchange(&self, bytes: &[u8], timeout: Duration) -> Result<Vec<Vec<u8>>> {
        self.check()?;
        if bytes.len() + 8 > MAX_EXCHANGE {
            return Err(NetError::Usage(format!(
                "{} bytes to exchange through the job master: at most {MAX_EXCHANGE} over all ranks are possible",
                bytes.len()
            )));
        }
        let mut next = locked(&self.exchanges);
        let seq = *next;
        *next += 1;
        let outer = self.shared.place();
        if outer.is_none() {
            self.shared.enter(&EXCHANGE, seq);
        }
        self.shared.tell(ToMaster::Exchange { seq, bytes: bytes.to_vec() });
        let parts = self.shared.wait(timeout, |inbox| {
            inbox.exchanged.take_if(|exchanged| exchanged.0 == seq).map(|exchanged| exchanged.1)
        });
        if outer.is_none() {
            self.shared.leave();
        }
        self.shared.progressed();
        match parts {
            Some(parts) => Ok(parts),
            None => {
                self.check()?;
                Err(NetError::TimedOut {
                    what: format!("exchange #{seq} of all ranks through the job master"),
                    seconds: timeout.as_secs(),
                    help: "see what the other ranks are doing".into(),
                })
            }
        }
    }

    /// Says that this rank cannot go on (or has lost another one: code [`exit::RANK_LOST`] and that rank's number,
    /// which yields to first-hand knowledge for a second). Returns the official cause, which may be an earlier one;
    /// waits for it up to 2.5 s. Empty fields of a blamed rank are filled in by the master.
    pub fn fail(&self, blame: Blame) -> &Blame {
        if let Some(verdict) = self.failure() {
            return verdict;
        }
        self.shared.tell(ToMaster::Failed(blame.clone()));
        if self.shared.verdict(VERDICT).is_none() && !self.shared.finished() {
            return self.shared.fail_with(blame);
        }
        match self.failure() {
            Some(verdict) => verdict,
            None => self.shared.fail_with(blame),
        }
    }

    /// Whether the job has been asked to stop. A program that calls this (at any time, often) gets time to end in
    /// good order; one that never does is ended at once.
    #[inline]
    pub fn stop_requested(&self) -> bool {
        if !self.shared.aware.load(Ordering::Relaxed) {
            self.shared.aware.store(true, Ordering::Relaxed);
            if self.shared.stop.get().is_some() {
                let _ = rustix::io::write(&self.shared.wake_write, &[0]);
            }
        }
        self.shared.stop.get().is_some()
    }

    /// Why the job has been asked to stop, if it has. Does not count as asking.
    pub fn stop_reason(&self) -> Option<&StopReason> {
        self.shared.stop.get()
    }

    /// Sets what is called (from the control thread) when a failure or a stop request has come, so that a blocked main
    /// thread wakes up. Called at once if one has come already.
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send>) {
        let mut slot = locked(&self.shared.waker);
        if self.failure().is_some() || self.shared.stop.get().is_some() {
            waker();
        }
        *slot = Some(waker);
    }

    /// Says FINISHED and waits until every rank has said so, or the job has failed.
    ///
    /// # Errors
    /// [`NetError::JobFailed`].
    pub fn finish(self) -> Result<()> {
        self.check()?;
        self.shared.enter(&FINISH, 0);
        self.shared.tell(ToMaster::Finished);
        // The master watches the others, the control thread the master: this ends.
        while !self.shared.finished() && self.failure().is_none() {
            let ended = self.shared.wait(Duration::from_secs(1), |inbox| {
                (inbox.all_finished || inbox.thread_ended).then_some(inbox.thread_ended)
            });
            if ended == Some(true) {
                break;
            }
        }
        if self.shared.finished() {
            if let Some(thread) = locked(&self.thread).take() {
                let _ = thread.join();
            }
            return Ok(());
        }
        self.check()?;
        Err(NetError::Lost { peer: "the job master".into(), what: "the control thread has ended".into() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.shared.finished() && self.failure().is_none() {
            // The exit hook may add the code; the thread stays until the master has judged.
            self.shared.tell(ToMaster::Left { code: None });
        }
    }
}

const _: () = assert!(exit::RANK_LOST != 0);
