//! The job master's decisions, without input or output: events and the time go in, actions come out.
//!
//! The rules: success only when every rank said FINISHED; the first cause of a failure sticks; a rank whose connection
//! closes before is lost, but where the launcher watches the processes its word (signal, exit code) is waited for shortly;
//! what one rank says of another ("I lost rank 3") yields for a second to what is known first-hand; no heartbeat for the
//! hang time-out is a hang; if all ranks wait, all are alive, and nothing moves for that long, they wait for one another.

mod admit;
mod judge;

use crate::control::protocol::{Activity, Card, JobId, JobSettings, PROTOCOL, StopReason, ToMaster, ToRank};
use crate::error::Blame;
use crate::exit;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long what a rank says of another waits for first-hand knowledge of that one.
const HEARSAY: Duration = Duration::from_secs(1);

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SAME_VERSION: &str = "build the launcher and the program of all ranks with one version of Aeolian";

/// A connection, as the server numbers them.
pub type ConnId = u64;

/// How a rank's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankExit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// How the job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every rank said FINISHED.
    Finished,
    /// Every rank said FINISHED, before the end of its work: the job had been asked to stop.
    Stopped(StopReason),
    /// Every rank said FINISHED, and all ended with this code of the program's: it has told why itself.
    Ended(u8),
    /// This went wrong first.
    Failed(Blame),
}

/// What a rank looks like from here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RankView {
    /// Its rank.
    pub rank: u32,
    /// Its host, if known.
    pub host: String,
    /// Its process id, if known (else 0).
    pub pid: u32,
    /// What it does.
    pub phase: String,
    /// Milliseconds since it was last heard of.
    pub silent_ms: u64,
    /// Silent for more than half of the hang time-out.
    pub suspect: bool,
    /// It said FINISHED.
    pub finished: bool,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A proven connection says something.
    Message(ConnId, ToMaster),
    /// A connection is gone.
    Closed(ConnId),
    /// A proven connection's first message is none of this version's.
    Garbled {
        /// The connection.
        conn: ConnId,
        /// From which address.
        from: IpAddr,
    },
    /// The launcher started a process.
    Spawned {
        /// Its rank.
        rank: u32,
        /// Its host.
        host: String,
        /// Its process id.
        pid: u32,
    },
    /// The launcher saw a process end.
    Exited {
        /// Its rank.
        rank: u32,
        /// How.
        exit: RankExit,
    },
    /// Somebody asks the job to end in good order.
    StopAsked(StopReason),
    /// Somebody knows that the job has failed.
    Fail(Blame),
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send this.
    Send(ConnId, ToRank),
    /// Send this to each of them: it may be long (all cards of all ranks).
    SendAll(Vec<ConnId>, ToRank),
    /// Close this, after what is queued has gone.
    Close(ConnId),
    /// Tell the user.
    Report(Blame),
}

/// What the master knows from the start.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Ranks there are.
    pub size: u32,
    /// The job.
    pub job: JobId,
    /// Its incarnation.
    pub epoch: u32,
    /// What the ranks have in common.
    pub settings: JobSettings,
    /// From the first rank's registration to the last one's.
    pub start_timeout: Duration,
    /// A launcher watches the processes and will tell how each ended.
    pub exit_reports_expected: bool,
}

#[derive(Default)]
struct Rank {
    conn: Option<ConnId>,
    card: Option<Card>,
    host: String,
    pid: u32,
    heard: Option<Instant>,
    activity: Activity,
    finished: bool,
    closed: Option<Instant>,
    exit: Option<(RankExit, Instant)>,
    /// It has told of another rank's loss: its own end is a consequence.
    witness: bool,
}

impl Rank {
    fn phase(&self) -> String {
        match (self.finished, &self.card) {
            (true, _) => "finished".into(),
            (false, None) => "start-up".into(),
            (false, Some(_)) => self.activity.phase(),
        }
    }
}

/// The machine.
pub struct State {
    rules: Rules,
    ranks: Vec<Rank>,
    conns: HashMap<ConnId, u32>,
    first_registered: Option<Instant>,
    welcomed: bool,
    exchanges: BTreeMap<u64, HashMap<u32, Vec<u8>>>,
    stop: Option<StopReason>,
    /// The first word of a rank about another one, and when it becomes the verdict.
    hearsay: Option<(Instant, Blame)>,
    moved: (u64, Instant),
    ticked: Instant,
    all_finished: bool,
    outcome: Option<Outcome>,
}

