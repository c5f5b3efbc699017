//! The master's sentences: causes and remedies.

use std::time::Duration;

use super::ranks::RankExit;
use crate::control::protocol::signal_name;
use crate::exit;

/// Code, cause and remedy for a process that ended too early (or badly, after it had finished).
pub(crate) fn exit_words(how: RankExit, finished: bool) -> (u8, String, String) {
    let when = if finished { "after it had finished" } else { "before the job was finished" };
    match how {
        RankExit::Signal(signal) => {
            let remedy = match signal {
                libc::SIGKILL => {
                    "out of memory? see dmesg or the scheduler's report (sacct); use more nodes or fewer ranks a node"
                }
                libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE => {
                    "a crash in native code: run it again with `ulimit -c unlimited` and look at the core file"
                }
                libc::SIGABRT => "the program aborted: its own message stands above",
                libc::SIGXCPU | libc::SIGXFSZ => {
                    "a limit of the shell or scheduler was reached: see `ulimit -a`"
                }
                _ => "somebody or the scheduler sent this signal: see the scheduler's report",
            };
            let name = signal_name(signal);
            let cause = if name.starts_with("signal") {
                format!("killed by {name} {when}")
            } else {
                format!("killed by signal {signal} ({name}) {when}")
            };
            (exit::RANK_LOST, cause, remedy.into())
        }
        RankExit::Code(code) => code_words(code, finished),
    }
}

/// As [`exit_words`], for an exit code.
pub(crate) fn code_words(code: i32, finished: bool) -> (u8, String, String) {
    let when = if finished { "after it had finished" } else { "before the job was finished" };
    match (code & 0xff) as u8 {
        0 => (
            exit::LEFT_EARLY,
            format!("exited with code 0 {when}"),
            "a rank must return from `main` through `World::finish`; look for an early `return` or `exit(0)`"
                .into(),
        ),
        code => {
            let name =
                exit::name(code).filter(|_| code > 1).map_or(String::new(), |name| format!(" ({name})"));
            (
                code,
                format!("exited with code {code}{name} {when}"),
                "the rank's own message stands above".into(),
            )
        }
    }
}

/// `rank 3`, `ranks 0-2, 5`: folded, and cut after eight runs.
pub(crate) fn fold(ranks: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &rank in ranks {
        match runs.last_mut() {
            Some(run) if run.1 + 1 == rank => run.1 = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let mut parts: Vec<String> =
        runs.iter().take(8).map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    if runs.len() > 8 {
        parts.push("...".into());
    }
    format!("{} {}", if ranks.len() == 1 { "rank" } else { "ranks" }, parts.join(", "))
}

/// `10 s`, `0.5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// `rank 0 is in allreduce #7, ranks 1-3 in barrier #7, rank 4 has finished`.
pub(crate) fn whereabouts(groups: &[(String, Vec<u32>)]) -> String {
    let mut text = String::new();
    for (i, (place, ranks)) in groups.iter().take(6).enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(&fold(ranks));
        let many = ranks.len() > 1;
        if place == "finished" {
            text.push_str(if many { " have finished" } else { " has finished" });
        } else {
            text.push_str(match (i, many) {
                (0, false) => " is in ",
                (0, true) => " are in ",
                _ => " in ",
            });
            text.push_str(place);
        }
    }
    if groups.len() > 6 {
        text.push_str(&format!(", and {} more places", groups.len() - 6));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fold() {
        assert_eq!(fold(&[3]), "rank 3");
        assert_eq!(fold(&[0, 1, 2, 5]), "ranks 0-2, 5");
        let odd: Vec<u32> = (0..40).map(|i| 2 * i).collect();
        assert_eq!(fold(&odd), "ranks 0, 2, 4, 6, 8, 10, 12, 14, ...");
    }

    #[test]
    fn exits_have_names() {
        assert_eq!(
            exit_words(RankExit::Signal(9), false).1,
            "killed by signal 9 (SIGKILL) before the job was finished"
        );
        assert_eq!(code_words(3, false).1, "exited with code 3 before the job was finished");
        assert_eq!(code_words(78, false).1, "exited with code 78 (CONFIG) before the job was finished");
        assert_eq!(code_words(0, false).0, exit::LEFT_EARLY);
        assert_eq!(code_words(256, false).0, exit::LEFT_EARLY, "only the low byte counts");
    }
}
