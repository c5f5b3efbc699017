//! A command under watch: a hard time limit, and afterwards a look for all that it may have left behind.
//!
//! Everything that a trial starts has the trial's mark in its environment, and HOME and TMPDIR of its own.

use super::{Done, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The variable that marks the processes of a trial.
const MARK: &str = "TRIAL_MARK";
/// What is asked to end may take so long until it is gone (the launcher reaps, the guard kills, on busy cores).
const REAPING: Duration = Duration::from_secs(3);

/// Mapped files are looked for so often.
const NOTE: Duration = Duration::from_millis(200);

/// Two trials at a time, whatever the number of test threads: ranks that starve are hung ranks.
static SEATS: (Mutex<u32>, Condvar) = (Mutex::new(2), Condvar::new());

/// The right to run one trial.
struct Seat;

impl Seat {
    fn take() -> Seat {
        let free = SEATS.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = SEATS.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Seat
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *SEATS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        SEATS.1.notify_one();
    }
}

/// A command that runs under watch.
pub struct Trial {
    child: Child,
    command: String,
    mark: String,
    dir: tempfile::TempDir,
    /// What its processes had mapped in /dev/shm when last looked, and when that was.
    shm: BTreeSet<PathBuf>,
    noted: Instant,
    started: Instant,
    limit: Duration,
    over: bool,
    _seat: Seat,
}

/// Starts `command`, which may take `limit`.
pub fn start(mut command: Command, limit: Duration) -> Trial {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let seat = Seat::take();
    let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = tempfile::tempdir().unwrap();
    for name in ["home", "tmp"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    command.env(MARK, &mark).env("HOME", dir.path().join("home")).env("TMPDIR", dir.path().join("tmp"));
    let file = |name: &str| Stdio::from(File::create(dir.path().join(name)).unwrap());
    command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).process_group(0);
    let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Trial {
        child,
        command: format!("{command:?}")
            .chars()
            .rev()
            .take(300)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
        mark,
        dir,
        shm: BTreeSet::new(),
        noted: Instant::now(),
        started: Instant::now(),
        limit,
        over: false,
        _seat: seat,
    }
}

/// Runs `command` to its end, checks that nothing is left, and gives what came of it.
#[track_caller]
pub fn run(command: Command, limit: Duration) -> Done {
    let mut trial = start(command, limit);
    let done = trial.wait();
    trial.assert_clean(&done);
    done
}

impl Trial {
    /// What it has written so far: standard output and standard error.
    pub fn output(&self) -> (String, String) {
        let text =
            |name| String::from_utf8_lossy(&std::fs::read(self.dir.path().join(name)).unwrap()).into_owned();
        (text("out"), text("err"))
    }

    /// Waits until its standard output contains `text`, or it is over.
    pub fn wait_for_output(&mut self, text: &str) {
        let what = format!("{text:?} from {}", self.command);
        wait_for(&what, || {
            let over = self.child.try_wait().unwrap().is_some();
            (over || self.output().0.contains(text)).then_some(())
        });
    }

    /// From now on it may take `limit`.
    pub fn allow(&mut self, limit: Duration) {
        (self.started, self.limit) = (Instant::now(), limit);
    }

    /// Sends a signal to the launcher alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the launcher.
    ///
    /// # Panics
    /// When the time is over; the whole trial is killed first.
    #[track_caller]
    pub fn wait(&mut self) -> Done {
        let Some(status) = self.wait_until(self.started + self.limit) else {
            let left = self.processes();
            self.kill_all();
            let (out, err) = self.output();
            panic!(
                "not done within {:?}: {}\nprocesses: {left:#?}\nout: {out}\nerr: {err}",
                self.limit, self.command
            );
        };
        let (out, err) = self.output();
        Done { status, out, err }
    }

    fn wait_until(&mut self, end: Instant) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.over = true;
                return Some(status);
            }
            if Instant::now() > end {
                return None;
            }
            if self.noted.elapsed() > NOTE {
                self.note_shared_memory();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its processes: id, state and command line.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let mark = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|b| *b == 0).any(|v| v == mark.as_bytes()) {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let state =
                    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).unwrap_or('?');
                found.push((pid, format!("{state} {}", String::from_utf8_lossy(&line).replace('\0', " "))));
            }
        }
        found
    }

    /// Waits until none of its processes is left (a port is left only as long as its process).
    #[track_caller]
    pub fn assert_gone_within(&self, limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            if Instant::now() > end {
                self.kill_all();
                let (out, err) = self.output();
                panic!("left after {limit:?} of {}: {left:#?}\nout: {out}\nerr: {err}", self.command);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Nothing is left: no process, no file in HOME or TMPDIR, no shared memory.
    #[track_caller]
    pub fn assert_clean(&self, done: &Done) {
        self.assert_gone_within(REAPING);
        let files = files_below(self.dir.path(), &["out", "err"]);
        assert!(files.is_empty(), "left by {}: {files:?}\n{done:?}", self.command);
        let orphans = self.left_shared_memory();
        assert!(orphans.is_empty(), "left by {}: {orphans:?}\n{done:?}", self.command);
    }

    /// What its processes had mapped in /dev/shm and is still there. (Others on this machine have shared memory too.)
    pub fn left_shared_memory(&self) -> Vec<PathBuf> {
        self.shm.iter().filter(|file| file.exists()).cloned().collect()
    }

    /// Notes what its processes have mapped in /dev/shm now.
    pub fn note_shared_memory(&mut self) {
        for (pid, _) in self.processes() {
            let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            let files = maps.lines().filter_map(|line| line.find("/dev/shm/").map(|at| &line[at..]));
            self.shm.extend(files.filter(|f| !f.ends_with(" (deleted)")).map(PathBuf::from));
        }
        self.noted = Instant::now();
    }

    fn kill_all(&self) {
        let end = Instant::now() + REAPING;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > end {
                return;
            }
            for (pid, _) in left {
                // Gone already is as good.
                let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.over {
            self.kill_all();
        }
        // Reaped, so that no test leaves a zombie to the next.
        if !self.over {
            drop(self.child.wait());
        }
    }
}

/// All files below `dir`, but those `except`ed at its top. (Empty directories are no harm: MPIs leave some.)
fn files_below(dir: &Path, except: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(files_below(&entry.path(), &[]));
        } else if !except.iter().any(|name| entry.file_name() == *name) {
            found.push(entry.path());
        }
    }
    found
}
