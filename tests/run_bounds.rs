//! `aeolian run` at its limits: readers that are slow, gone or never come; many ranks; what leaves its process group.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::{Running, aeolian, run, start, wait_for};
use rustix::process::Signal;
use std::io::{PipeReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A shell line in which `$A` is the command.
fn shell(line: &str) -> Running {
    let mut command = Command::new("bash");
    command.args(["-c", line]).env("A", common::site::tested()).stdin(Stdio::null());
    start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

#[test]
fn a_slow_reader_gets_every_line() {
    let done = shell("set -o pipefail; $A run -n 2 seq 20000 | (sleep 3; wc -l)").finish();
    assert_eq!((done.code(), done.out.trim()), (0, "40000"), "{}", done.err);
    // Longer than a failed job gets to end: 2 s until SIGTERM, 2 s until SIGKILL, 3 s until it is given up.
    let done = shell("set -o pipefail; $A run -n 1 sh -c 'seq 20000; exit 3' | (sleep 10; wc -l)").finish();
    assert_eq!((done.code(), done.out.trim()), (3, "20000"), "{}", done.err);
    assert!(done.err.contains("code 3"), "{}", done.err);
}

#[test]
fn a_slow_reader_gets_every_line_from_other_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = common::fake_ssh(dir.path()).display().to_string();
    let run = format!("set -o pipefail; $A run --interface 127.0.0.1 --ssh {ssh} --host");
    let done = shell(&format!("{run} n1,n2:2 seq 100000 | (sleep 3; wc -l)")).finish();
    assert_eq!((done.code(), done.out.trim()), (0, "300000"), "{}", done.err);
    // One that goes ends them.
    let done = shell(&format!("{run} n1,n2 yes | head -n 1; echo ${{PIPESTATUS[0]}}")).finish();
    assert_eq!((done.out.as_str(), done.err.as_str()), ("y\n141\n", ""));
    // The end of a rank must be known while what it wrote waits for its reader: the other one hears of it before that.
    let (ended, read) = (dir.path().join("ended"), dir.path().join("read"));
    let ready = dir.path().join("ready").display().to_string();
    let other = format!(
        "trap 'echo >{}; exit 0' TERM; echo >{ready}; while :; do sleep 0.05 & wait; done",
        ended.display()
    );
    let script = common::script(
        dir.path(),
        "plain",
        &format!(
            "#!/bin/sh\n[ $AEOLIAN_RANK = 0 ] && {{ until [ -e {ready} ]; do sleep 0.02; done; seq 50000; exit 3; }}\n{other}\n"
        ),
    );
    let line = format!("{run} n1,n2 {} | (sleep 10; echo >{}; wc -l)", script.display(), read.display());
    let plain = std::thread::spawn(move || shell(&line).finish());
    let script = "seq 10000; exec $A drill --fault error --at 5 >/dev/null";
    let joined = shell(&format!("{run} n1,n2:2 sh -c \"{script}\" | (sleep 10; wc -l)")).finish();
    assert_eq!((joined.code(), joined.out.trim()), (42, "30000"), "{}", joined.err);
    assert!(
        joined.err.contains("the drill's own error") && !joined.err.contains("warning"),
        "{}",
        joined.err
    );
    let plain = plain.join().unwrap();
    assert_eq!((plain.code(), plain.out.trim()), (3, "50000"), "{}", plain.err);
    let at = |file: &Path| file.metadata().unwrap().modified().unwrap();
    assert!(at(&ended) < at(&read), "the other rank heard of it when the reader came");
}

/// A job whose ranks have ended with `code`, and whose output nobody reads.
fn unread(code: u8, json: bool) -> (Child, [PipeReader; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("echo $$ >> $0; seq 20000; exit {code}");
    let mut args = vec!["run", "-n", "1"];
    args.extend(json.then_some("--json"));
    args.extend(["sh", "-c", &script, file.to_str().unwrap()]);
    let ((out, to_out), (err, to_err)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let child = aeolian(&args).stdout(to_out).stderr(to_err).spawn().unwrap();
    let pid = &common::wait_for_lines(&file, 1)[0];
    wait_for("the end of the rank", || (!Path::new("/proc").join(pid).exists()).then_some(()));
    // Until the launcher has the master's word of it, too.
    std::thread::sleep(Duration::from_millis(300));
    (child, [out, err])
}

fn signal(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Its exit code, how long that took and what it wrote to standard error.
fn end(mut child: Child, [_out, mut err]: [PipeReader; 2]) -> (Option<i32>, Duration, String) {
    let begin = Instant::now();
    let status = wait_for("the launcher", || child.try_wait().unwrap());
    let took = begin.elapsed();
    let mut text = String::new();
    err.read_to_string(&mut text).unwrap();
    (status.code(), took, text)
}

#[test]
fn a_signal_ends_the_wait_for_a_reader_and_decides_the_code() {
    for (by, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (child, pipes) = unread(0, true);
        signal(&child, by);
        let (status, took, err) = end(child, pipes);
        assert_eq!(status, Some(code), "its output is not whole: {err}");
        assert!(took < Duration::from_secs(6), "{took:?}");
        let report: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        assert_eq!((&report["outcome"], &report["code"]), (&"stopped".into(), &code.into()));
    }
    // What went wrong before stays the cause.
    let (child, pipes) = unread(3, false);
    signal(&child, Signal::TERM);
    let (status, took, err) = end(child, pipes);
    assert!(status == Some(3) && err.contains("code 3") && took < Duration::from_secs(6), "{took:?} {err}");
}

#[test]
fn a_reader_has_3_s_after_the_last_rank_also_if_the_end_was_asked_for_before() {
    // An end in good order, that of a program without a word on signals, and one with a code of its own.
    let trap = |what: &str| format!("trap 'sleep 0.5; exit {what}' INT TERM");
    let cases = [
        (trap("0"), Signal::INT, 130),
        (trap("0"), Signal::TERM, 143),
        (":".into(), Signal::TERM, 143),
        (trap("3"), Signal::TERM, 3),
    ];
    for (trap, by, code) in cases {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ready");
        let script = format!("{trap}; seq 20000; echo ready >> $0; while :; do sleep 0.05 & wait; done");
        let ((out, to_out), (err, to_err)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let args = ["run", "-n", "1", "sh", "-c", &script, file.to_str().unwrap()];
        let child = aeolian(&args).stdout(to_out).stderr(to_err).spawn().unwrap();
        common::wait_for_lines(&file, 1);
        signal(&child, by);
        let (status, took, err) = end(child, [out, err]);
        assert_eq!(status, Some(code), "{trap}: {err}");
        // A little less: the launcher's clock may begin before ours.
        let span = Duration::from_millis(2500)..Duration::from_secs(8);
        assert!(span.contains(&took), "{trap}, {by:?}: {took:?} {err}");
    }
}

#[test]
fn the_last_word_waits_for_a_reader_until_a_signal_comes() {
    for by in [Signal::INT, Signal::TERM] {
        // Nothing is pending when the rank has ended but the launcher's own word, for which a full pipe has no room.
        let (mut err, to_err) = std::io::pipe().unwrap();
        let full = rustix::pipe::fcntl_getpipe_size(&to_err).unwrap();
        (&to_err).write_all(&vec![b'x'; full]).unwrap();
        let mut child = aeolian(&["run", "-n", "1", "sh", "-c", "exit 3"]).stderr(to_err).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        assert!(child.try_wait().unwrap().is_none(), "a slow reader is waited for");
        let begin = Instant::now();
        signal(&child, by);
        let status = wait_for("the launcher", || child.try_wait().unwrap());
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        assert_eq!(status.code(), Some(3));
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), full);
    }
}

#[test]
fn a_report_larger_than_a_pipe_reaches_a_slow_reader() {
    let hosts: Vec<_> = (0..30).map(|i| format!("n{i}{}", "-long".repeat(50))).collect();
    let dir = tempfile::tempdir().unwrap();
    let ssh = common::fake_ssh(dir.path());
    let line = format!(
        "$A run --json --interface 127.0.0.1 --ssh {} --host {} --oversubscribe -n 300 true 2>&1 | (sleep 3; cat)",
        ssh.display(),
        hosts.join(",")
    );
    let done = shell(&line).finish();
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert!(done.out.len() > 65536 && report["ranks"].as_array().unwrap().len() == 300, "{}", done.out);
}

#[test]
fn ctrl_c_twice_ends_the_wait_for_a_reader_at_once() {
    let (child, pipes) = unread(0, false);
    signal(&child, Signal::INT);
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, Signal::INT);
    let (status, took, err) = end(child, pipes);
    assert!(status == Some(130) && took < Duration::from_secs(2), "{status:?} {took:?} {err}");
}

#[test]
fn a_reader_that_goes_ends_programs_that_print_without_a_word() {
    let done = shell("$A run -n 2 $A selftest | head -n 1; echo ${PIPESTATUS[0]}").finish();
    let lines: Vec<_> = done.out.lines().collect();
    // It may have ended before its reader was missed.
    assert!(lines.len() == 2 && ["0", "141"].contains(&lines[1]), "{:?} {}", lines, done.err);
    assert_eq!(done.err, "");
}

#[test]
fn another_trouble_after_the_reader_went_is_told() {
    // `seq` lets the launcher find out that nobody reads.
    let script = "trap '' PIPE; seq 100000 2>/dev/null; exec $A drill --fault panic >/dev/null";
    let line = format!("$A run -n 2 sh -c \"{script}\" | head -n 1; echo ${{PIPESTATUS[0]}}");
    let done = shell(&line).finish();
    assert_eq!(done.out, "1\n141\n", "{}", done.err);
    let error = done.err.find("aeolian: error: rank 0 on ").unwrap_or_else(|| panic!("{}", done.err));
    assert!(done.err[error..].contains("panicked: drill"), "{}", done.err);
}

#[test]
fn a_full_disk_counts_also_after_the_reader_went() {
    let script = "trap '' PIPE; seq 100000 2>/dev/null; echo for the disk >&2; sleep 100";
    let line = format!("$A run -n 1 sh -c \"{script}\" 2>/dev/full | head -n 1; echo ${{PIPESTATUS[0]}}");
    assert_eq!(shell(&line).finish().out, "1\n73\n");
}

#[test]
fn two_ctrl_c_kill_a_job_whose_output_nobody_reads() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = aeolian(&["run", "-n", "2", "yes"]);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    let mut first = [0; 2];
    reader.read_exact(&mut first).unwrap();
    // Until the pipe is full and all stand still.
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it lives on");
        let _ = rustix::process::kill_process(pid, Signal::INT);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(reader);
}

#[test]
fn more_ranks_than_the_soft_limit_of_files_has_room_for() {
    let line = "ulimit -Sn 256; $A run -n 100 sh -c 'ulimit -Sn' | sort | uniq -c";
    let done = shell(line).finish();
    let words: Vec<_> = done.out.split_whitespace().collect();
    assert_eq!(words, ["100", "256"], "every rank, with the limit as it was: {}", done.err);
}

#[test]
fn what_left_its_process_group_ends_with_its_rank() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = format!("set -m; sleep 3171 & echo $! >{}", file.display());
    let done = run(&["run", "-n", "1", "bash", "-c", &script]);
    assert_eq!(done.code(), 0, "{}", done.err);
    let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    wait_for("the end of what the rank left", || {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (!line.contains("3171")).then_some(())
    });
}

#[test]
fn times_beyond_the_clock_are_no_limit() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = common::fake_ssh(dir.path()).display().to_string();
    let far = ["--ssh", &ssh, "--interface", "127.0.0.1", "--host", "n1,n2"];
    for option in ["--timeout", "--start-timeout", "--hang-timeout"] {
        for time in ["10000000000000000000s", "1e19"] {
            let done = run(&["run", "-n", "1", option, time, "echo", "here"]);
            assert_eq!((done.code(), done.out.as_str()), (0, "here\n"), "{option} {time}: {}", done.err);
        }
        let program = [common::site::tested(), "drill", "--fault", "none", "--seconds", "0.1"];
        let done = run(&[&["run"], &far[..], &[option, "1e19"], &program].concat());
        assert!(done.code() == 0 && !done.err.contains("panicked"), "{option}: {} {}", done.code(), done.err);
    }
}
