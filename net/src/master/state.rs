//! The rules of the job master, as a state machine without clock, sockets or threads.
//!
//! Times are durations since the master started. Feed it with [`State::handle`], call [`State::tick`] at least ten
//! times in a hang time-out, and do what the returned [`Action`]s say.
//!
//! *First cause sticks.* Whatever goes wrong becomes a suspicion with the time at which it arose. The earliest one
//! becomes the verdict as soon as it is sure; a lost connection may wait up to a second for the launcher's word on how
//! the process ended, and what one rank says of another ("lost rank 3") for first-hand knowledge. Later suspicions
//! wait for the earlier ones.

use std::net::SocketAddr;
use std::time::Duration;

use super::admission::{Refusal, admit};
use super::ranks::{Rank, RankExit, RankView};
use super::words::{code_words, exit_words, fold, seconds, whereabouts};
use crate::control::protocol::{
    JobId, JobInfo, JobSettings, MAX_EXCHANGE, Phase, StopReason, ToMaster, ToRank,
};
use crate::error::Blame;
use crate::exit;

/// Names a connection.
pub type ConnId = u64;

/// How long a loss waits for a better explanation.
const EXPLANATION: Duration = Duration::from_secs(1);
/// How long the ranks have to go once the job has failed.
const ABORT_GRACE: Duration = Duration::from_millis(1500);
/// How long the ranks have to say whether they know how to stop.
const STOP_ANSWER: Duration = Duration::from_secs(1);
/// How often waiting ranks hear who is missing.
const MISSING_EVERY: Duration = Duration::from_secs(1);

/// What the master has to deal with.
#[derive(Debug, Clone)]
pub enum Event {
    /// A proven peer sent a message.
    Message {
        /// By which connection.
        conn: ConnId,
        /// From where.
        peer: SocketAddr,
        /// What.
        message: ToMaster,
    },
    /// A connection is closed (or was, because of what came over it).
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, as a phrase.
        why: String,
    },
    /// The launcher has started a rank's process.
    Spawned {
        /// The rank.
        rank: u32,
        /// Its host.
        host: String,
        /// Its process id there.
        pid: u32,
    },
    /// The launcher has seen a rank's process end.
    Exited {
        /// The rank.
        rank: u32,
        /// How.
        exit: RankExit,
    },
    /// The outside asks the job to stop. The second time it is meant at once.
    Stop(StopReason),
    /// The outside ends the job.
    Fail(Blame),
}

/// What the master does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a message to these connections.
    Send(Vec<ConnId>, ToRank),
    /// Close a connection when all has been sent.
    Close(ConnId),
    /// Tell the user, once.
    Report(Blame),
    /// The job is over.
    Done(Outcome),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every rank said FINISHED.
    Finished,
    /// Every rank said FINISHED after it had been asked to stop.
    Stopped(StopReason),
    /// The job failed.
    Failed(Blame),
}

/// What the rules need to know.
#[derive(Debug, Clone)]
pub struct StateConfig {
    /// Number of ranks.
    pub size: u32,
    /// The job.
    pub job: JobId,
    /// Its attempt.
    pub epoch: u32,
    /// What the ranks are told.
    pub settings: JobSettings,
    /// How long the ranks may take to come.
    pub start_timeout: Duration,
    /// Whether somebody calls with [`Event::Exited`] for every rank.
    pub exit_reports_expected: bool,
}

#[derive(Debug)]
struct Suspicion {
    rank: Option<u32>,
    /// When at the latest it is decided.
    due: Duration,
    /// The blame, unless it is to be made from what is known of the rank.
    blame: Option<Blame>,
    /// Said by another rank.
    hearsay: bool,
    /// How the connection ended.
    why: String,
}

#[derive(Debug)]
struct Stopping {
    reason: StopReason,
    since: Duration,
    graceful: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Gathering,
    Running,
    Failing(Blame, Duration),
    /// All said FINISHED; waiting for exit reports if there are any to come.
    Finished,
    Over,
}

