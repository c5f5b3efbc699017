//! What the master knows of one rank.

use std::time::Duration;

use crate::control::protocol::{Card, Phase, Pulse};

/// How a rank's process ended, as its launcher saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankExit {
    /// It left with this code.
    Code(i32),
    /// A signal of this number killed it.
    Signal(i32),
}

/// Where a rank stands, for status displays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankStatus {
    /// It has not registered yet.
    Awaited,
    /// It is at work in user code.
    Computing,
    /// It is in an operation that may wait for others.
    Waiting,
    /// It has given no sign of life for half the hang time-out.
    Suspected,
    /// It said FINISHED.
    Finished,
    /// Its connection is closed and it had not finished.
    Gone,
}

/// One row of a status display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankView {
    /// The rank.
    pub rank: u32,
    /// Its host (empty: not known yet).
    pub host: String,
    /// Its process id (0: not known yet).
    pub pid: u32,
    /// Where it stands.
    pub status: RankStatus,
    /// What it is doing: `compute`, `allreduce #7`.
    pub phase: String,
    /// Time since its last sign of life.
    pub silent: Duration,
    /// Time since anything moved in it.
    pub unchanged: Duration,
    /// How its process ended, if it did and the launcher told.
    pub exit: Option<RankExit>,
}

/// One rank in the master's book.
#[derive(Debug, Default)]
pub(crate) struct Rank {
    pub(crate) card: Option<Card>,
    pub(crate) conn: Option<u64>,
    pub(crate) spawned: Option<(String, u32)>,
    pub(crate) exit: Option<RankExit>,
    /// When it last said anything.
    pub(crate) heard: Duration,
    pub(crate) pulse: Pulse,
    /// When its pulse last changed.
    pub(crate) changed: Duration,
    pub(crate) finished: bool,
    /// It has told of another rank's failure: its own end is a consequence.
    pub(crate) witness: bool,
    pub(crate) stops_asked: u32,
    pub(crate) stop_aware: Option<bool>,
    pub(crate) share: Option<Vec<u8>>,
}

impl Rank {
    pub(crate) fn registered(&self) -> bool {
        self.card.is_some()
    }

    pub(crate) fn host(&self) -> String {
        match (&self.card, &self.spawned) {
            (Some(card), _) => card.host.clone(),
            (None, Some((host, _))) => host.clone(),
            _ => String::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match (&self.card, &self.spawned) {
            (Some(card), _) => card.pid,
            (None, Some((_, pid))) => *pid,
            _ => 0,
        }
    }

    pub(crate) fn phase(&self, welcomed: bool) -> String {
        if self.finished {
            "finished".into()
        } else if !welcomed {
            "start-up".into()
        } else {
            self.pulse.describe()
        }
    }

    /// Takes a heartbeat.
    pub(crate) fn beat(&mut self, now: Duration, pulse: Pulse) {
        let (old, new) = (&self.pulse, &pulse);
        if (old.phase, &old.op, old.seq, old.progress) != (new.phase, &new.op, new.seq, new.progress) {
            self.changed = now;
        }
        self.pulse = pulse;
    }

    pub(crate) fn view(&self, rank: u32, now: Duration, hang: Duration, welcomed: bool) -> RankView {
        let silent = if self.registered() { now.saturating_sub(self.heard) } else { Duration::ZERO };
        let status = match () {
            () if self.finished => RankStatus::Finished,
            () if !self.registered() => RankStatus::Awaited,
            () if self.conn.is_none() => RankStatus::Gone,
            () if welcomed && silent >= hang / 2 => RankStatus::Suspected,
            () if self.pulse.phase == Phase::Waiting => RankStatus::Waiting,
            () => RankStatus::Computing,
        };
        RankView {
            rank,
            host: self.host(),
            pid: self.pid(),
            status,
            phase: self.phase(welcomed),
            silent,
            unchanged: now.saturating_sub(self.changed),
            exit: self.exit,
        }
    }
}
