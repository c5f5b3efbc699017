//! What all worlds of a rank share: the engine, whoever watches, and how to wait.

use super::group::{Calls, Edge, Layout};
use super::pending::Task;
use crate::control::Protection;
use crate::engine::{Engine, FIRST_EDGES, edge_number};
use crate::error::{Blame, NetError, Result};
use crate::exit;
use crate::master::Master;
use crate::mpi::Mpi;
use crate::shared::Boards;
use crate::supervisor::{OpName, Supervisor, failed};
use crate::transport::{Bell, Transport};
use crate::tuning::Values;
use crate::wait::WaitPolicy;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Shown for a rank that waits for a message outside of any named operation.
static WAIT: OpName = OpName("recv");

/// What a world is made of.
pub(crate) struct Parts {
    pub(crate) rank: u32,
    pub(crate) size: u32,
    pub(crate) wires: Vec<(Box<dyn Transport>, Vec<u32>)>,
    pub(crate) supervisor: Box<dyn Supervisor>,
    pub(crate) wake: Option<Bell>,
    pub(crate) layout: Layout,
    pub(crate) cores: usize,
}

pub(super) struct Core {
    pub(super) rank: u32,
    pub(super) size: u32,
    pub(super) engine: Engine,
    pub(super) supervisor: Box<dyn Supervisor>,
    wake: Option<Bell>,
    pub(super) layout: Layout,
    /// Of TCP between ranks.
    pub(super) protection: Protection,
    /// Numbers by which upper layers choose between algorithms.
    pub(super) tuned: Values,
    pub(super) policy: WaitPolicy,
    /// Hosted by rank 0 where `aeolian run` is not there to do it.
    pub(super) master: Option<Master>,
    /// Initialised, though it carries nothing: its launcher wants it finalized.
    pub(super) mpi: Option<Mpi>,
    /// Address of the `MPI_Comm` while an MPI is in use.
    pub(super) raw_communicator: Option<usize>,
    pub(super) finished: bool,
    /// The world that `init` made is gone.
    pub(super) left: bool,
    pub(super) next_context: u32,
    /// What was spawned and has not ended.
    pub(super) tasks: Vec<Task>,
    /// What went wrong in a spawned operation for which nobody waits any more.
    pub(super) unheard: Option<NetError>,
    /// The boards of all worlds, also of those that have ended here: other ranks may still look at them.
    pub(super) boards: Vec<Rc<RefCell<Option<Boards>>>>,
    /// inside `enter` and `leave`
    in_op: Option<(&'static OpName, u64)>,
    /// a wait outside of any operation has got a name
    named_wait: bool,
    /// the supervisor knows that this rank sleeps
    asleep: bool,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Core {
        let engine = Engine::new(parts.rank, parts.size, parts.wires);
        let mates = parts.layout.ranks_on(parts.layout.node_of[parts.rank as usize]).count();
        let mut core = Core {
            rank: parts.rank,
            size: parts.size,
            policy: WaitPolicy::new(mates, parts.cores, engine.polled()),
            engine,
            supervisor: parts.supervisor,
            wake: parts.wake,
            layout: parts.layout,
            protection: Protection::Checksummed,
            tuned: Values::new(),
            master: None,
            mpi: None,
            raw_communicator: None,
            finished: false,
            left: false,
            next_context: 0,
            tasks: Vec::new(),
            unheard: None,
            boards: Vec::new(),
            in_op: None,
            named_wait: false,
            asleep: false,
        };
        // Context 0 is the whole job's.
        let _ = core.open_context(0);
        core
    }

    /// A context of that number, with its first edges.
    pub(super) fn open_context(&mut self, context: u32) -> Result<u16> {
        if context < self.next_context {
            return Err(NetError::Usage(format!("context {context} was used before")));
        }
        let number = u16::try_from(context)
            .map_err(|_| NetError::Usage("more than 65536 worlds were made of one".into()))?;
        self.next_context = context + 1;
        for _ in 0..FIRST_EDGES {
            self.engine.open_edge(number)?;
        }
        Ok(number)
    }

    pub(super) fn call_edge(context: u16, calls: Calls) -> Edge {
        Edge(edge_number(context, calls as u16))
    }

    pub(super) fn event_edge(context: u16) -> Edge {
        Edge(edge_number(context, 1))
    }

    /// An error once the job has ended for this rank.
    pub(super) fn alive(&self) -> Result<()> {
        if self.left { Err(NetError::Usage("the world has ended".into())) } else { Ok(()) }
    }

    pub(super) fn progress(&mut self) -> Result<bool> {
        self.alive()?;
        if let Some(blame) = self.supervisor.failure() {
            return Err(failed(blame));
        }
        let moved = self.engine.progress().map_err(|e| self.sick(e))?;
        if moved {
            self.supervisor.progressed();
        }
        Ok(moved)
    }

    /// Sleeps until something may have happened; true if something has. A rank that goes on by itself when no more than `left` is over does not wait for
    /// the others.
    pub(super) fn sleep(&mut self, limit: Duration, left: Option<Duration>, idle: u32) -> Result<bool> {
        if self.in_op.is_none() && !self.named_wait {
            self.named_wait = true;
            self.supervisor.enter(&WAIT, 0);
        }
        self.asleep(left.is_none());
        if left.is_none() && (limit >= Duration::from_secs(1) || idle % 1024 == 1023) {
            self.supervisor.blocked();
        }
        let limit = left.map_or(limit, |left| left.min(limit));
        let (moved, woken) = self.engine.sleep(self.wake.as_ref(), limit).map_err(|e| self.sick(e))?;
        // Woken by what another rank shows, this one may have much to do without a message.
        if moved || woken {
            self.supervisor.progressed();
            self.asleep(false);
        }
        Ok(moved)
    }

    pub(super) fn asleep(&mut self, yes: bool) {
        if self.asleep != yes {
            self.asleep = yes;
            self.supervisor.waiting(yes);
        }
    }

    pub(super) fn stop_waiting(&mut self) {
        self.asleep(false);
        if self.named_wait {
            self.named_wait = false;
            self.supervisor.leave();
        }
    }

    pub(super) fn enter(&mut self, op: &'static OpName, seq: u64) {
        self.in_op = Some((op, seq));
        self.supervisor.enter(op, seq);
    }

    pub(super) fn leave(&mut self) {
        self.in_op = None;
        self.supervisor.leave();
    }

    fn phase(&self) -> String {
        match self.in_op {
            _ if self.finished => "finished".into(),
            Some((op, seq)) => format!("{} #{seq}", op.0),
            None => "compute".into(),
        }
    }

    pub(super) fn fail(&self, code: u8, cause: String, remedy: String) {
        self.supervisor.fail(Blame {
            code,
            rank: Some(self.rank),
            host: crate::node::host_name(),
            pid: std::process::id(),
            phase: self.phase(),
            cause,
            remedy,
        });
    }

    /// An error of the wires: the whole job learns of it.
    pub(super) fn sick(&self, error: NetError) -> NetError {
        if matches!(error, NetError::JobFailed(_) | NetError::Usage(_)) {
            return error;
        }
        match error.lost_rank().filter(|lost| *lost != self.rank && *lost < self.size) {
            // Who is to blame, if we are right; the job master may know better.
            Some(lost) => self.supervisor.fail(Blame {
                code: exit::RANK_LOST,
                rank: Some(lost),
                host: self.layout.hosts[self.layout.node_of[lost as usize] as usize].clone(),
                pid: 0,
                phase: String::new(),
                cause: error.to_string(),
                remedy: "look at the launcher's and the system's log of that host, and at the network between the hosts".into(),
            }),
            None => self.fail(error.exit_code(), error.to_string(), String::new()),
        }
        match self.supervisor.failure() {
            // The official cause is not our own trouble: it has been told, and decides the exit code.
            Some(blame) if blame.rank != Some(self.rank) => failed(blame),
            _ => error,
        }
    }

    /// All ranks have said FINISHED.
    pub(super) fn close(&mut self) -> Result<()> {
        while self.engine.progress()? {}
        if let Some(stray) = self.engine.stray() {
            return Err(NetError::Mismatch {
                rank: self.rank,
                ours: "its end".into(),
                peer: stray.from,
                theirs: format!("collective #{}, of which this rank never took a message", stray.tag >> 32),
            });
        }
        for boards in &self.boards {
            if let Some(odd) = boards.borrow().as_ref().and_then(Boards::uneven) {
                return Err(NetError::Mismatch {
                    rank: self.rank,
                    ours: odd.ours,
                    peer: odd.peer,
                    theirs: odd.theirs,
                });
            }
        }
        self.engine.close()?;
        if let Some(mpi) = &mut self.mpi {
            mpi.finalize()?;
        }
        Ok(())
    }
}