/// `0-2, 5`.
fn list(ranks: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for r in ranks {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == r => *end = r,
            _ => runs.push((r, r)),
        }
    }
    let one = |&(a, b): &(u32, u32)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    runs.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl State {
    /// A job of which nothing is known yet.
    pub fn new(rules: Rules, now: Instant) -> State {
        let ranks = (0..rules.size).map(|_| Rank::default()).collect();
        State {
            rules,
            ranks,
            conns: HashMap::new(),
            first_registered: None,
            welcomed: false,
            exchanges: BTreeMap::new(),
            stop: None,
            hearsay: None,
            moved: (0, now),
            ticked: now,
            all_finished: false,
            outcome: None,
        }
    }

    /// How the job ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// True while registered ranks are still connected.
    pub fn anybody_connected(&self) -> bool {
        !self.conns.is_empty()
    }

    /// True once all ranks have said FINISHED.
    pub fn all_finished(&self) -> bool {
        self.all_finished
    }

    /// True once a rank has registered.
    pub fn anyone_joined(&self) -> bool {
        self.first_registered.is_some()
    }

    /// What is known of the ranks.
    pub fn snapshot(&self, now: Instant) -> Vec<RankView> {
        let half = self.rules.settings.hang_timeout / 2;
        self.ranks
            .iter()
            .zip(0..)
            .map(|(r, rank)| {
                let silent = r.heard.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
                RankView {
                    rank,
                    host: r.host.clone(),
                    pid: r.pid,
                    phase: r.phase(),
                    silent_ms: silent.as_millis() as u64,
                    suspect: !r.finished && silent > half,
                    finished: r.finished,
                }
            })
            .collect()
    }

    /// Takes an event.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Message(conn, message) => self.message(now, conn, message, &mut out),
            Event::Closed(conn) => {
                if let Some(rank) = self.conns.remove(&conn) {
                    self.ranks[rank as usize].conn = None;
                    self.ranks[rank as usize].closed = Some(now);
                    self.judge(now, rank, &mut out);
                }
            }
            Event::Garbled { conn, from } => {
                let cause = format!(
                    "a rank at {from} speaks another control protocol than the job master ({PROTOCOL}, Aeolian {VERSION}): its first message does not decode"
                );
                if !self.conns.contains_key(&conn) {
                    self.turn_down(conn, Blame::of_nobody(exit::PROTOCOL, cause, SAME_VERSION), &mut out);
                }
            }
            Event::Spawned { rank, host, pid } => {
                if let Some(r) = self.ranks.get_mut(rank as usize) {
                    (r.host, r.pid) = (host, pid);
                }
            }
            Event::Exited { rank, exit } => {
                if let Some(r) = self.ranks.get_mut(rank as usize) {
                    r.exit = Some((exit, now));
                    self.judge(now, rank, &mut out);
                }
            }
            Event::StopAsked(reason) => {
                if self.stop.is_none() {
                    self.stop = Some(reason.clone());
                    self.tell_all(ToRank::Stop(reason), &mut out);
                }
            }
            Event::Fail(blame) => self.fail(blame, &mut out),
        }
        out
    }

    fn message(&mut self, now: Instant, conn: ConnId, message: ToMaster, out: &mut Vec<Action>) {
        let Some(&rank) = self.conns.get(&conn) else {
            match message {
                ToMaster::Register { protocol, card } => self.register(now, conn, protocol, card, out),
                _ => {
                    out.push(Action::Send(conn, ToRank::Refused("register first".into())));
                    out.push(Action::Close(conn));
                }
            }
            return;
        };
        let size = self.rules.size;
        let r = &mut self.ranks[rank as usize];
        r.heard = Some(now);
        match message {
            ToMaster::Register { .. } => self.fail_rank(
                rank,
                exit::PROTOCOL,
                "registered twice".into(),
                "report this as a defect of Aeolian",
                out,
            ),
            ToMaster::Heartbeat(activity) => {
                r.activity = activity;
                out.push(Action::Send(conn, ToRank::Beat));
            }
            ToMaster::Failed(blame)
                if blame.code == exit::RANK_LOST
                    && blame.rank.is_some_and(|other| other != rank && other < size) =>
            {
                self.hear_of(now, rank, blame);
            }
            ToMaster::Failed(blame) => {
                // Who fails is known from the connection, not from what it says.
                let r = &self.ranks[rank as usize];
                self.fail(Blame { rank: Some(rank), host: r.host.clone(), pid: r.pid, ..blame }, out);
            }
            ToMaster::Left(code) => {
                if !r.finished {
                    self.left(rank, code, out);
                }
            }
            ToMaster::Finished => {
                r.finished = true;
                if self.ranks.iter().all(|r| r.finished) && !self.all_finished && self.outcome.is_none() {
                    self.all_finished = true;
                    self.tell_all(ToRank::AllFinished, out);
                    self.settle();
                }
            }
            ToMaster::Exchange { seq, bytes } => {
                let round = self.exchanges.entry(seq).or_default();
                round.insert(rank, bytes);
                if round.len() == self.ranks.len()
                    && let Some(mut round) = self.exchanges.remove(&seq)
                {
                    let all: Vec<_> =
                        (0..self.rules.size).map(|r| round.remove(&r).unwrap_or_default()).collect();
                    self.tell_all(ToRank::Exchanged { seq, all }, out);
                }
            }
            ToMaster::Signal(signal) => {
                let place = format!("rank {rank} on {} (pid {})", r.host, r.pid);
                out.extend(self.handle(now, Event::StopAsked(StopReason::signal(signal, &place))));
            }
        }
    }

    /// A rank says that it lost another one. That one's own words, its end as the launcher saw it, or its silence say more.
    fn hear_of(&mut self, now: Instant, witness: u32, blame: Blame) {
        let Some(lost) = blame.rank.and_then(|other| self.ranks.get(other as usize)) else { return };
        let host = &self.ranks[witness as usize].host;
        let blame = Blame {
            host: lost.host.clone(),
            pid: lost.pid,
            phase: lost.phase(),
            cause: format!("rank {witness} on {host} says: {}", blame.cause),
            ..blame
        };
        self.hearsay.get_or_insert((now + HEARSAY, blame));
        self.ranks[witness as usize].witness = true;
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        let hang = self.rules.settings.hang_timeout;
        let gap = now.saturating_duration_since(self.ticked);
        self.ticked = now;
        if gap > hang / 2 {
            // It was we who slept: judge nobody by that.
            self.ranks.iter_mut().filter(|r| r.heard.is_some()).for_each(|r| r.heard = Some(now));
            self.moved.1 = now;
        }
        for rank in 0..self.rules.size {
            self.judge(now, rank, &mut out);
        }
        // When all have said FINISHED, one that stands still may yet hold up the others' end (in MPI_Finalize, say).
        if matches!(self.outcome, Some(Outcome::Failed(_))) {
            return out;
        }
        if !self.all_finished
            && let Some((_, blame)) = self.hearsay.take_if(|(due, _)| now >= *due)
        {
            self.fail(blame, &mut out);
        }
        if !self.welcomed
            && let Some(first) = self.first_registered
            && now.saturating_duration_since(first) > self.rules.start_timeout
            // One that came and is gone again is judged by its end.
            && self.ranks.iter().any(|r| r.card.is_none())
        {
            let missing = self.ranks.iter().zip(0..).filter(|(r, _)| r.card.is_none());
            let hosts: Vec<_> =
                missing.clone().map(|(r, _)| r.host.clone()).filter(|h| !h.is_empty()).collect();
            let here = if hosts.is_empty() { String::new() } else { format!(" (on {})", hosts.join(", ")) };
            let cause = format!(
                "{} of {} ranks did not come within {} s: rank {}{here}",
                missing.clone().count(),
                self.rules.size,
                self.rules.start_timeout.as_secs(),
                list(missing.map(|m| m.1))
            );
            self.fail(
                Blame::of_nobody(
                    exit::NOT_ALL_CAME,
                    cause,
                    "see whether they run and reach this host over the network (--interface)",
                ),
                &mut out,
            );
        }
        if !self.welcomed {
            return out;
        }
        for rank in 0..self.rules.size {
            let r = &self.ranks[rank as usize];
            if let (Some(_), Some(heard)) = (r.conn, r.heard)
                && now.saturating_duration_since(heard) > hang
            {
                let cause = format!("gave no sign of life for {} s", hang.as_secs_f32());
                self.fail_rank(
                    rank,
                    exit::RANK_HUNG,
                    cause,
                    "it is stopped (SIGSTOP, debugger), swapped out, or its host or network is frozen; a slow site can set --hang-timeout",
                    &mut out,
                );
            }
        }
        if !self.all_finished {
            self.deadlock(now, hang, &mut out);
        }
        out
    }

    fn fail_rank(&mut self, rank: u32, code: u8, cause: String, remedy: &str, out: &mut Vec<Action>) {
        let r = &self.ranks[rank as usize];
        let blame = Blame {
            code,
            rank: Some(rank),
            host: r.host.clone(),
            pid: r.pid,
            phase: r.phase(),
            cause,
            remedy: remedy.into(),
        };
        self.fail(blame, out);
    }

    fn fail(&mut self, blame: Blame, out: &mut Vec<Action>) {
        // A failed job never ends with the code of success.
        let blame =
            Blame { code: if blame.code == exit::OK { exit::LEFT_EARLY } else { blame.code }, ..blame };
        // All may have said FINISHED, and then one ended badly after all.
        if !matches!(self.outcome, Some(Outcome::Failed(_))) {
            self.outcome = Some(Outcome::Failed(blame.clone()));
            out.push(Action::Report(blame.clone()));
            self.tell_all(ToRank::Abort(blame), out);
        }
    }

    fn tell_all(&self, message: ToRank, out: &mut Vec<Action>) {
        out.push(Action::SendAll(self.ranks.iter().filter_map(|r| r.conn).collect(), message));
    }
}

#[cfg(test)]
mod tests;
