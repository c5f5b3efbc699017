//! What a rank's end, and what standing still, means for the job.

use super::{Action, Outcome, Rank, RankExit, State, list};
use crate::control::protocol::signal_name;
use crate::error::{ALL_WAIT, Blame};
use crate::exit;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the launcher's word about an ended process is waited for (on busy cores it is not at once).
const EXIT_REPORT: Duration = Duration::from_secs(2);

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

impl State {
    pub(super) fn deadlock(&mut self, now: Instant, hang: Duration, out: &mut Vec<Action>) {
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
            self.fail(Blame::of_nobody(exit::MISMATCH, cause, ALL_WAIT), out);
        }
    }

    /// Looks whether what is known of a rank's end is enough to decide.
    pub(super) fn judge(&mut self, now: Instant, rank: u32, out: &mut Vec<Action>) {
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
                    self.ended(rank, code, "after it had said FINISHED", out);
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
                    self.mixed(out);
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
    pub(super) fn settle(&mut self) {
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
    pub(super) fn mixed(&mut self, out: &mut Vec<Action>) {
        let plain = |r: &Rank| r.card.is_none() && matches!(r.exit, Some((RankExit::Code(0), _)));
        if self.ranks.iter().all(plain) {
            self.outcome.get_or_insert(Outcome::Finished);
        } else if self.first_registered.is_some()
            && let Some(rank) = self.ranks.iter().position(plain)
        {
            self.left(rank as u32, Some(0), out);
        }
    }

    pub(super) fn left(&mut self, rank: u32, code: Option<i32>, out: &mut Vec<Action>) {
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
            Some(code) => self.ended(rank, code, "before the job was finished", out),
        }
    }

    /// With a code that is no success.
    fn ended(&mut self, rank: u32, code: i32, when: &str, out: &mut Vec<Action>) {
        let cause = format!("ended with code {code} {when}");
        let remedy = "the code is the program's own: see its output above";
        self.fail_rank(rank, code as u8, cause, remedy, out);
    }
}