/// The job master without its wires.
#[derive(Debug)]
pub struct State {
    config: StateConfig,
    ranks: Vec<Rank>,
    stage: Stage,
    /// In the order in which they arose.
    suspicions: Vec<Suspicion>,
    stopping: Option<Stopping>,
    exchange: u64,
    refused: Option<String>,
    told_missing: Duration,
    /// From when the start-up time counts: the first rank's coming if a launcher watches the processes (what it starts
    /// may copy data first, or not use us at all), else the master's start.
    gathering: Option<Duration>,
    last: Duration,
    actions: Vec<Action>,
}

impl State {
    /// A job whose ranks are yet to come.
    pub fn new(config: StateConfig) -> Self {
        let ranks = (0..config.size).map(|_| Rank::default()).collect();
        let gathering = (!config.exit_reports_expected).then_some(Duration::ZERO);
        State {
            gathering,
            config,
            ranks,
            stage: Stage::Gathering,
            suspicions: Vec::new(),
            stopping: None,
            exchange: 0,
            refused: None,
            told_missing: Duration::ZERO,
            last: Duration::ZERO,
            actions: Vec::new(),
        }
    }

    /// Where every rank stands.
    pub fn snapshot(&self, now: Duration) -> Vec<RankView> {
        let (hang, welcomed) = (self.config.settings.hang_timeout, self.stage != Stage::Gathering);
        (0u32..).zip(&self.ranks).map(|(i, rank)| rank.view(i, now, hang, welcomed)).collect()
    }

    /// Ranks that are still connected: after the job is over, those that did not obey.
    pub fn connected(&self) -> Vec<u32> {
        (0u32..).zip(&self.ranks).filter(|(_, rank)| rank.conn.is_some()).map(|(i, _)| i).collect()
    }

