//! The launcher's loop: what happens to the ranks, what is done about it, and how it ends.

use super::boss::Boss;
use super::hand::{self, Hand, SharedTerminal};
use super::signals;
use super::wire::{Ended, FromAgent, Stream};
use aeolian_net::master::Outcome;
use aeolian_net::{Blame, exit};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Time for ranks to leave by themselves once the job has failed (the job master has told them why).
const GRACE: Duration = Duration::from_secs(2);
/// Time between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Time for a killed process to be gone; after that its host is beyond our reach.
const KILL_GRACE: Duration = Duration::from_secs(3);
/// Time for an orderly stop that nobody watches (SIGTERM from a scheduler, a closed terminal): below Slurm's 30 s.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(25);

/// Time for the last output once the end was asked for and no rank is left.
const OUTPUT_GRACE: Duration = Duration::from_secs(3);

/// How long a remark may wait for room on standard error.
const SAY: Duration = Duration::from_millis(200);

/// How long the last word may wait for room on standard error once the end was asked for, or a rank does not go away.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How often it is looked whether ranks have joined after others left.
const LOOK: Duration = Duration::from_millis(100);

/// What the loop is told.
pub(crate) enum Happening {
    /// An agent (by its host's index) reports.
    Agent(usize, FromAgent),
    /// The connection to a host is gone; what has come of its output may still be on its way out.
    HostLost(usize, String),
    /// The job master has decided.
    Outcome(Outcome),
    /// The launcher got a signal.
    Signal(i32),
    /// Nobody reads our standard output (or error) any more.
    OutputClosed(Stream),
    /// Our standard output (or error) cannot be written.
    OutputFailed(String),
}

/// What is known of a rank.
#[derive(Debug, Clone)]
pub(crate) struct RankState {
    /// Index of its host.
    pub(crate) host: usize,
    /// Its process there (0 before it is started).
    pub(crate) pid: u32,
    /// What became of it.
    pub(crate) fate: Fate,
}

/// What became of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its end has not come, as far as is known.
    Open,
    /// It ended like this.
    Ended(Ended),
    /// Its host was lost first: nobody knows how it ended.
    Lost,
}

/// How the job ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Well.
    Finished,
    /// For this reason.
    Failed(Box<Blame>),
    /// In good order, but with this code of the program's on all ranks: it has told why itself.
    Ended(u8),
    /// In good order, because it was asked to: why.
    Stopped(String),
    /// By a signal to the launcher.
    Signalled(i32),
    /// The reader of our output went away (`| head`), and then a rank: of this, if it may be something else.
    ReaderGone(Option<Box<Blame>>),
}

/// The code a shell gives for a command that SIGPIPE ended.
const READER_GONE: u8 = 128 + 13;

impl Verdict {
    /// The exit code of `aeolian run`.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Verdict::Finished => exit::OK,
            Verdict::Failed(blame) => blame.code,
            Verdict::Stopped(_) => exit::STOPPED,
            Verdict::Ended(code) => *code,
            Verdict::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(exit::INTERRUPTED),
            Verdict::ReaderGone(_) => READER_GONE,
        }
    }
}

/// How far the ending of the ranks has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Running,
    Grace,
    Term,
    Kill,
    GiveUp,
}

/// The loop and its state.
pub(crate) struct Watch {
    pub(crate) hands: Vec<Arc<dyn Hand>>,
    pub(crate) ranks: Vec<RankState>,
    pub(crate) boss: Boss,
    pub(crate) happenings: Receiver<Happening>,
    pub(crate) terminal: SharedTerminal,
    pub(crate) quiet: bool,
    pub(crate) ends_at: Option<(Instant, Duration)>,
    state: State,
}

struct State {
    hosts_done: Vec<bool>,
    verdict: Option<Verdict>,
    step: Step,
    /// When more is done about ranks that do not end; with no rank left, when output that nobody reads is given up.
    next_step: Option<Instant>,
    /// The last signal that asked for an end.
    asked: Option<i32>,
    reader_gone: bool,
    /// What the master was told the job failed of, until it has answered.
    told: Option<Box<Blame>>,
}

