//! `aeolian run` with programs that join the job: this test binary itself, started again as a rank.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian_net::control::{Card, Control, ControlConfig, OpName, install_process_hooks, protocol};
use aeolian_net::secret::Secret;
use common::{Done, aeolian, assert_gone, fake_ssh, start, wait_for_lines};
use rustix::process::Signal;
use std::time::Duration;

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What a rank does, by `$ROLE`: not a test, but the program that the tests start.
#[test]
fn as_a_rank() {
    let Ok(role) = std::env::var("ROLE") else { return };
    let rank: u32 = env("AEOLIAN_RANK").parse().unwrap();
    match (role.as_str(), rank) {
        ("some stay away", 1) => std::process::exit(0),
        ("some never come", 1..) => std::thread::sleep(Duration::from_secs(1000)),
        _ => {}
    }
    let secret = Secret::from_fd(env("AEOLIAN_SECRET_FD").parse().unwrap()).unwrap();
    let job = env("AEOLIAN_JOB").parse().unwrap();
    let pending =
        Control::connect(env("AEOLIAN_MASTER").parse().unwrap(), &secret, job, 0, Duration::from_secs(20))
            .unwrap();
    let card = Card {
        rank,
        size: env("AEOLIAN_SIZE").parse().unwrap(),
        host: "here".into(),
        pid: std::process::id(),
        node: "here".into(),
        exe: [1; 32],
        version: protocol::VERSION.into(),
        data: None,
        extra: vec![],
    };
    let config = ControlConfig { exit_on_failure: true, ..ControlConfig::default() };
    let (control, info) = match pending.register(card, config) {
        Ok(joined) => joined,
        Err(e) => std::process::exit(i32::from(e.exit_code())),
    };
    install_process_hooks(&control).unwrap();
    if let Ok(file) = std::env::var("RANKS") {
        use std::io::Write;
        let line = format!("{job} {} {rank}\n", std::process::id());
        std::fs::File::options()
            .append(true)
            .create(true)
            .open(file)
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
    }
    static WORK: OpName = OpName("work");
    match (role.as_str(), rank) {
        ("finish", _) => {
            println!("rank {rank} of {} at {:?}", info.size, info.settings.transport);
        }
        ("leave", 1) => std::process::exit(0),
        ("leave with 9", 1) => std::process::exit(9),
        ("panic", 1) => panic!("for a test"),
        ("heed", _) => {
            while !control.stop_requested() {
                std::thread::sleep(Duration::from_millis(5));
            }
            println!("rank {rank} heeds");
        }
        _ => {
            control.enter(&WORK, 7);
            std::thread::sleep(Duration::from_secs(1000));
        }
    }
    match control.finish() {
        Ok(()) => std::process::exit(0),
        Err(e) => std::process::exit(i32::from(e.exit_code())),
    }
}

