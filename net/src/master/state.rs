//! The job master's decisions, without input or output: events and the time go in, actions come out.
//!
//! The rules: success only when every rank said FINISHED; the first cause of a failure sticks; a rank whose connection
//! closes before is lost, but where the launcher watches the processes its word (signal, exit code) is waited for shortly;
//! what one rank says of another ("I lost rank 3") yields for a second to what is known first-hand; no heartbeat for the
//! hang time-out is a hang; if all ranks wait, all are alive, and nothing moves for that long, they wait for one another.

use crate::control::protocol::{
    Activity, Card, JobId, JobInfo, JobSettings, PROTOCOL, StopReason, ToMaster, ToRank, signal_name,
};
use crate::error::Blame;
use crate::exit;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long the launcher's word about an ended process is waited for (on busy cores it is not at once).
const EXIT_REPORT: Duration = Duration::from_secs(2);
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

fn signal_remedy(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => {
            "if nobody killed it by hand, the memory limit was reached: give more memory or use more nodes"
        }
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE => {
            "a fault in native code of the program: look at its core dump, or run it under a debugger"
        }
        libc::SIGABRT => {
            "the program aborted (a panic with panic=abort, or a failed allocation): see its output above"
        }
        _ => "find out who sent that signal",
    }
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
                    self.tell_all(&ToRank::Stop(reason), &mut out);
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
                    self.tell_all(&ToRank::AllFinished, out);
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
                    self.tell_all(&ToRank::Exchanged { seq, all }, out);
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

    /// Somebody of this job, for whom it has no place as he is: the job cannot be complete, and all learn at once why.
    fn turn_down(&mut self, conn: ConnId, blame: Blame, out: &mut Vec<Action>) {
        if self.welcomed {
            // All are here: one too many harms nobody.
            out.push(Action::Send(conn, ToRank::Refused(blame.cause)));
        } else {
            out.push(Action::Send(conn, ToRank::Abort(blame.clone())));
            self.fail(blame, out);
        }
        out.push(Action::Close(conn));
    }

    fn register(&mut self, now: Instant, conn: ConnId, protocol: u32, card: Card, out: &mut Vec<Action>) {
        let refuse = |reason: String, out: &mut Vec<Action>| {
            out.push(Action::Send(conn, ToRank::Refused(reason)));
            out.push(Action::Close(conn));
        };
        if let Some(Outcome::Failed(blame)) = &self.outcome {
            out.push(Action::Send(conn, ToRank::Abort(blame.clone())));
            out.push(Action::Close(conn));
            return;
        }
        if protocol != PROTOCOL {
            let cause = format!(
                "rank {} on {} speaks control protocol {protocol} (Aeolian {}), the job master {PROTOCOL} (Aeolian {VERSION})",
                card.rank, card.host, card.version,
            );
            return self.turn_down(conn, of_card(&card, exit::PROTOCOL, cause, SAME_VERSION), out);
        }
        if card.size != self.rules.size {
            let cause = format!(
                "rank {} on {} was told that there are {} ranks, the job master that there are {}",
                card.rank, card.host, card.size, self.rules.size
            );
            let remedy = "let one launcher start all ranks, with an environment that nobody edited";
            return self.turn_down(conn, of_card(&card, exit::CONFIG, cause, remedy), out);
        }
        if card.rank >= self.rules.size {
            let size = self.rules.size;
            return refuse(format!("rank {} of {size} wants to join a job of {size} ranks", card.rank), out);
        }
        if let Some(first) = self.ranks.iter().find_map(|r| r.card.as_ref())
            && first.exe != card.exe
        {
            let cause = format!(
                "rank {} on {} runs another program (Aeolian {}, hash {}) than rank {} on {} (Aeolian {}, hash {})",
                card.rank,
                card.host,
                card.version,
                hash(&card.exe),
                first.rank,
                first.host,
                first.version,
                hash(&first.exe)
            );
            let remedy =
                "all ranks must run the same binary: copy it to every host or put it on a shared file system";
            return self.turn_down(conn, of_card(&card, exit::PROTOCOL, cause, remedy), out);
        }
        let r = &mut self.ranks[card.rank as usize];
        if let Some(there) = &r.card {
            let text = format!(
                "rank {} is there already (pid {} on {}): a second one came from pid {} on {}",
                card.rank, there.pid, there.host, card.pid, card.host
            );
            return refuse(text, out);
        }
        (r.host, r.pid) = (card.host.clone(), card.pid);
        r.conn = Some(conn);
        r.heard = Some(now);
        self.conns.insert(conn, card.rank);
        r.card = Some(card);
        self.first_registered.get_or_insert(now);
        if let Some(reason) = &self.stop {
            out.push(Action::Send(conn, ToRank::Stop(reason.clone())));
        }
        let cards: Option<Vec<Card>> = self.ranks.iter().map(|r| r.card.clone()).collect();
        if let Some(cards) = cards {
            self.welcomed = true;
            self.moved.1 = now;
            self.ranks.iter_mut().for_each(|r| r.heard = Some(now));
            let info = JobInfo {
                job: self.rules.job,
                epoch: self.rules.epoch,
                cards,
                settings: self.rules.settings,
            };
            self.tell_all(&ToRank::Welcome(info), out);
        } else {
            self.mixed(now, out);
        }
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

    fn deadlock(&mut self, now: Instant, hang: Duration, out: &mut Vec<Action>) {
        let moves = self.ranks.iter().fold(0u64, |sum, r| sum.wrapping_add(r.activity.progress));
        let waiting = |r: &Rank| r.finished || r.activity.waiting;
        // One that may be stopped is no proof that all wait: it will be heard, or it is hung.
        let silent = |r: &Rank| {
            r.conn.is_some() && r.heard.is_some_and(|at| now.saturating_duration_since(at) > hang / 2)
        };
        if self.outcome.is_some() || moves != self.moved.0 || !self.ranks.iter().all(waiting) {
            self.moved = (moves, now);
        } else if now.saturating_duration_since(self.moved.1) > hang && !self.ranks.iter().any(silent) {
            let mut groups: BTreeMap<String, Vec<u32>> = BTreeMap::new();
            for (r, rank) in self.ranks.iter().zip(0..) {
                groups.entry(r.phase()).or_default().push(rank);
            }
            let text: Vec<_> = groups
                .iter()
                .map(|(phase, ranks)| {
                    let noun = if ranks.len() == 1 { "rank" } else { "ranks" };
                    let verb = if ranks.len() == 1 { "is" } else { "are" };
                    format!("{noun} {} {verb} in {phase}", list(ranks.iter().copied()))
                })
                .collect();
            let cause =
                format!("all ranks wait for one another since {} s: {}", hang.as_secs_f32(), text.join("; "));
            self.fail(
                Blame::of_nobody(
                    exit::MISMATCH,
                    cause,
                    "every rank must call the same collectives in the same order",
                ),
                out,
            );
        }
    }

    /// Looks whether what is known of a rank's end is enough to decide.
    fn judge(&mut self, now: Instant, rank: u32, out: &mut Vec<Action>) {
        if self.outcome.is_some() && self.all_finished || matches!(self.outcome, Some(Outcome::Failed(_))) {
            return;
        }
        let r = &self.ranks[rank as usize];
        if r.witness {
            return;
        }
        let late = |since: Instant| now.saturating_duration_since(since) > EXIT_REPORT;
        match (r.finished, r.exit, r.closed) {
            // Killed between its FINISHED and the last one's: it has nothing more to send, but what it wrote may not be whole.
            (true, None, Some(at))
                if !self.all_finished && (!self.rules.exit_reports_expected || late(at)) =>
            {
                self.fail_rank(
                    rank,
                    exit::RANK_LOST,
                    "its connection closed after it had said FINISHED, before all others had".into(),
                    "look at the launcher's and the system's log of that host (out of memory?)",
                    out,
                );
            }
            (true, None, _) | (false, None, None) => {}
            (true, Some((RankExit::Code(code), at)), _) => {
                self.settle();
                // Others may end with the same code: then it is the program's word, not this rank's trouble.
                if self.outcome.is_none() && code != 0 && late(at) {
                    let cause = format!("ended with code {code} after it had said FINISHED");
                    self.fail_rank(
                        rank,
                        code as u8,
                        cause,
                        "the code is the program's own: see its output above",
                        out,
                    );
                }
            }
            (_, Some((RankExit::Signal(signal), at)), _) => {
                // What it said before it died is worth a moment.
                if r.conn.is_none() || late(at) {
                    let cause = format!("killed by signal {signal} ({})", signal_name(signal));
                    self.fail_rank(rank, exit::RANK_LOST, cause, signal_remedy(signal), out);
                }
            }
            (false, Some((RankExit::Code(code), at)), _) => {
                if r.card.is_none() && code == 0 {
                    self.mixed(now, out);
                } else if r.conn.is_none() || late(at) {
                    self.left(rank, Some(code), out);
                }
            }
            (false, None, Some(at)) => {
                if !self.rules.exit_reports_expected || late(at) {
                    self.fail_rank(
                        rank,
                        exit::RANK_LOST,
                        "its connection closed without a farewell: killed, crashed, or its host is gone"
                            .into(),
                        "look at the launcher's and the system's log of that host (out of memory?)",
                        out,
                    );
                }
            }
        }
    }

    /// All have said FINISHED; where a launcher tells how processes end, success waits for that too.
    fn settle(&mut self) {
        if !self.all_finished || self.outcome.is_some() {
            return;
        }
        if !self.rules.exit_reports_expected {
            self.outcome = Some(Outcome::Finished);
            return;
        }
        let code = |r: &Rank| match r.exit {
            Some((RankExit::Code(code), _)) => Some(code),
            _ => None,
        };
        let first = self.ranks.first().and_then(code);
        if first.is_some() && self.ranks.iter().all(|r| code(r) == first) {
            self.outcome = match (first, &self.stop) {
                (Some(0), _) => Some(Outcome::Finished),
                (Some(c), Some(reason)) if c == i32::from(exit::STOPPED) => {
                    Some(Outcome::Stopped(reason.clone()))
                }
                (c, _) => Some(Outcome::Ended(c.unwrap_or(0) as u8)),
            };
        }
    }

    /// Programs that never join are run like any other, as long as none of them joins.
    fn mixed(&mut self, _now: Instant, out: &mut Vec<Action>) {
        let plain = |r: &Rank| r.card.is_none() && matches!(r.exit, Some((RankExit::Code(0), _)));
        if self.ranks.iter().all(plain) {
            self.outcome.get_or_insert(Outcome::Finished);
        } else if self.first_registered.is_some()
            && let Some(rank) = self.ranks.iter().position(plain)
        {
            self.left(rank as u32, Some(0), out);
        }
    }

    fn left(&mut self, rank: u32, code: Option<i32>, out: &mut Vec<Action>) {
        match code {
            Some(0) | None => {
                let with = if code.is_some() { "with code 0 " } else { "" };
                self.fail_rank(
                    rank,
                    exit::LEFT_EARLY,
                    format!("left {with}without having said FINISHED"),
                    "every rank must end with world.finish(), also one that has nothing more to do",
                    out,
                );
            }
            Some(code) => {
                let cause = format!("ended with code {code} before the job was finished");
                self.fail_rank(
                    rank,
                    code as u8,
                    cause,
                    "the code is the program's own: see its output above",
                    out,
                );
            }
        }
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
            self.tell_all(&ToRank::Abort(blame), out);
        }
    }

    fn tell_all(&self, message: &ToRank, out: &mut Vec<Action>) {
        out.extend(self.ranks.iter().filter_map(|r| r.conn).map(|conn| Action::Send(conn, message.clone())));
    }
}

/// A blame of a rank that was not let in.
fn of_card(card: &Card, code: u8, cause: String, remedy: &str) -> Blame {
    let (host, phase) = (card.host.clone(), "start-up".into());
    Blame { rank: Some(card.rank), host, pid: card.pid, phase, ..Blame::of_nobody(code, cause, remedy) }
}

fn hash(bytes: &[u8]) -> String {
    bytes[..6].iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