impl Watch {
    pub(crate) fn new(
        hands: Vec<Arc<dyn Hand>>,
        ranks: Vec<RankState>,
        boss: Boss,
        happenings: Receiver<Happening>,
        terminal: SharedTerminal,
        quiet: bool,
        timeout: Option<Duration>,
    ) -> Watch {
        let state = State {
            hosts_done: vec![false; hands.len()],
            verdict: None,
            step: Step::Running,
            next_step: None,
            asked: None,
            reader_gone: false,
            told: None,
        };
        // A limit beyond the clock's end is none.
        let ends_at = timeout.and_then(|t| Some((Instant::now().checked_add(t)?, t)));
        Watch { hands, ranks, boss, happenings, terminal, quiet, ends_at, state }
    }

    /// Watches until every rank is gone and its output is out (or cannot be waited for any longer).
    pub(crate) fn run(&mut self) -> Verdict {
        while self.state.step < Step::GiveUp && !self.over() {
            match self.next() {
                Ok(happening) => self.take(happening),
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.state.step == Step::GiveUp {
            let left: Vec<_> = self.ranks.iter().enumerate().filter(|(_, r)| r.fate == Fate::Open).collect();
            for (rank, state) in left {
                let host = self.hands[state.host].host();
                self.say(&format!(
                    "aeolian: warning: rank {rank} (pid {}) on {host} does not go away",
                    state.pid
                ));
            }
        }
        let verdict = self.state.verdict.take().unwrap_or(Verdict::Finished);
        match (verdict, self.state.asked) {
            // All went well, but not all that the ranks wrote is out: whoever asked for the end has cut it off.
            (Verdict::Finished | Verdict::Stopped(_), Some(signal)) if !self.all_done() => {
                Verdict::Signalled(signal)
            }
            (verdict, _) => verdict,
        }
    }

    /// True when every host has said that its ranks are gone and their output is out.
    fn all_done(&self) -> bool {
        self.state.hosts_done.iter().all(|done| *done)
    }

    /// True when every rank has ended; what they wrote may still be on its way.
    fn nobody_left(&self) -> bool {
        self.ranks.iter().all(|rank| rank.fate != Fate::Open)
    }

    /// True when every host is done and the verdict is known.
    fn over(&self) -> bool {
        self.all_done() && self.state.verdict.is_some()
    }

    fn next(&self) -> Result<Happening, RecvTimeoutError> {
        let limit = self.ends_at.filter(|_| self.state.verdict.is_none()).map(|(at, _)| at);
        let look = self.boss.has_silent().then(|| Instant::now() + LOOK);
        match [limit, self.state.next_step, look].into_iter().flatten().min() {
            Some(at) => self.happenings.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => self.happenings.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Agent(_, FromAgent::Started { rank, pid }) => {
                let Some(state) = self.ranks.get_mut(rank as usize) else { return };
                state.pid = pid;
                self.boss.spawned(rank, self.hands[state.host].host(), pid);
            }
            Happening::Agent(_, FromAgent::Exited { rank, ended }) => self.exited(rank, ended),
            Happening::Agent(host, FromAgent::Done) => {
                if self.ranks.iter().any(|rank| rank.host == host && rank.fate == Fate::Open) {
                    self.host_lost(host, "its agent is done, but has not told how they ended");
                }
                self.state.hosts_done[host] = true;
            }
            Happening::Agent(host, FromAgent::Refused { why, code }) => {
                let cause = format!("the ranks of {} cannot be started: {why}", self.hands[host].host());
                self.fail(blame(code, cause, ""));
            }
            Happening::Agent(host, FromAgent::StdinTaken(bytes)) => self.hands[host].stdin_taken(bytes),
            Happening::Agent(_, FromAgent::Ready | FromAgent::Output { .. }) => {}
            Happening::HostLost(host, why) => self.host_lost(host, &why),
            Happening::Outcome(outcome) => {
                let told = self.state.told.take();
                self.decide(match (outcome, told) {
                    // `| head`: a rank that minds is told by its next write, and says so in one of these ways.
                    (Outcome::Failed(blame), told)
                        if self.state.reader_gone
                            && minds(blame.code)
                            && told.as_ref().is_none_or(|own| own.cause != blame.cause) =>
                    {
                        let other = !of_broken_pipe(&blame);
                        Verdict::ReaderGone(other.then(|| Box::new(blame)))
                    }
                    (Outcome::Failed(blame), _) => Verdict::Failed(Box::new(blame)),
                    // This word was on its way when we said that the job has failed.
                    (_, Some(blame)) => Verdict::Failed(blame),
                    (Outcome::Finished, None) => Verdict::Finished,
                    (Outcome::Stopped(reason), None) => Verdict::Stopped(reason.what),
                    (Outcome::Ended(code), None) => Verdict::Ended(code),
                });
            }
            Happening::Signal(signal) => self.signal(signal),
            Happening::OutputClosed(Stream::Out) => self.state.reader_gone = true,
            Happening::OutputClosed(Stream::Err) => {}
            Happening::OutputFailed(why) => {
                let help = "is the disk full, or the quota used up?";
                let blame = blame(exit::CANNOT_WRITE, format!("cannot write the ranks' output: {why}"), help);
                self.fail_late(blame);
            }
        }
    }

    /// The job has failed for a reason that only the launcher knows.
    fn fail(&mut self, blame: Blame) {
        self.state.told.get_or_insert_with(|| Box::new(blame.clone()));
        self.boss.fail(blame);
    }

    /// As [`Watch::fail`], also after all has gone well: the last lines come after the last rank, and without them the job
    /// is no success.
    fn fail_late(&mut self, blame: Blame) {
        if matches!(self.state.verdict, Some(Verdict::Finished | Verdict::Stopped(_))) {
            self.state.verdict = Some(Verdict::Failed(Box::new(blame)));
        } else {
            self.fail(blame);
        }
    }

    fn exited(&mut self, rank: u32, ended: Ended) {
        let Some(state) = self.ranks.get_mut(rank as usize) else { return };
        state.fate = Fate::Ended(ended);
        if self.state.verdict.is_none() && ended != Ended::Code(0) {
            // Whoever ended the job is the cause; the rank only followed.
            if self.state.reader_gone && left_with_reader(ended, self.boss.anyone_joined()) {
                self.decide(Verdict::ReaderGone(None));
            } else if ended == Ended::Code(i32::from(exit::STOPPED)) && self.boss.anyone_joined() {
                // In good order, if all do so: the master's word.
            } else if let Some(signal) = self.state.asked.filter(|signal| followed(ended, *signal)) {
                self.decide(Verdict::Signalled(signal));
            }
        }
        self.boss.exited(rank, ended);
        self.look_who_is_left();
    }

    fn host_lost(&mut self, host: usize, why: &str) {
        let name = self.hands[host].host().to_string();
        let mut lost = Vec::new();
        for (rank, state) in (0u32..).zip(&mut self.ranks) {
            if state.host == host && state.fate == Fate::Open {
                state.fate = Fate::Lost;
                lost.push((rank, state.pid));
            }
        }
        let Some((rank, pid)) = lost.first().copied() else {
            // Its ranks have ended, but not all that they wrote has come.
            let cause = format!("lost the host {name} before its ranks' last output had come: {why}");
            let help = "is the host up, and did ssh or its network fail?";
            return self.fail_late(blame(exit::RANK_LOST, cause, help));
        };
        let cause = format!("lost its host ({} ranks there): {why}", lost.len());
        let help = "is the host up, and did ssh or its network fail?";
        self.fail(Blame { rank: Some(rank), host: name, pid, ..blame(exit::RANK_LOST, cause, help) });
        self.look_who_is_left();
    }

    /// A rank has ended. If it was the last, what was planned for ranks is off: if the end is asked for already, the time
    /// for the last output begins.
    fn look_who_is_left(&mut self) {
        if self.nobody_left() {
            self.state.next_step = self.state.asked.map(|_| Instant::now() + OUTPUT_GRACE);
        }
    }

    fn signal(&mut self, signal: i32) {
        if signal == Signal::TSTP.as_raw() {
            return self.pause();
        }
        if !ends(signal) {
            return self.all(signal);
        }
        if self.nobody_left() {
            return self.cut_off(signal);
        }
        if signal == Signal::INT.as_raw() && (self.state.asked.is_some() || self.state.verdict.is_some()) {
            if self.state.verdict.is_none() {
                self.decide(Verdict::Signalled(signal));
            }
            self.state.asked = Some(signal);
            self.go(Step::Kill);
            return self.say("aeolian: killing the job");
        }
        let interrupt = signal == Signal::INT.as_raw();
        if !interrupt && self.state.step == Step::Running && self.state.next_step.is_none() {
            self.state.next_step = Some(Instant::now() + STOP_GRACE);
        }
        if self.state.asked.replace(signal).is_some() || self.state.verdict.is_some() {
            return self.all(signal);
        }
        if self.boss.anyone_joined() {
            self.boss.stop(signal);
        }
        if !self.boss.anyone_joined() || self.boss.all_finished() {
            // A program that knows nothing of Aeolian, or nothing more, is told in the only way it understands.
            self.all(signal);
        }
        self.say(&match interrupt {
            true => "aeolian: stopping the job in good order (Ctrl-C again kills it)".to_string(),
            false => format!("aeolian: got {}: stopping the job in good order", signals::name(signal)),
        });
    }

    /// An end is asked for while only output is on its way: its reader gets little more time. Ctrl-C again gives it none.
    fn cut_off(&mut self, signal: i32) {
        let again = self.state.asked.replace(signal).is_some();
        if again && signal == Signal::INT.as_raw() {
            return self.give_up(signal);
        }
        let at = Instant::now() + OUTPUT_GRACE;
        self.state.next_step = Some(self.state.next_step.map_or(at, |planned| planned.min(at)));
        self.say("aeolian: all ranks have ended; what is not read of their output in 3 s is lost");
    }

    fn give_up(&mut self, signal: i32) {
        self.decide(Verdict::Signalled(signal));
        self.go(Step::GiveUp);
    }

    /// Ctrl-Z: the whole job stands still until we go on. SIGSTOP, since the ranks' groups have no shell above them
    /// and the system lets such groups ignore SIGTSTP.
    fn pause(&self) {
        self.all(Signal::STOP.as_raw());
        rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).unwrap_or_default();
        self.all(Signal::CONT.as_raw());
    }

    /// The verdict is found: the first stays.
    fn decide(&mut self, verdict: Verdict) {
        if self.state.verdict.is_some() {
            return;
        }
        let well = matches!(verdict, Verdict::Finished | Verdict::Stopped(_));
        self.state.verdict = Some(verdict);
        if !well {
            // The job master's word reaches only ranks that joined.
            self.go(if self.boss.anyone_joined() { Step::Grace } else { Step::Term });
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.boss.look_again();
        if let Some((at, limit)) = self.ends_at
            && now >= at
            && self.state.verdict.is_none()
        {
            self.ends_at = None;
            let cause = format!("the time limit of {} s was reached", limit.as_secs_f64());
            self.fail(blame(exit::TIME_LIMIT, cause, "raise --timeout, or give the job more ranks"));
        }
        if self.state.next_step.is_some_and(|at| now >= at) {
            self.state.next_step = None;
            if self.nobody_left() {
                // Only output is on its way. Its reader may take what time it likes, unless the end was asked for.
                if let Some(signal) = self.state.asked {
                    self.give_up(signal);
                }
                return;
            }
            match self.state.step {
                Step::Running => {
                    // An orderly stop took too long.
                    if let Some(signal) = self.state.asked {
                        self.decide(Verdict::Signalled(signal));
                    }
                    self.go(Step::Term);
                }
                Step::Grace => self.go(Step::Term),
                Step::Term => self.go(Step::Kill),
                Step::Kill | Step::GiveUp => self.go(Step::GiveUp),
            }
        }
    }

    /// Goes on to `step` of the ending, never back.
    fn go(&mut self, step: Step) {
        if step <= self.state.step {
            return;
        }
        self.state.step = step;
        let (signals, patience): (&[Signal], _) = match step {
            Step::Running | Step::GiveUp => (&[], None),
            Step::Grace => (&[], Some(GRACE)),
            // A stopped process takes its SIGTERM only when it goes on.
            Step::Term => (&[Signal::TERM, Signal::CONT], Some(TERM_GRACE)),
            Step::Kill => (&[Signal::KILL], Some(KILL_GRACE)),
        };
        signals.iter().for_each(|signal| self.all(signal.as_raw()));
        // With no rank left, the time for the last output stays as it is.
        if !self.nobody_left() {
            self.state.next_step = patience.map(|p| Instant::now() + p);
        }
    }

    /// Says what became of the job, also if the user wants no remarks. Whoever reads slowly reads it all; whoever asks for
    /// the end, before or now, does not wait for a reader.
    pub(crate) fn last_word(&mut self, text: &str) {
        let hurry = self.state.asked.is_some() || self.state.step == Step::GiveUp;
        let mut until = hurry.then(|| Instant::now() + LAST_WORD);
        let terminal = self.terminal.clone();
        hand::say_while(&terminal, text, || {
            while let Ok(happening) = self.happenings.try_recv() {
                match happening {
                    Happening::Signal(signal) if signal == Signal::TSTP.as_raw() => self.pause(),
                    Happening::Signal(signal) if ends(signal) => {
                        self.state.asked = Some(signal);
                        until = Some(Instant::now());
                    }
                    _ => {}
                }
            }
            until.is_none_or(|until| Instant::now() < until)
        });
    }

    fn all(&self, signal: i32) {
        self.hands.iter().for_each(|hand| hand.signal(signal));
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            hand::say(&self.terminal, text, SAY);
        }
    }
}

/// True if this signal asks for the job's end.
fn ends(signal: i32) -> bool {
    [Signal::INT, Signal::TERM, Signal::HUP].iter().any(|s| s.as_raw() == signal)
}

/// True if a job that failed with this code may have done so because nobody reads its output any more.
fn minds(code: u8) -> bool {
    matches!(code, exit::PANICKED | exit::IO | exit::CANNOT_WRITE)
}

/// True if this names the reader's absence itself as the cause.
fn of_broken_pipe(blame: &Blame) -> bool {
    blame.cause.to_ascii_lowercase().contains("broken pipe")
}

/// True if a rank may have ended like this because nobody reads its output any more. One that has joined tells its job
/// master more.
fn left_with_reader(ended: Ended, joined: bool) -> bool {
    match ended {
        Ended::Signal(by) => by == Signal::PIPE.as_raw(),
        Ended::Code(code) if code == i32::from(READER_GONE) => true,
        // 101: a Rust program without Aeolian that panicked.
        Ended::Code(code) => !joined && (code == 101 || u8::try_from(code).is_ok_and(minds)),
    }
}

/// True if a rank that ended like this did so because of `signal`, by default action or by a shell's convention.
fn followed(ended: Ended, signal: i32) -> bool {
    match ended {
        Ended::Signal(by) => by == signal,
        Ended::Code(code) => code == 128 + signal || code == i32::from(exit::STOPPED),
    }
}

/// A blame that names no rank.
pub(crate) fn blame(code: u8, cause: String, remedy: &str) -> Blame {
    Blame::of_nobody(code, cause, remedy)
}
