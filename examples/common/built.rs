//! The built programs, for tests of what a user sees; each program's `tests/program.rs` includes this file.
#![allow(dead_code)] // each test program uses some of it

use std::path::Path;
use std::process::{Command, Stdio};
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

/// A run of one process that would go on for long stops in good order when it is asked to, as soon as it listens.
pub(crate) fn assert_stops_in_order(program: &str, dir: &Path, args: &[&str]) {
    let mut child = Command::new(program)
        .current_dir(dir)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // SIGUSR1 is the last of the signals that it catches when it first asks whether to stop.
    let listens = |status: String| {
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (rustix::process::Signal::USR1.as_raw() - 1)
            != 0
    };
    let begin = Instant::now();
    while !listens(std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap()) {
        assert!(
            child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(60),
            "it never listened"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(100));
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
