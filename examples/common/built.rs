//! The built programs, for tests of what a user sees; each program's `tests/program.rs` includes this file.
#![allow(dead_code)] // each test program uses some of it

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a program in `dir`; returns its exit code (-1 after a signal) and what it wrote to standard output and error.
pub(crate) fn run(program: &str, dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = Command::new(program).current_dir(dir).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

/// Each of `cases` (arguments, exit code, words) ends with that code, these words and a help, and leaves nothing in `dir`.
pub(crate) fn assert_mistakes(program: &str, dir: &Path, cases: &[(&[&str], i32, &str)]) {
    let before = std::fs::read_dir(dir).unwrap().count();
    for (args, code, want) in cases {
        let (got, _, text) = run(program, dir, args);
        assert!(
            got == *code && text.contains(want),
            "{args:?}: code {got}, said: {text}\nwanted {code}: {want}"
        );
        assert!(text.contains("help: ") || text.contains("--help"), "{args:?}: no help in {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), before, "nothing is left behind");
}

/// Starts a program in `dir`, with nothing to read its standard output.
pub(crate) fn start(program: &str, dir: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.current_dir(dir).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until a program that goes on is as wanted.
pub(crate) fn wait_until(child: &mut Child, mut ready: impl FnMut(u32) -> bool) {
    let begin = Instant::now();
    while !ready(child.id()) {
        let goes_on = child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(60);
        if !goes_on {
            let _ = child.kill();
        }
        assert!(goes_on, "it came to its end, or never so far");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process has written so many bytes to a file that has no name.
pub(crate) fn writes_unnamed(pid: u32, bytes: u64) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.map(|entry| entry.path()).any(|fd| {
        let to = std::fs::read_link(&fd).unwrap_or_default();
        let to = to.to_string_lossy();
        let is_unnamed = to.ends_with("(deleted)") && !to.starts_with("/memfd:");
        is_unnamed && std::fs::metadata(&fd).is_ok_and(|meta| meta.is_file() && meta.len() >= bytes)
    })
}

/// Asks a program to stop; it does in good order.
pub(crate) fn assert_stops(mut child: Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(75) && text.contains("stopped on request"), "{} {text}", out.status);
}

/// A run of one process that would go on for long stops in good order when it is asked to, as soon as it listens.
pub(crate) fn assert_stops_in_order(program: &str, dir: &Path, args: &[&str]) {
    let mut child = start(program, dir, args);
    // SIGUSR1 is the last of the signals that it catches when it first asks whether to stop.
    wait_until(&mut child, |pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (rustix::process::Signal::USR1.as_raw() - 1)
            != 0
    });
    std::thread::sleep(Duration::from_millis(100));
    assert_stops(child);
}

/// Of a run that is killed while it writes, nothing is left in `dir`, whose file system has files without names.
pub(crate) fn assert_killed_leaves_nothing(program: &str, dir: &Path, args: &[&str]) {
    let before = std::fs::read_dir(dir).unwrap().count();
    let mut child = start(program, dir, args);
    wait_until(&mut child, |pid| writes_unnamed(pid, 1 << 20));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), before, "{args:?}: something is left");
}
