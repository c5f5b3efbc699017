//! The watchman: a tiny process that outlives a launcher (or agent) that was killed, and ends what it left.
//!
//! The kernel ends the ranks themselves when their parent dies (`PR_SET_PDEATHSIG`), but not what they started: the
//! program behind a wrapper script, a helper process. The guard holds the reading end of a pipe and a list of process
//! groups; when the pipe ends, whatever is still on the list is killed.

use rustix::process::{Pid, Signal};
use std::io::{BufRead, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The hidden subcommand that is the guard.
pub(crate) const SUBCOMMAND: &str = "guard";

/// The launcher's side: the writing end of the pipe. The watchman ends with it.
pub(crate) struct Guard(Option<PipeWriter>);

impl Guard {
    /// Starts the watchman; it must be there before the first rank is. Without one (no process to be had) the job runs
    /// all the same.
    pub(crate) fn start() -> Guard {
        // The program of the unit tests has no such subcommand.
        if cfg!(test) {
            return Guard(None);
        }
        let Ok((theirs, ours)) = std::io::pipe() else { return Guard(None) };
        let mut command = Command::new("/proc/self/exe");
        if let Ok(own) = std::env::current_exe() {
            command.arg0(own);
        }
        command.arg(SUBCOMMAND).current_dir("/").process_group(0);
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else { return Guard(None) };
        // It ends when we do, or before: someone must take its status.
        let wait = move || drop(child.wait());
        drop(std::thread::Builder::new().name("guard".into()).stack_size(64 << 10).spawn(wait));
        Guard(Some(ours))
    }

    /// The pipe, for a rank that puts itself on the list with [`enlist`].
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// The group is gone. Call it before the leader is reaped, while its number cannot be anyone else's.
    pub(crate) fn forget(&self, leader: Pid) {
        if let Some(mut pipe) = self.0.as_ref() {
            // Short enough to be written whole. A watchman that is gone needs not be told.
            pipe.write_all(format!("-{}\n", leader.as_raw_nonzero()).as_bytes()).unwrap_or_default();
        }
    }
}

/// Puts the calling process's group, which it leads, on the list. For use between fork and exec: allocates nothing.
pub(crate) fn enlist(pipe: BorrowedFd<'_>) -> std::io::Result<()> {
    let mut line = [0u8; 16];
    let mut rest = &mut line[..];
    writeln!(rest, "+{}", std::process::id())?;
    let length = 16 - rest.len();
    rustix::io::write(pipe, &line[..length])?;
    Ok(())
}

/// The guard's main: ends when the launcher does.
pub(crate) fn serve() -> u8 {
    let mut watched: Vec<Pid> = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Some(leader) = line.get(1..).and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        if line.starts_with('+') {
            watched.push(leader);
        } else {
            watched.retain(|known| *known != leader);
        }
    }
    for leader in &watched {
        // Gone already is as good.
        rustix::process::kill_process_group(*leader, Signal::KILL).unwrap_or_default();
    }
    if !watched.is_empty() {
        super::session::kill(&watched);
    }
    0
}