    /// Whether this connection is a registered rank's.
    pub fn knows(&self, conn: ConnId) -> bool {
        self.by_conn(conn).is_some()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.pass_time(now);
        match event {
            Event::Message { conn, peer, message } => self.message(now, conn, peer, message),
            Event::Closed { conn, why } => self.closed(now, conn, why),
            Event::Spawned { rank, host, pid } => {
                if let Some(rank) = self.ranks.get_mut(rank as usize) {
                    rank.spawned = Some((host, pid));
                }
            }
            Event::Exited { rank, exit } => self.exited(now, rank, exit),
            Event::Stop(reason) => {
                let again = self.stopping.is_some();
                self.stop(now, reason, again);
            }
            Event::Fail(blame) => self.suspect(now, blame.rank, Some(blame), "", Duration::ZERO),
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        self.pass_time(now);
        match self.stage {
            Stage::Gathering => self.tick_gathering(now),
            Stage::Running => {
                self.tick_hung(now);
                self.tick_deadlock(now);
                self.tick_stop(now);
            }
            _ => {}
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// If the master itself did not run for a while (suspended, swapped out), the ranks are not to blame.
    fn pass_time(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.last);
        self.last = now;
        if gap >= self.config.settings.hang_timeout / 2 {
            for rank in &mut self.ranks {
                rank.heard += gap;
                rank.changed += gap;
            }
        }
    }

    fn by_conn(&self, conn: ConnId) -> Option<u32> {
        self.ranks.iter().position(|rank| rank.conn == Some(conn)).map(|i| i as u32)
    }

    fn send_all(&mut self, message: ToRank) {
        let conns: Vec<ConnId> = self.ranks.iter().filter_map(|rank| rank.conn).collect();
        if !conns.is_empty() {
            self.actions.push(Action::Send(conns, message));
        }
    }

    fn message(&mut self, now: Duration, conn: ConnId, peer: SocketAddr, message: ToMaster) {
        let Some(i) = self.by_conn(conn) else {
            match message {
                ToMaster::Register { protocol, version, card } => {
                    self.register(now, conn, peer, protocol, &version, &card);
                }
                _ => self.actions.push(Action::Close(conn)),
            }
            return;
        };
        let rank = &mut self.ranks[i as usize];
        rank.heard = rank.heard.max(now);
        match message {
            ToMaster::Register { .. } => {
                let blame = self.blame(Some(i), exit::PROTOCOL, "it registered twice", "please report this");
                self.suspect(now, Some(i), Some(blame), "", Duration::ZERO);
            }
            ToMaster::Heartbeat(pulse) => {
                rank.beat(now, pulse);
                self.actions.push(Action::Send(vec![conn], ToRank::HeartbeatAck));
            }
            ToMaster::Failed(blame) => {
                let hearsay = blame.code == exit::RANK_LOST && blame.rank.is_some_and(|other| other != i);
                if hearsay {
                    rank.witness = true;
                    self.hearsay(now, blame);
                } else {
                    let about = blame.rank.or(Some(i));
                    let blame = self.filled(Blame { rank: about, ..blame });
                    self.suspect(now, Some(i), Some(blame), "", Duration::ZERO);
                }
            }
            ToMaster::Left { code } => self.left(now, i, code),
            ToMaster::Finished => {
                if self.stage == Stage::Running {
                    rank.finished = true;
                    if self.ranks.iter().all(|rank| rank.finished) && self.suspicions.is_empty() {
                        self.send_all(ToRank::AllFinished);
                        self.stage = Stage::Finished;
                    }
                }
            }
            ToMaster::Exchange { seq, bytes } => self.share(now, i, seq, bytes),
            ToMaster::StopAsked(reason) => {
                rank.stops_asked += 1;
                let again = rank.stops_asked > 1;
                self.stop(now, StopReason { rank: Some(i), ..reason }, again);
            }
            ToMaster::StopSeen { aware } => rank.stop_aware = Some(aware),
        }
    }

    fn register(
        &mut self,
        now: Duration,
        conn: ConnId,
        peer: SocketAddr,
        protocol: u32,
        version: &str,
        card: &[u8],
    ) {
        if let Stage::Failing(blame, _) = &self.stage {
            let abort = ToRank::Abort(blame.clone());
            self.actions.extend([Action::Send(vec![conn], abort), Action::Close(conn)]);
            return;
        }
        match admit(&self.ranks, peer, protocol, version, card) {
            Ok(card) => {
                let rank = &mut self.ranks[card.rank as usize];
                rank.conn = Some(conn);
                rank.heard = now;
                rank.changed = now;
                rank.card = Some(card);
                self.gathering.get_or_insert(now);
                self.welcome(now);
            }
            Err(refusal) => {
                let Refusal { blame, harmless } = *refusal;
                self.actions
                    .extend([Action::Send(vec![conn], ToRank::Refused(blame.clone())), Action::Close(conn)]);
                self.refused = Some(blame.cause.clone());
                if !harmless && self.stage == Stage::Gathering {
                    self.suspect(now, blame.rank, Some(blame), "", Duration::ZERO);
                }
            }
        }
    }

    fn welcome(&mut self, now: Duration) {
        if self.stage != Stage::Gathering || !self.ranks.iter().all(|rank| rank.conn.is_some()) {
            return;
        }
        self.stage = Stage::Running;
        for rank in &mut self.ranks {
            rank.heard = now;
            rank.changed = now;
        }
        let info = JobInfo {
            job: self.config.job,
            epoch: self.config.epoch,
            size: self.config.size,
            cards: self.ranks.iter().filter_map(|rank| rank.card.clone()).collect(),
            settings: self.config.settings.clone(),
        };
        self.send_all(ToRank::Welcome(info));
    }

    fn closed(&mut self, now: Duration, conn: ConnId, why: String) {
        let Some(i) = self.by_conn(conn) else { return };
        let rank = &mut self.ranks[i as usize];
        rank.conn = None;
        if matches!(self.stage, Stage::Gathering | Stage::Running) && !rank.finished && !rank.witness {
            let patience = if self.config.exit_reports_expected { EXPLANATION } else { Duration::ZERO };
            self.suspect(now, Some(i), None, &why, patience);
        }
    }

    fn exited(&mut self, now: Duration, i: u32, exit: RankExit) {
        let (gathering, running) = (self.stage == Stage::Gathering, self.stage == Stage::Running);
        let Some(rank) = self.ranks.get_mut(i as usize) else { return };
        if rank.exit.is_some() {
            return;
        }
        rank.exit = Some(exit);
        if rank.witness {
            return;
        }
        if rank.finished {
            if exit != RankExit::Code(0) && (running || self.stage == Stage::Finished) {
                let (code, cause, remedy) = exit_words(exit, true);
                let blame = self.blame(Some(i), code, &cause, &remedy);
                self.suspect(now, Some(i), Some(blame), "", Duration::ZERO);
            }
        } else if gathering || running {
            // What it said before it went may still be under way.
            let patience = if rank.conn.is_some() { EXPLANATION } else { Duration::ZERO };
            self.suspect(now, Some(i), None, "", patience);
        }
    }

    fn left(&mut self, now: Duration, i: u32, code: Option<i32>) {
        if self.ranks[i as usize].finished || self.ranks[i as usize].witness {
            return;
        }
        match code {
            Some(code) => {
                let (code, cause, remedy) = code_words(code, false);
                let blame = self.blame(Some(i), code, &cause, &remedy);
                self.suspect(now, Some(i), Some(blame), "", Duration::ZERO);
            }
            None => {
                let (code, _, remedy) = code_words(0, false);
                let blame = self.blame(Some(i), code, "left without having said FINISHED", &remedy);
                self.suspect(now, Some(i), Some(blame), "", EXPLANATION);
            }
        }
    }

    fn share(&mut self, now: Duration, i: u32, seq: u64, bytes: Vec<u8>) {
        let open = self.exchange;
        let rank = &mut self.ranks[i as usize];
        if self.stage != Stage::Running {
            return;
        }
        if seq != open || rank.share.is_some() {
            let cause = format!("it is in exchange {seq} while exchange {open} is open");
            let blame = self.blame(Some(i), exit::PROTOCOL, &cause, "please report this");
            return self.suspect(now, Some(i), Some(blame), "", Duration::ZERO);
        }
        rank.share = Some(bytes);
        let total: usize =
            self.ranks.iter().filter_map(|rank| rank.share.as_ref()).map(|s| s.len() + 8).sum();
        if total > MAX_EXCHANGE {
            let cause = format!("the ranks exchange more than {MAX_EXCHANGE} bytes through the job master");
            let blame = self.blame(Some(i), exit::INTERNAL, &cause, "exchange large data by a collective");
            return self.suspect(now, Some(i), Some(blame), "", Duration::ZERO);
        }
        if self.ranks.iter().all(|rank| rank.share.is_some()) {
            let parts = self.ranks.iter_mut().filter_map(|rank| rank.share.take()).collect();
            self.exchange += 1;
            self.send_all(ToRank::Exchanged { seq, parts });
        }
    }

    fn stop(&mut self, now: Duration, reason: StopReason, again: bool) {
        match self.stage {
            Stage::Gathering => self.end_by_stop(now, reason, "the job had not started yet"),
            Stage::Running if again => self.end_by_stop(now, reason, "a second request means at once"),
            Stage::Running if self.stopping.is_none() => {
                self.send_all(ToRank::Stop(reason.clone()));
                self.stopping = Some(Stopping { reason, since: now, graceful: false });
            }
            _ => {}
        }
    }

    fn end_by_stop(&mut self, now: Duration, reason: StopReason, why: &str) {
        let cause = format!("{} ({why})", reason.what);
        let remedy = "to end in good order instead, ask `World::stop_requested` in the program's main loop";
        let blame = self.blame(reason.rank, reason.code, &cause, remedy);
        self.suspect(now, reason.rank, Some(blame), "", Duration::ZERO);
    }

    fn tick_stop(&mut self, now: Duration) {
        let grace = self.config.settings.stop_grace;
        let Some(stopping) = &mut self.stopping else { return };
        let live = || self.ranks.iter().filter(|rank| !rank.finished);
        stopping.graceful |= self.ranks.iter().any(|rank| rank.stop_aware == Some(true));
        let age = now.saturating_sub(stopping.since);
        let why = if stopping.graceful {
            if age < grace {
                return;
            }
            format!("and the job did not end within the {} it had", seconds(grace))
        } else {
            if age < STOP_ANSWER && live().any(|rank| rank.stop_aware.is_none()) {
                return;
            }
            "the program does not ask for stop requests".into()
        };
        let reason = stopping.reason.clone();
        self.end_by_stop(now, reason, &why);
        // Once is enough.
        self.stopping = None;
    }

    fn tick_gathering(&mut self, now: Duration) {
        let Some(since) = self.gathering else { return };
        let missing: Vec<u32> =
            (0u32..).zip(&self.ranks).filter(|(_, rank)| rank.conn.is_none()).map(|(i, _)| i).collect();
        if now.saturating_sub(since) >= self.config.start_timeout {
            let started: Vec<String> = missing
                .iter()
                .take(8)
                .filter_map(|i| self.ranks[*i as usize].spawned.as_ref().map(|(host, pid)| (i, host, pid)))
                .map(|(i, host, pid)| format!("rank {i} was started on {host} as pid {pid}"))
                .collect();
            let mut cause = format!(
                "{} of {} ranks did not come within {}: {}",
                missing.len(),
                self.ranks.len(),
                seconds(self.config.start_timeout),
                fold(&missing)
            );
            for more in started.into_iter().chain(self.refused.clone()) {
                cause.push_str("; ");
                cause.push_str(&more);
            }
            let remedy = "see what those ranks printed, and whether their hosts reach this one by TCP";
            let blame = self.blame(None, exit::NOT_ALL_CAME, &cause, remedy);
            self.suspect(now, None, Some(blame), "", Duration::ZERO);
        } else if now.saturating_sub(self.told_missing) >= MISSING_EVERY && !missing.is_empty() {
            self.told_missing = now;
            let count = missing.len() as u32;
            self.send_all(ToRank::Missing { ranks: missing.into_iter().take(32).collect(), count });
        }
    }

    fn tick_hung(&mut self, now: Duration) {
        let hang = self.config.settings.hang_timeout;
        let hung = self
            .ranks
            .iter()
            .position(|rank| !rank.finished && rank.conn.is_some() && now.saturating_sub(rank.heard) >= hang);
        if let Some(i) = hung.map(|i| i as u32) {
            let cause = format!("it has given no sign of life for {}", seconds(hang));
            let remedy = "stopped (SIGSTOP, debugger), swapped out, or its host frozen? AEOLIAN_HANG_TIMEOUT=seconds \
                          gives it longer";
            let blame = self.blame(Some(i), exit::RANK_HUNG, &cause, remedy);
            self.suspect(now, Some(i), Some(blame), "", Duration::ZERO);
        }
    }

    fn tick_deadlock(&mut self, now: Duration) {
        let hang = self.config.settings.hang_timeout;
        let mut live = self.ranks.iter().filter(|rank| !rank.finished).peekable();
        let stuck = live.peek().is_some()
            && live.all(|rank| {
                rank.pulse.phase == Phase::Waiting
                    && now.saturating_sub(rank.changed) >= hang
                    // A rank that may be hung is no proof that all wait.
                    && now.saturating_sub(rank.heard) < hang / 2
            });
        if !stuck {
            return;
        }
        let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
        for (i, rank) in (0u32..).zip(&self.ranks) {
            let place = rank.phase(true);
            match groups.iter_mut().find(|group| group.0 == place) {
                Some(group) => group.1.push(i),
                None => groups.push((place, vec![i])),
            }
        }
        // Those who wait first, those who are done last.
        groups.sort_by_key(|group| group.0 == "finished");
        let cause = match groups.as_slice() {
            [(place, _)] => format!("all ranks wait in {place}, and nothing has moved for {}", seconds(hang)),
            _ => format!("the ranks wait for one another: {}", whereabouts(&groups)),
        };
        let remedy = "every rank must call the same collectives in the same order, and as often";
        let blame = self.blame(None, exit::MISMATCH, &cause, remedy);
        self.suspect(now, None, Some(blame), "", Duration::ZERO);
    }

    /// A blame with what is known of the rank.
    fn blame(&self, rank: Option<u32>, code: u8, cause: &str, remedy: &str) -> Blame {
        self.filled(Blame {
            code,
            rank,
            host: String::new(),
            pid: 0,
            phase: String::new(),
            cause: cause.into(),
            remedy: remedy.into(),
        })
    }

    fn filled(&self, mut blame: Blame) -> Blame {
        if let Some(rank) = blame.rank.and_then(|i| self.ranks.get(i as usize)) {
            if blame.host.is_empty() {
                blame.host = rank.host();
            }
            if blame.pid == 0 {
                blame.pid = rank.pid();
            }
            if blame.phase.is_empty() {
                blame.phase = rank.phase(self.stage != Stage::Gathering);
            }
        }
        blame
    }

    /// Notes that something is wrong with a rank (or with the job), to be decided after `patience` at the latest.
    fn suspect(
        &mut self,
        now: Duration,
        rank: Option<u32>,
        blame: Option<Blame>,
        why: &str,
        patience: Duration,
    ) {
        let due = now + patience;
        let same = self.suspicions.iter_mut().find(|s| rank.is_some() && s.rank == rank);
        let Some(same) = same else {
            let blame = blame.map(|blame| self.filled(blame));
            self.suspicions.push(Suspicion { rank, due, blame, hearsay: false, why: why.into() });
            return;
        };
        // What a rank says of itself explains its loss; a loss that it has explained adds nothing.
        if same.hearsay || same.blame.is_none() {
            if blame.is_some() || same.hearsay {
                same.due = due;
                same.blame = blame;
            }
            same.hearsay = false;
        } else if blame.is_some() && same.due > due {
            same.blame = blame;
            same.due = due;
        }
        if !why.is_empty() {
            same.why = why.into();
        }
    }

    /// A rank says that it lost another one.
    fn hearsay(&mut self, now: Duration, blame: Blame) {
        let rank = blame.rank;
        if self.suspicions.iter().any(|s| s.rank == rank) {
            return;
        }
        let blame = Some(self.filled(blame));
        self.suspicions.push(Suspicion {
            rank,
            due: now + EXPLANATION,
            blame,
            hearsay: true,
            why: String::new(),
        });
    }

    /// The verdict on a suspicion, if it is sure by now.
    fn judge(&self, now: Duration, suspicion: &Suspicion) -> Option<Blame> {
        let rank = suspicion.rank.and_then(|i| self.ranks.get(i as usize));
        // The launcher's word on a process that is gone beats a guess, but not what the rank itself said.
        if let Some(rank) = rank
            && let Some(exit) = rank.exit
            && (suspicion.blame.is_none() || suspicion.due > now)
            && (rank.conn.is_none() || suspicion.due <= now)
        {
            let (code, cause, remedy) = exit_words(exit, rank.finished);
            return Some(self.blame(suspicion.rank, code, &cause, &remedy));
        }
        if suspicion.due > now {
            return None;
        }
        Some(suspicion.blame.clone().unwrap_or_else(|| {
            let why = if suspicion.why.is_empty() { "closed" } else { &suspicion.why };
            let cause = format!("its connection to the job master is gone ({why})");
            let remedy =
                "killed, crashed, or its host or network gone? see its host's log and the scheduler's report";
            self.blame(suspicion.rank, exit::RANK_LOST, &cause, remedy)
        }))
    }

    fn settle(&mut self, now: Duration) {
        if !matches!(self.stage, Stage::Failing(..) | Stage::Over)
            && let Some(blame) = self.suspicions.first().and_then(|first| self.judge(now, first))
        {
            self.send_all(ToRank::Abort(blame.clone()));
            self.actions.push(Action::Report(blame.clone()));
            self.stage = Stage::Failing(blame, now);
        }
        let outcome = match &self.stage {
            Stage::Failing(blame, since) => {
                let gone = self.ranks.iter().all(|rank| rank.conn.is_none());
                let over = gone || now.saturating_sub(*since) >= ABORT_GRACE;
                over.then(|| Outcome::Failed(blame.clone()))
            }
            Stage::Finished => {
                let told = self.ranks.iter().all(|rank| rank.exit.is_some());
                (told || !self.config.exit_reports_expected).then(|| match &self.stopping {
                    Some(stopping) => Outcome::Stopped(stopping.reason.clone()),
                    None => Outcome::Finished,
                })
            }
            _ => None,
        };
        if let Some(outcome) = outcome {
            self.stage = Stage::Over;
            self.actions.push(Action::Done(outcome));
        }
    }
}
