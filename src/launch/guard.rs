//! The watchman: a tiny process that outlives a launcher (or agent) that was killed, and ends what it left.
//!
//! The kernel ends the ranks themselves when their parent dies (`PR_SET_PDEATHSIG`), but not what they started: the
//! program behind a wrapper script, a helper process. The guard holds the reading end of a pipe and a list of process
//! groups; when the pipe ends, whatever is still on the list is killed.

use rustix::process::{Pid, Signal};
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;

/// The hidden subcommand that is the guard.
pub(crate) const SUBCOMMAND: &str = "guard";

/// The launcher's side.
pub(crate) struct Guard(Sender<String>);

impl Guard {
    /// Starts the watchman, beside the ranks. Without one (no process to be had) the job runs all the same.
    pub(crate) fn start() -> Guard {
        let (lines, told) = std::sync::mpsc::channel::<String>();
        let post = move || {
            let mut command = Command::new("/proc/self/exe");
            command.arg0("aeolian").arg(SUBCOMMAND).current_dir("/").process_group(0);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let Ok(mut child) = command.spawn() else { return };
            let Some(mut pipe) = child.stdin.take() else { return };
            // Ends with the last `Guard`, or when the watchman is gone.
            while told.recv().is_ok_and(|line| pipe.write_all(line.as_bytes()).is_ok()) {}
            drop(pipe);
            drop(child.wait());
        };
        drop(std::thread::Builder::new().name("guard".into()).stack_size(128 << 10).spawn(post));
        Guard(lines)
    }

    /// The group that `leader` leads is to be ended with the launcher.
    pub(crate) fn watch(&self, leader: Pid) {
        self.tell('+', leader);
    }

    /// The group is gone. Call it before the leader is reaped, while its number cannot be anyone else's.
    pub(crate) fn forget(&self, leader: Pid) {
        self.tell('-', leader);
    }

    fn tell(&self, sign: char, leader: Pid) {
        self.0.send(format!("{sign}{}\n", leader.as_raw_nonzero())).unwrap_or_default();
    }
}

/// The guard's main: ends when the launcher does.
pub(crate) fn serve() -> u8 {
    let mut watched: Vec<Pid> = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Some(leader) = line.get(1..).and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else { continue };
        if line.starts_with('+') {
            watched.push(leader);
        } else {
            watched.retain(|known| *known != leader);
        }
    }
    for leader in watched {
        // Gone already is as good.
        rustix::process::kill_process_group(leader, Signal::KILL).unwrap_or_default();
    }
    0
}
