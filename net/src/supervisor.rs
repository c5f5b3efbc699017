//! Who watches over a world: the job master for processes, a shared board for threads, nobody for a world of one (`alone`).

use crate::error::{ALL_WAIT, Blame, NetError, Result};
use crate::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The name of an operation that ranks carry out together, as reports show it.
#[derive(Debug, PartialEq, Eq)]
pub struct OpName(pub &'static str);

/// What the engine needs of whoever watches.
pub(crate) trait Supervisor: Send {
    /// This rank is now in operation `seq` of that name.
    fn enter(&self, op: &'static OpName, seq: u64);
    /// It is out of it again.
    fn leave(&self);
    /// Whether it sleeps until something arrives. (Inside an operation it may also compute: combine, encode.)
    fn waiting(&self, yes: bool);
    /// A message arrived or left: the job is alive.
    fn progressed(&self);
    /// The job's first failure, once there is one.
    fn failure(&self) -> Option<Blame>;
    /// This rank has failed.
    fn fail(&self, blame: Blame);
    /// This rank is done and has nothing more to send.
    fn say_finished(&self) -> Result<()>;
    /// All ranks said so.
    fn all_finished(&self) -> bool;
    /// Somebody asked the job to end in good order.
    fn stop_requested(&self) -> bool;
    /// Called about once a second by a rank that is blocked.
    fn blocked(&self) {}
}

#[derive(Default)]
struct Seat {
    op: Mutex<Option<(&'static OpName, u64)>>,
    waiting: AtomicBool,
    gone: AtomicBool,
}

/// What the threads of one [`World::local`](crate::World::local) share.
pub(crate) struct Board {
    seats: Vec<Seat>,
    failure: OnceLock<Blame>,
    moves: AtomicU64,
    finished: AtomicUsize,
    stuck: Mutex<(u64, Option<Instant>)>,
    hang: Duration,
    wake: Vec<crate::transport::LocalWaker>,
}

impl Board {
    pub(crate) fn new(wake: Vec<crate::transport::LocalWaker>, hang: Duration) -> Arc<Board> {
        Arc::new(Board {
            seats: wake.iter().map(|_| Seat::default()).collect(),
            failure: OnceLock::new(),
            moves: AtomicU64::new(0),
            finished: AtomicUsize::new(0),
            stuck: Mutex::new((0, None)),
            hang,
            wake,
        })
    }

    fn fail(&self, blame: Blame) {
        let _ = self.failure.set(blame);
        self.wake.iter().for_each(|w| w.wake());
    }

    /// A thread has ended; before it said FINISHED that is a failure of the job.
    pub(crate) fn left(&self, rank: u32, panic: Option<String>) {
        let seat = &self.seats[rank as usize];
        if !seat.gone.swap(true, Ordering::AcqRel) {
            let (code, cause) = match panic {
                Some(what) => (exit::PANICKED, format!("panicked: {what}")),
                None => (exit::LEFT_EARLY, "left without having said FINISHED".into()),
            };
            self.fail(Blame {
                code,
                rank: Some(rank),
                host: "this process".into(),
                pid: std::process::id(),
                phase: self.phase(rank),
                cause,
                remedy: String::new(),
            });
        }
    }

    fn phase(&self, rank: u32) -> String {
        match *self.seats[rank as usize].op.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((op, seq)) => format!("{} #{seq}", op.0),
            None => "compute".into(),
        }
    }
}

/// A thread's seat at the board.
pub(crate) struct Watched {
    pub(crate) rank: u32,
    pub(crate) board: Arc<Board>,
}

impl Supervisor for Watched {
    fn enter(&self, op: &'static OpName, seq: u64) {
        *self.seat().op.lock().unwrap_or_else(PoisonError::into_inner) = Some((op, seq));
    }

    fn waiting(&self, yes: bool) {
        self.seat().waiting.store(yes, Ordering::Release);
    }

    fn leave(&self) {
        *self.seat().op.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn progressed(&self) {
        self.board.moves.fetch_add(1, Ordering::Relaxed);
    }

    fn failure(&self) -> Option<Blame> {
        self.board.failure.get().cloned()
    }

    fn fail(&self, blame: Blame) {
        self.board.fail(blame);
    }

    fn say_finished(&self) -> Result<()> {
        if !self.seat().gone.swap(true, Ordering::AcqRel)
            && self.board.finished.fetch_add(1, Ordering::AcqRel) + 1 == self.board.seats.len()
        {
            self.board.wake.iter().for_each(|w| w.wake());
        }
        Ok(())
    }

    fn all_finished(&self) -> bool {
        self.board.finished.load(Ordering::Acquire) == self.board.seats.len()
    }

    fn stop_requested(&self) -> bool {
        false
    }

    /// All seats wait and nothing has moved for the hang time-out: nobody will ever come.
    fn blocked(&self) {
        let waiting = |s: &Seat| s.gone.load(Ordering::Acquire) || s.waiting.load(Ordering::Acquire);
        let moves = self.board.moves.load(Ordering::Relaxed);
        let mut stuck = self.board.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.board.seats.iter().all(waiting) || stuck.0 != moves {
            *stuck = (moves, None);
            return;
        }
        let since = *stuck.1.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.board.hang {
            let list: Vec<_> = (0..self.board.seats.len() as u32)
                .map(|r| {
                    let over = self.board.seats[r as usize].gone.load(Ordering::Acquire);
                    format!(
                        "rank {r} {}",
                        if over { "has finished".into() } else { format!("is in {}", self.board.phase(r)) }
                    )
                })
                .collect();
            self.board.fail(Blame {
                code: exit::MISMATCH,
                rank: None,
                host: String::new(),
                pid: 0,
                phase: String::new(),
                cause: format!("all ranks wait for one another: {}", list.join(", ")),
                remedy: ALL_WAIT.into(),
            });
        }
    }
}

impl Watched {
    fn seat(&self) -> &Seat {
        &self.board.seats[self.rank as usize]
    }
}

/// The error for a failed job.
pub(crate) fn failed(blame: Blame) -> NetError {
    NetError::JobFailed(Box::new(blame))
}