/// Runs three ranks in `role`; when all have joined, `harm` comes over them; gives what came of it when nothing is left.
fn job(role: &str, args: &[&str], harm: impl FnOnce(&common::Running, &[i32])) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ranks");
    let own = std::env::current_exe().unwrap();
    let joining = if role.starts_with("some ") { 0 } else { 3 };
    let (role, ranks) = (format!("ROLE={role}"), format!("RANKS={}", file.display()));
    let program = [own.to_str().unwrap(), "--exact", "as_a_rank", "--nocapture", "--test-threads=1", "-q"];
    let args = [&["run", "-x", &role, "-x", &ranks], args, &program].concat();
    let running = start(&mut aeolian(&args));
    let lines = wait_for_lines(&file, joining);
    let pids: Vec<i32> = (0..joining)
        .map(|rank| {
            lines
                .iter()
                .find(|l| l.ends_with(&format!(" {rank}")))
                .unwrap()
                .split(' ')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    harm(&running, &pids);
    let done = running.finish();
    if let Some(line) = lines.first() {
        assert_gone(&line[..32]);
    }
    done
}

fn kill(pid: i32, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn blamed(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code(), code, "{}", done.err);
    for word in words {
        assert!(done.err.contains(word), "no `{word}` in: {}", done.err);
    }
    assert_eq!(done.err.matches("aeolian: error").count(), 1, "one error, once: {}", done.err);
}

#[test]
fn all_finish() {
    let done = job("finish", &["-n", "3", "--transport", "tcp"], |_, _| ());
    assert_eq!(done.code(), 0, "{}", done.err);
    let lines: Vec<_> = done.sorted().into_iter().filter(|l| l.starts_with("rank")).collect();
    assert_eq!(lines, ["rank 0 of 3 at Tcp", "rank 1 of 3 at Tcp", "rank 2 of 3 at Tcp"], "{}", done.err);
}

#[test]
fn a_rank_that_dies_is_blamed_with_its_phase() {
    for victim in 0..3 {
        let mut pid = 0;
        let done = job("work", &["-n", "3"], |_, pids| {
            pid = pids[victim];
            // A heartbeat tells the phase (they come five times in a hang time-out).
            std::thread::sleep(Duration::from_millis(2500));
            kill(pid, Signal::KILL);
        });
        blamed(&done, 80, &[&format!("rank {victim} on"), &format!("(pid {pid})"), "work #7", "SIGKILL"]);
    }
}

#[test]
fn a_stopped_rank_is_found_out() {
    let done = job("work", &["-n", "3", "--hang-timeout", "1s"], |_, pids| kill(pids[1], Signal::STOP));
    blamed(&done, 81, &["rank 1 on", "no sign of life"]);
}

#[test]
fn leaving_early_is_no_success() {
    blamed(&job("leave", &["-n", "3"], |_, _| ()), 82, &["rank 1 on"]);
    blamed(&job("leave with 9", &["-n", "3"], |_, _| ()), 9, &["rank 1 on"]);
    blamed(&job("panic", &["-n", "3"], |_, _| ()), 83, &["rank 1 on", "for a test"]);
}

#[test]
fn if_some_join_all_must() {
    let done = job("some stay away", &["-n", "3"], |_, _| ());
    blamed(&done, 82, &["rank 1 on"]);
}

#[test]
fn the_start_up_time_is_for_programs_that_join() {
    let done = job("some never come", &["-n", "3", "--start-timeout", "500ms"], |_, _| ());
    blamed(&done, 85, &["2 of 3 ranks did not come within 0.5 s: ranks 1-2"]);
    let done = common::run(&["run", "-n", "2", "--start-timeout", "200ms", "sleep", "1"]);
    assert_eq!((done.code(), done.err.as_str()), (0, ""));
}

#[test]
fn the_time_limit_reaches_ranks_that_joined() {
    blamed(&job("work", &["-n", "3", "--timeout", "1s"], |_, _| ()), 87, &["time limit"]);
}

#[test]
fn ctrl_c_stops_in_good_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let done = job("heed", &["-n", "3"], |running, _| running.signal(signal));
        assert_eq!(done.code(), 75, "{}", done.err);
        assert_eq!(done.out.matches("heeds").count(), 3, "{}", done.out);
    }
}

#[test]
fn ctrl_c_ends_a_program_that_does_not_ask() {
    let done = job("work", &["-n", "3"], |running, _| running.signal(Signal::INT));
    assert_eq!(done.code(), 130, "{}", done.err);
    let done = job("work", &["-n", "3"], |running, _| {
        running.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(100));
        running.signal(Signal::INT);
    });
    assert_eq!(done.code(), 130, "{}", done.err);
}

#[test]
fn a_killed_launcher_leaves_no_rank() {
    let done = job("work", &["-n", "3"], |running, _| running.signal(Signal::KILL));
    assert_eq!(done.status.code(), None);
}

#[test]
fn ranks_behind_ssh_join_too() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let hosts = ["--ssh", ssh.to_str().unwrap(), "--interface", "lo", "--host", "n1,localhost,n2"];
    let done = job("finish", &hosts, |_, _| ());
    assert_eq!(done.code(), 0, "{}", done.err);
    let done = job("work", &hosts, |_, pids| kill(pids[2], Signal::KILL));
    blamed(&done, 80, &["rank 2 on", "SIGKILL"]);
}
