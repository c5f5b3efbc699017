//! The job master inside the launcher.

use super::watch::Happening;
use super::wire::Ended;
use aeolian_net::{Blame, exit};
use std::cell::RefCell;
use std::sync::mpsc::Sender;

/// PLACEHOLDER until the master is merged: judges by exit codes alone.
pub(crate) struct Boss {
    outcome: Sender<Happening>,
    state: RefCell<(Vec<(String, u32)>, usize, bool)>,
}

impl Boss {
    pub(crate) fn start(size: u32, outcome: Sender<Happening>) -> Boss {
        Boss { outcome, state: RefCell::new((vec![(String::new(), 0); size as usize], size as usize, false)) }
    }

    pub(crate) fn spawned(&self, rank: u32, host: &str, pid: u32) {
        self.state.borrow_mut().0[rank as usize] = (host.to_string(), pid);
    }

    pub(crate) fn exited(&self, rank: u32, ended: Ended) {
        let (host, pid) = self.state.borrow().0[rank as usize].clone();
        let mut blame = super::watch::blame(exit::RANK_LOST, String::new(), "");
        (blame.rank, blame.host, blame.pid, blame.phase) = (Some(rank), host, pid, "start-up".into());
        match ended {
            Ended::Code(0) => {
                self.state.borrow_mut().1 -= 1;
                if self.state.borrow().1 == 0 {
                    self.send(None);
                }
                return;
            }
            Ended::Code(code) => (blame.code, blame.cause) = (code as u8, format!("left with code {code}")),
            Ended::Signal(signal) => blame.cause = format!("killed by {}", super::signals::name(signal)),
        }
        self.fail(blame);
    }

    pub(crate) fn fail(&self, blame: Blame) {
        self.send(Some(Box::new(blame)));
    }

    fn send(&self, blame: Option<Box<Blame>>) {
        if !std::mem::replace(&mut self.state.borrow_mut().2, true) {
            self.outcome.send(Happening::Outcome(blame)).unwrap_or_default();
        }
    }

    pub(crate) fn stop(&self, _reason: &str) {}

    pub(crate) fn anyone_joined(&self) -> bool {
        false
    }
}
