//! What the tests of the command share: running it with a time limit, and looking for what it left behind.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

pub mod calls;
pub mod judge;
pub mod site;
pub mod trial;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No test waits longer than this for anything.
pub const LIMIT: Duration = Duration::from_secs(60);

/// `aeolian` with `args`, free of what this process's own environment might say.
pub fn aeolian(args: &[&str]) -> Command {
    let mut command = Command::new(site::tested());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AEOLIAN_")) {
        command.env_remove(name);
    }
    // Nor by what this machine was tuned to.
    command.env("AEOLIAN_TUNE", "off");
    command
}

/// What came of a command.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Its exit code.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("no exit code: {self:?}"))
    }

    /// Its lines of standard output, sorted (ranks may come in any order).
    pub fn sorted(&self) -> Vec<&str> {
        let mut lines: Vec<_> = self.out.lines().collect();
        lines.sort_unstable();
        lines
    }
}

/// A command that runs.
pub struct Running {
    pub child: Child,
    out: JoinHandle<Vec<u8>>,
    err: JoinHandle<Vec<u8>>,
}

/// Starts a command whose output streams are pipes.
pub fn start(command: &mut Command) -> Running {
    fn read(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            from.read_to_end(&mut all).unwrap();
            all
        })
    }
    let mut child = command.spawn().unwrap();
    let (out, err) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    Running { child, out, err }
}

impl Running {
    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end, [`LIMIT`] at most.
    pub fn finish(mut self) -> Done {
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                self.child.kill().unwrap();
                panic!(
                    "not done within {LIMIT:?}; stderr: {}",
                    String::from_utf8_lossy(&self.err.join().unwrap())
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Done { status, out: text(self.out.join().unwrap()), err: text(self.err.join().unwrap()) }
    }
}

/// Runs `aeolian` with `args` to its end.
pub fn run(args: &[&str]) -> Done {
    start(&mut aeolian(args)).finish()
}

/// Runs `aeolian` with `args` and this standard input.
pub fn run_with(args: &[&str], input: &[u8]) -> Done {
    let mut running = start(aeolian(args).stdin(Stdio::piped()));
    let mut to = running.child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(to.write_all(&input)));
    let done = running.finish();
    writer.join().unwrap();
    done
}

/// Waits until `ready` gives something, [`LIMIT`] at most.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < until, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines that ranks wrote to a file, once there are `n`.
pub fn wait_for_lines(file: &Path, n: usize) -> Vec<String> {
    wait_for(&format!("{n} lines in {}", file.display()), || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<_> = text.split_inclusive('\n').filter(|l| l.ends_with('\n')).collect();
        (lines.len() >= n).then(|| lines.iter().map(|l| l.trim().to_string()).collect())
    })
}

/// Processes of the job `id`: all that have it in their environment.
pub fn processes_of(id: &str) -> Vec<(u32, String)> {
    assert_eq!(id.len(), 32, "a job's id has 32 digits, this is {id:?}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|b| *b == 0).any(|v| v == format!("AEOLIAN_JOB={id}").as_bytes()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// The children of process `parent` whose command line ends with the word `last`.
pub fn children_of(parent: u32, last: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state ppid ...": the name may hold anything, blanks and brackets too.
        let ppid = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if ppid == Some(parent) && line.ends_with(format!("\0{last}\0").as_bytes()) {
            found.extend(stat.split(' ').next().and_then(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

/// Waits until nothing of the job is left.
pub fn assert_gone(id: &str) {
    let until = Instant::now() + LIMIT / 4;
    while !processes_of(id).is_empty() {
        assert!(Instant::now() < until, "left of job {id}: {:?}", processes_of(id));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An executable script in `dir`.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// A stand-in for ssh: `HOST COMMAND` runs the command with a shell, here. Hosts called `down...` cannot be reached.
pub fn fake_ssh(dir: &Path) -> PathBuf {
    script(
        dir,
        "fake-ssh",
        "#!/bin/sh\ncase $1 in down*) echo \"ssh: connect to host $1 port 22: No route to host\" >&2; exit 255;; esac\n\
         echo Welcome to $1\nexport FAKE_HOST=$1\nshift\nexec sh -c \"exec $*\"\n",
    )
}
