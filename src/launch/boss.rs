//! The job master inside the launcher, and what it is told of ranks that never join.
//!
//! `aeolian run` also starts programs that do not use Aeolian. As long as no rank has joined, a rank that ends with 0
//! is no early leaver: if all end so, the job is done. As soon as one has joined, all must say FINISHED, and those that
//! left before are reported to the master after all.

use super::error::Result;
use super::watch::Happening;
use super::wire::Ended;
use aeolian_net::Blame;
use aeolian_net::control::protocol::StopReason;
use aeolian_net::master::{Master, MasterConfig, Outcome, RankExit};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// The job master's handle for the launcher's loop.
pub(crate) struct Boss {
    master: Arc<Master>,
    size: usize,
    tell: Sender<Happening>,
    /// Ranks that ended with 0 before anyone had joined.
    silent: RefCell<Vec<u32>>,
}

impl Boss {
    /// Starts the master; what it decides comes through `tell`.
    ///
    /// # Errors
    /// As [`Master::start`], or if no thread can be had.
    pub(crate) fn start(mut config: MasterConfig, tell: Sender<Happening>) -> Result<Boss> {
        let size = config.size as usize;
        // The cause is known before the ranks have gone: the launcher's grace for them begins with it.
        let cause = tell.clone();
        config.report = Box::new(move |blame| {
            cause.send(Happening::Outcome(Outcome::Failed(blame.clone()))).unwrap_or_default();
        });
        let master = Arc::new(Master::start(config)?);
        let (waiting, outcome) = (master.clone(), tell.clone());
        let wait = move || {
            let decided = loop {
                if let Some(decided) = waiting.wait(Duration::from_secs(3600)) {
                    break decided;
                }
            };
            outcome.send(Happening::Outcome(decided)).unwrap_or_default();
        };
        super::agent::thread("outcome".into(), wait)?;
        Ok(Boss { master, size, tell, silent: RefCell::default() })
    }

    /// Where ranks register.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.master.addr()
    }

    /// A rank was started.
    pub(crate) fn spawned(&self, rank: u32, host: &str, pid: u32) {
        self.master.spawned(rank, host, pid);
    }

    /// A rank's process ended.
    pub(crate) fn exited(&self, rank: u32, ended: Ended) {
        if self.anyone_joined() {
            self.tell_of_silent();
        } else if ended == Ended::Code(0) {
            let mut silent = self.silent.borrow_mut();
            silent.push(rank);
            if silent.len() == self.size {
                self.tell.send(Happening::Outcome(Outcome::Finished)).unwrap_or_default();
            }
            return;
        }
        self.master.rank_exited(
            rank,
            match ended {
                Ended::Code(code) => RankExit::Code(code),
                Ended::Signal(signal) => RankExit::Signal(signal),
            },
        );
    }

    /// True while somebody must call [`Boss::look_again`] now and then.
    pub(crate) fn has_silent(&self) -> bool {
        !self.silent.borrow().is_empty()
    }

    /// Tells the master of ranks that left silently if others have joined since.
    pub(crate) fn look_again(&self) {
        if self.anyone_joined() {
            self.tell_of_silent();
        }
    }

    fn tell_of_silent(&self) {
        for rank in self.silent.take() {
            self.master.rank_exited(rank, RankExit::Code(0));
        }
    }

    /// The job has failed for this reason.
    pub(crate) fn fail(&self, blame: Blame) {
        self.master.fail(blame);
    }

    /// The launcher got a signal that asks for an end.
    pub(crate) fn stop(&self, signal: i32) {
        self.master.stop(StopReason::signal(signal, "aeolian run"));
    }

    /// True once all ranks have said FINISHED.
    pub(crate) fn all_finished(&self) -> bool {
        self.master.all_finished()
    }

    /// True if any rank uses Aeolian and has come.
    pub(crate) fn anyone_joined(&self) -> bool {
        self.master.anyone_joined()
    }
}
