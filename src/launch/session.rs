//! Processes that a rank has started in groups of their own (a shell with job control does so): they still belong to the
//! rank's session, and end with it.

use rustix::process::{Pid, Signal, kill_process};

/// Kills what still belongs to the sessions of these leaders. Call it before they are reaped, while their numbers cannot be
/// anyone else's.
pub(crate) fn kill(leaders: &[Pid]) {
    let leaders: Vec<i32> = leaders.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if leaders.contains(&pid) {
            continue;
        }
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if session_of(&stat).is_some_and(|session| leaders.contains(&session))
            && let Some(pid) = Pid::from_raw(pid)
        {
            // Gone already is as good.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

/// From `pid (name) state ppid pgrp session ...`; the name may hold anything, blanks and brackets too.
fn session_of(stat: &str) -> Option<i32> {
    stat.rsplit(')').next()?.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::session_of;

    #[test]
    fn the_session_stands_behind_any_name() {
        assert_eq!(session_of("12 (a) (b c) S 1 10 11 0 -1"), Some(11));
        assert_eq!(session_of("12 (a"), None);
    }
}
