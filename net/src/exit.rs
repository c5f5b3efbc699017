//! The exit codes of a job, the same on every transport and launcher.
//!
//! A user's own code is kept whenever a rank ended by it (`exit(3)` ends the job with 3). The codes here are what
//! Aeolian itself ends with; they lie where neither shells (126-165) nor common programs (1, 2) put theirs. 64-78 are
//! those of BSD's `sysexits.h`.

/// Everything went well: every rank said FINISHED.
pub const OK: u8 = 0;
/// The program returned an error of its own without a code of its own.
pub const PROGRAM: u8 = 1;
/// Wrong command line (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Input that cannot be used: ragged row, text in a number, NaN (`EX_DATAERR`).
pub const DATA: u8 = 65;
/// Input that is not there or cannot be read (`EX_NOINPUT`).
pub const NO_INPUT: u8 = 66;
/// A host name that does not resolve or cannot be reached (`EX_NOHOST`).
pub const NO_HOST: u8 = 68;
/// An internal error of Aeolian: please report it (`EX_SOFTWARE`).
pub const INTERNAL: u8 = 70;
/// The operating system refused something: fork, memory map, file descriptors (`EX_OSERR`).
pub const OS: u8 = 71;
/// Output that cannot be written (`EX_CANTCREAT`).
pub const CANNOT_WRITE: u8 = 73;
/// A read or write failed half-way (`EX_IOERR`).
pub const IO: u8 = 74;
/// Stopped in good order before the end, by request or because time ran out: may be run again (`EX_TEMPFAIL`).
pub const STOPPED: u8 = 75;
/// A peer broke the protocol: damaged frame, wrong epoch, other version or other binary (`EX_PROTOCOL`).
pub const PROTOCOL: u8 = 76;
/// A peer could not prove that it belongs to the job (`EX_NOPERM`).
pub const NOT_ALLOWED: u8 = 77;
/// Launcher and MPI disagree, or a setting makes no sense (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
/// A rank is lost: killed by a signal, its host gone, or its connection broken.
pub const RANK_LOST: u8 = 80;
/// A rank gave no sign of life for the hang time-out (stopped, swapped out, host frozen).
pub const RANK_HUNG: u8 = 81;
/// A rank left with code 0 without having said FINISHED.
pub const LEFT_EARLY: u8 = 82;
/// A rank panicked.
pub const PANICKED: u8 = 83;
/// Ranks are in different collectives, or all wait for one another.
pub const MISMATCH: u8 = 84;
/// Not all ranks came within the start-up time.
pub const NOT_ALL_CAME: u8 = 85;
/// The job master is gone (its process, or the host it ran on).
pub const MASTER_LOST: u8 = 86;
/// The time limit given with `--timeout` was reached.
pub const TIME_LIMIT: u8 = 87;
/// Ended by Ctrl-C (128 + SIGINT, as shells say it).
pub const INTERRUPTED: u8 = 130;
/// Ended by SIGTERM (128 + SIGTERM).
pub const TERMINATED: u8 = 143;

/// Every code with its name and meaning, in ascending order: the table that the book prints.
pub const TABLE: &[(u8, &str, &str)] = &[
    (OK, "OK", "every rank said FINISHED"),
    (PROGRAM, "PROGRAM", "the program returned an error without a code of its own"),
    (USAGE, "USAGE", "wrong command line"),
    (DATA, "DATA", "input that cannot be used (ragged row, text in a number, NaN)"),
    (NO_INPUT, "NO_INPUT", "input that is not there or cannot be read"),
    (NO_HOST, "NO_HOST", "a host that does not resolve or cannot be reached"),
    (INTERNAL, "INTERNAL", "an internal error of Aeolian: please report it"),
    (OS, "OS", "the operating system refused something (fork, memory, descriptors)"),
    (CANNOT_WRITE, "CANNOT_WRITE", "output that cannot be written"),
    (IO, "IO", "a read or write failed half-way"),
    (STOPPED, "STOPPED", "stopped in good order before the end; may be run again"),
    (PROTOCOL, "PROTOCOL", "a peer broke the protocol (damaged frame, wrong epoch, other version or binary)"),
    (NOT_ALLOWED, "NOT_ALLOWED", "a peer could not prove that it belongs to the job"),
    (CONFIG, "CONFIG", "launcher and MPI disagree, or a setting makes no sense"),
    (RANK_LOST, "RANK_LOST", "a rank was killed, or its host or connection is gone"),
    (RANK_HUNG, "RANK_HUNG", "a rank gave no sign of life for the hang time-out"),
    (LEFT_EARLY, "LEFT_EARLY", "a rank left with code 0 without having said FINISHED"),
    (PANICKED, "PANICKED", "a rank panicked"),
    (MISMATCH, "MISMATCH", "ranks are in different collectives, or all wait for one another"),
    (NOT_ALL_CAME, "NOT_ALL_CAME", "not all ranks came within the start-up time"),
    (MASTER_LOST, "MASTER_LOST", "the job master is gone"),
    (TIME_LIMIT, "TIME_LIMIT", "the time limit given with --timeout was reached"),
    (INTERRUPTED, "INTERRUPTED", "ended by Ctrl-C"),
    (TERMINATED, "TERMINATED", "ended by SIGTERM"),
];

/// The name of a code of [`TABLE`], if it is one.
///
/// ```
/// assert_eq!(aeolian_net::exit::name(82), Some("LEFT_EARLY"));
/// assert_eq!(aeolian_net::exit::name(3), None);
/// ```
pub fn name(code: u8) -> Option<&'static str> {
    TABLE.iter().find(|row| row.0 == code).map(|row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_ascending_and_leaves_user_codes_alone() {
        assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
        assert!(TABLE.iter().all(|r| r.0 <= 1 || r.0 >= 64), "2-63 belong to the user's program");
    }
}
