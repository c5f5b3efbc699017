//! `aeolian run` when something goes wrong: exit codes, messages, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::{Done, aeolian, assert_gone, fake_ssh, run, start, wait_for_lines};
use rustix::process::Signal;
use std::path::Path;

/// Each rank says who it is in the file $0 and then waits, with a child of its own that waits too.
const WAIT: &str = "echo $AEOLIAN_JOB $$ $AEOLIAN_RANK >> $0; sleep 1000 & sleep 1000";

// A shell that waits for a signal here does so with `sleep 0.05 & wait`, or gets a moment to settle: dash loses a SIGINT
// that comes while it starts a command (it is in vfork then).

/// The job's id and the process of each rank, once `n` ranks have said so.
fn ranks(file: &Path, n: usize) -> (String, Vec<(u32, i32)>) {
    let lines = wait_for_lines(file, n);
    let mut ranks = Vec::new();
    let mut job = String::new();
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        job = words[0].to_string();
        ranks.push((words[2].parse().unwrap(), words[1].parse().unwrap()));
    }
    ranks.sort_unstable();
    (job, ranks)
}

/// Starts `aeolian run ARGS sh -c SCRIPT FILE`, waits for `n` ranks, does `harm`, and gives what came of it when
/// nothing of the job is left.
fn harmed(args: &[&str], script: &str, n: usize, harm: impl FnOnce(&common::Running, &[(u32, i32)])) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ranks");
    let args = [&["run"], args, &["sh", "-c", script, file.to_str().unwrap()]].concat();
    let running = start(&mut aeolian(&args));
    let (job, ranks) = ranks(&file, n);
    harm(&running, &ranks);
    let done = running.finish();
    assert_gone(&job);
    done
}

fn kill(pid: i32, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn the_programs_own_code_is_kept_and_the_others_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ranks");
    std::fs::write(&file, "").unwrap();
    // Not before the others have said that they are there.
    let script = format!(
        "[ $AEOLIAN_RANK = 1 ] && {{ until [ $(wc -l <$0) -ge 2 ]; do sleep 0.02; done; exit 37; }}; {WAIT}"
    );
    let done = run(&["run", "-n", "3", "sh", "-c", &script, file.to_str().unwrap()]);
    assert_eq!(done.code(), 37, "{}", done.err);
    assert!(done.err.contains("rank 1 on localhost (pid "), "{}", done.err);
    assert_eq!(done.err.matches("error").count(), 1, "one error, once: {}", done.err);
    assert_gone(&ranks(&file, 2).0);
}

#[test]
fn a_killed_rank_is_named_and_the_others_end() {
    for victim in 0..3 {
        let mut pid = 0;
        let done = harmed(&["-n", "3"], WAIT, 3, |_, ranks| {
            pid = ranks[victim].1;
            kill(pid, Signal::KILL);
        });
        assert_eq!(done.code(), 80, "{}", done.err);
        assert!(done.err.contains(&format!("rank {victim} on localhost (pid {pid})")), "{}", done.err);
        assert!(done.err.contains("SIGKILL"), "{}", done.err);
    }
}

#[test]
fn ranks_that_ignore_sigterm_are_killed() {
    let script = format!("trap '' TERM; {WAIT}");
    let done = harmed(&["-n", "2", "--timeout", "3s"], &script, 2, |_, _| {});
    assert_eq!(done.code(), 87, "{}", done.err);
    assert!(done.err.contains("time limit of 3 s"), "{}", done.err);
}

#[test]
fn stopped_ranks_end_with_the_job() {
    let done = harmed(&["-n", "2"], WAIT, 2, |_, ranks| {
        kill(ranks[0].1, Signal::STOP);
        kill(ranks[1].1, Signal::KILL);
    });
    assert_eq!(done.code(), 80, "{}", done.err);
}

#[test]
fn a_killed_launcher_leaves_nothing() {
    let done = harmed(&["-n", "2"], WAIT, 2, |running, _| running.signal(Signal::KILL));
    assert_eq!(done.status.code(), None);
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = ["--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1,localhost,n2"];
    harmed(&args, WAIT, 3, |running, _| running.signal(Signal::KILL));
}

#[test]
fn ctrl_c_once_ends_a_plain_program_by_sigint() {
    let done = harmed(&["-n", "2"], WAIT, 2, |running, _| {
        // dash loses a SIGINT that comes while it starts a command.
        std::thread::sleep(std::time::Duration::from_millis(500));
        running.signal(Signal::INT);
    });
    assert_eq!(done.code(), 130, "{}", done.err);
    assert!(done.err.contains("Ctrl-C again"), "{}", done.err);
    // A program that takes its leave in order has done what was asked.
    let script = "trap 'echo bye; exit 0' INT; echo $AEOLIAN_JOB $$ $AEOLIAN_RANK >> $0; while :; do sleep 0.05 & wait; done";
    let done = harmed(&["-n", "2"], script, 2, |running, _| running.signal(Signal::INT));
    assert_eq!(done.out, "bye\nbye\n", "{}", done.err);
}

#[test]
fn ctrl_c_twice_kills() {
    let script = format!("trap '' INT TERM; {WAIT}");
    let done = harmed(&["-n", "2"], &script, 2, |running, _| {
        // Two signals that come together are one.
        running.signal(Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(800));
        running.signal(Signal::INT);
    });
    assert_eq!(done.code(), 130, "{}", done.err);
    assert!(done.err.contains("killing the job"), "{}", done.err);
}

#[test]
fn sigterm_after_ctrl_c_ends_at_once() {
    let begin = std::time::Instant::now();
    let done = harmed(&["-n", "2"], &format!("trap '' INT; {WAIT}"), 2, |running, _| {
        running.signal(Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(500));
        running.signal(Signal::TERM);
    });
    assert_eq!(done.code(), 143, "{}", done.err);
    assert!(done.err.contains("ended by SIGTERM"), "{}", done.err);
    assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn ctrl_c_reaches_a_process_that_stays_after_all_have_finished() {
    let aeolian_itself = common::site::tested();
    // Both ranks join and say FINISHED; one's process goes on.
    let script = format!(
        "{aeolian_itself} drill --fault none --seconds 0.1 >/dev/null; [ $AEOLIAN_RANK = 0 ] && exit; {WAIT}"
    );
    let done = harmed(&["-n", "2"], &script, 1, |running, _| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        running.signal(Signal::INT);
    });
    assert_eq!(done.code(), 130, "{}", done.err);
    assert!(!done.err.contains("killing") && !done.err.contains("error"), "{}", done.err);
}

#[test]
fn ctrl_c_works_while_nobody_reads_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let file = dir.path().join("ranks");
    let script = "trap '' INT TERM; echo $AEOLIAN_JOB $$ $AEOLIAN_RANK >> $0; yes";
    let args = [
        "run",
        "--ssh",
        ssh.to_str().unwrap(),
        "--interface",
        "127.0.0.1",
        "--host",
        "localhost,n1",
        "sh",
        "-c",
        script,
    ];
    // The pipes of the child are open, and nobody reads.
    let mut child = aeolian(&[&args[..], &[file.to_str().unwrap()]].concat()).spawn().unwrap();
    let job = ranks(&file, 2).0;
    std::thread::sleep(std::time::Duration::from_millis(300));
    for _ in 0..2 {
        kill(child.id() as i32, Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(800));
    }
    let status = common::wait_for("the launcher", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert_gone(&job);
}

#[test]
fn sigterm_is_passed_on() {
    let done = harmed(&["-n", "2"], WAIT, 2, |running, _| running.signal(Signal::TERM));
    assert_eq!(done.code(), 143, "{}", done.err);
}

#[test]
fn other_signals_are_passed_on_and_end_nothing() {
    let script = "trap 'echo usr1; exit 0' USR1; echo $AEOLIAN_JOB $$ $AEOLIAN_RANK >> $0; while :; do sleep 0.05 & wait; done";
    let done = harmed(&["-n", "2"], script, 2, |running, _| running.signal(Signal::USR1));
    assert_eq!((done.code(), done.out.as_str()), (0, "usr1\nusr1\n"), "{}", done.err);
}

#[test]
fn ctrl_z_stops_all_and_fg_goes_on() {
    let state = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next())
    };
    let script =
        "echo $AEOLIAN_JOB $$ $AEOLIAN_RANK >> $0; while [ ! -e $0.go ]; do sleep 0.02; done; echo went on";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ranks");
    let running = start(&mut aeolian(&["run", "-n", "2", "sh", "-c", script, file.to_str().unwrap()]));
    let (job, ranks) = ranks(&file, 2);
    running.signal(Signal::TSTP);
    let all: Vec<_> = ranks.iter().map(|r| r.1).chain([running.child.id() as i32]).collect();
    // D is a shell that waits for its child to get from vfork to exec, which the child does when it goes on.
    let stopped = |pid: &i32| matches!(state(*pid), Some('T' | 'D'));
    common::wait_for("all to stop", || all.iter().all(stopped).then_some(()));
    std::fs::write(dir.path().join("ranks.go"), "").unwrap();
    running.signal(Signal::CONT);
    let done = running.finish();
    assert_eq!((done.code(), done.out.as_str()), (0, "went on\nwent on\n"), "{}", done.err);
    assert_gone(&job);
}

#[test]
fn what_a_rank_leaves_running_is_ended() {
    let script = "echo $AEOLIAN_JOB $$ $AEOLIAN_RANK >> $0; sleep 1000 >/dev/null 2>&1 & sleep 1000 & exit 0";
    let done = harmed(&["-n", "2"], script, 2, |_, _| {});
    assert_eq!(done.code(), 0, "{}", done.err);
}

#[test]
fn a_lost_connection_ends_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args =
        ["--json", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1,localhost"];
    let done = harmed(&args, WAIT, 2, |running, _| {
        // The stand-in for ssh has become the agent.
        let agents = common::children_of(running.child.id(), "agent");
        assert_eq!(agents.len(), 1);
        kill(agents[0], Signal::KILL);
    });
    assert_eq!(done.code(), 80, "{}", done.err);
    assert!(done.err.contains("rank 0 on n1") && done.err.contains("lost its host"), "{}", done.err);
    let report: serde_json::Value = serde_json::from_str(done.err.lines().last().unwrap()).unwrap();
    let (lost, other) = (&report["ranks"][0], &report["ranks"][1]);
    assert!(lost["lost"] == true && lost.get("signal").is_none() && lost.get("exit").is_none(), "{lost}");
    assert!(other.get("lost").is_none() && other["signal"] == 15, "{other}");
}

#[test]
fn a_program_that_cannot_be_executed_on_another_host_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    // It is there and executable, but what is to interpret it is not.
    let program = common::script(dir.path(), "program", "#!/no/such\n");
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host"];
    // What the agent says of it and what its ranks say go out in any order.
    for hosts in ["n1", "n1:3", "n1:3,n2"].repeat(4) {
        let done = run(&[&args[..], &[hosts, program.to_str().unwrap()]].concat());
        assert_eq!(done.code(), 71, "{hosts}: {}", done.err);
        assert!(done.err.contains("cannot be started: starting rank"), "{hosts}: {}", done.err);
        assert_eq!(done.err.matches("error:").count(), 1, "{hosts}: {}", done.err);
    }
}

#[test]
fn an_agent_that_is_done_without_a_word_on_its_ranks_is_a_lost_host() {
    let dir = tempfile::tempdir().unwrap();
    // The greeting, then the frames Ready and Done.
    let text =
        "#!/bin/sh\nprintf '\\naeolian agent 1\\n\\1\\0\\0\\0\\0\\1\\0\\0\\0\\6'\nexec cat >/dev/null\n";
    let ssh = common::script(dir.path(), "hasty", text);
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1:2", "true"];
    let done = run(&args);
    assert_eq!(done.code(), 80, "{}", done.err);
    assert!(done.err.contains("rank 0 on n1") && done.err.contains("agent is done"), "{}", done.err);
}

#[test]
fn a_killed_rank_behind_ssh_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = ["--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1,n2"];
    let done = harmed(&args, WAIT, 2, |_, ranks| kill(ranks[1].1, Signal::SEGV));
    assert_eq!(done.code(), 80, "{}", done.err);
    assert!(done.err.contains("rank 1 on n2") && done.err.contains("SIGSEGV"), "{}", done.err);
}

#[test]
fn all_bad_hosts_are_listed_and_nothing_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let mark = dir.path().join("mark");
    let args = [
        "run",
        "--ssh",
        ssh.to_str().unwrap(),
        "--interface",
        "127.0.0.1",
        "--host",
        "n1,down1,localhost,down2",
    ];
    let done = run(&[&args[..], &["touch", mark.to_str().unwrap()]].concat());
    assert_eq!(done.code(), 68, "{}", done.err);
    for host in ["down1", "down2"] {
        assert!(
            done.err.contains(&format!("{host}: ssh: connect to host {host} port 22: No route to host")),
            "{}",
            done.err
        );
    }
    assert!(!done.err.contains(" n1:") && done.err.contains("2 hosts"), "{}", done.err);
    assert!(!mark.exists());
}

#[test]
fn a_silent_host_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = common::script(dir.path(), "silent", "#!/bin/sh\nexec sleep 1000\n");
    let args = [
        "run",
        "--ssh",
        ssh.to_str().unwrap(),
        "--interface",
        "127.0.0.1",
        "--host",
        "n1",
        "--start-timeout",
        "1s",
    ];
    let done = run(&[&args[..], &["true"]].concat());
    assert_eq!(done.code(), 68, "{}", done.err);
    assert!(done.err.contains("n1: no answer within 1 s"), "{}", done.err);
}

#[test]
fn a_host_that_does_not_take_its_order_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    // More than a pipe and the buffers of an ssh hold.
    let long = "x".repeat(100_000);
    for (name, text) in [
        ("silent", "#!/bin/sh\nexec sleep 1000\n"),
        ("deaf", "#!/bin/sh\nprintf '\\naeolian agent 1\\n'\nexec sleep 1000\n"),
    ] {
        let ssh = common::script(dir.path(), name, text);
        let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1,n2"];
        let args = [&args[..], &["--start-timeout", "1s", "true", &long, &long, &long]].concat();
        let begin = std::time::Instant::now();
        let done = run(&args);
        assert_eq!(done.code(), 68, "{name}: {}", done.err);
        assert!(done.err.contains("n1: no answer within 1 s") && done.err.contains("n2: no"), "{}", done.err);
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{name}: {:?}", begin.elapsed());
    }
}

#[test]
fn an_order_of_another_version_is_refused_by_name() {
    let order = b"{\"protocol\":1}";
    let frame = [&(order.len() as u32).to_le_bytes(), &order[..]].concat();
    let done = common::run_with(&["agent"], &frame);
    assert_eq!(done.code(), 76, "{}", done.err);
    assert!(done.out.contains("another version of aeolian is there"), "{} {}", done.out, done.err);
    assert!(
        done.out.contains("protocol 1\n") && done.out.contains(env!("CARGO_PKG_VERSION")),
        "{}",
        done.out
    );
}

#[test]
fn an_agent_that_does_not_understand_its_order_may_be_another_version() {
    let dir = tempfile::tempdir().unwrap();
    for (name, end) in [
        ("older", "echo 'aeolian agent: missing field' >&2; exit 76"),
        // A frame that is none of ours.
        ("newer", "printf '\\1\\0\\0\\0\\143'; exec cat >/dev/null"),
    ] {
        let text = format!("#!/bin/sh\nprintf '\\naeolian agent 1\\n'\n{end}\n");
        let ssh = common::script(dir.path(), name, &text);
        let args =
            ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1", "true"];
        let done = run(&args);
        assert_eq!(done.code(), 76, "{name}: {}", done.err);
        let version = concat!("aeolian ", env!("CARGO_PKG_VERSION"));
        assert!(done.err.contains("another version") && done.err.contains(version), "{name}: {}", done.err);
        assert!(!done.err.contains("BatchMode"), "{name}: {}", done.err);
    }
}

#[test]
fn a_connection_that_drops_before_the_agent_is_ready_is_a_host_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let closed = "echo 'Connection to n1 closed by remote host.' >&2; exit 255";
    for (name, end) in [
        ("closed", closed.to_string()),
        ("in-a-frame", format!("printf '\\5\\0\\0\\0\\1'; {closed}")),
        ("killed", "kill -9 $$".to_string()),
    ] {
        let text = format!("#!/bin/sh\nprintf '\\naeolian agent 1\\n'\n{end}\n");
        let ssh = common::script(dir.path(), name, &text);
        let args =
            ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1", "true"];
        let done = run(&args);
        assert_eq!(done.code(), 68, "{name}: {}", done.err);
        assert!(done.err.contains("n1: the connection ended before"), "{name}: {}", done.err);
        assert!(done.err.contains("BatchMode"), "{name}: {}", done.err);
        assert!(name == "killed" || done.err.contains("closed by remote host"), "{name}: {}", done.err);
    }
}

#[test]
fn large_orders_arrive_and_too_large_ones_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1,n2", "sh"];
    let (text, control) = ("x".repeat(100_000), "\u{1}".repeat(100_000));
    let large = [&args[..], &["-c", "echo $#", "sh"], &[text.as_str(); 15]].concat();
    let done = run(&large);
    assert_eq!((done.code(), done.out.as_str()), (0, "15\n15\n"), "{}", done.err);
    // JSON has six characters for each of these.
    let done = run(&[&args[..], &["-c", "echo $#", "sh"], &[control.as_str(); 9]].concat());
    assert_eq!((done.code(), done.out.as_str()), (64, ""), "{}", done.err);
    assert!(done.err.contains("the order for n1 is too large") && done.err.contains("help:"), "{}", done.err);
}

#[test]
fn arguments_of_any_bytes_reach_ranks_behind_ssh() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1"];
    let script = "printf %s \"$1\" | od -An -tx1";
    let mut command = aeolian(&[&args[..], &["sh", "-c", script, "sh"]].concat());
    let done = start(command.arg(std::ffi::OsStr::from_bytes(b"a\xff\n\x01"))).finish();
    assert_eq!((done.code(), done.out.trim()), (0, "61 ff 0a 01"), "{}", done.err);
}

#[test]
fn a_missing_program_is_found_out_before_the_start() {
    let done = run(&["run", "-n", "2", "./no-such-program"]);
    assert_eq!(done.code(), 66);
    assert!(done.err.contains("cannot run ./no-such-program on localhost: no such file"), "{}", done.err);
    let done = run(&["run", "-n", "2", "/etc/passwd"]);
    assert!(done.err.contains("not executable") && done.err.contains("chmod +x"), "{}", done.err);
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1,n2"];
    let done = run(&[&args[..], &["no-such-program"]].concat());
    assert_eq!(done.code(), 66);
    assert!(done.err.contains("n1: cannot find no-such-program in PATH on n1"), "{}", done.err);
    assert!(done.err.contains("n2: cannot find"), "{}", done.err);
}

#[test]
fn host_file_errors_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    std::fs::write(&file, "n1 slots=2\nn2 slots=two\n").unwrap();
    let done = run(&["run", "--hostfile", file.to_str().unwrap(), "true"]);
    assert_eq!(done.code(), 78);
    assert!(done.err.contains(&format!("{}:2: slots is `two`", file.display())), "{}", done.err);
    let done = run(&["run", "--hostfile", "/nowhere", "true"]);
    assert_eq!(done.code(), 66, "{}", done.err);
    let done = run(&["run", "--host", "a:2,b:2", "-n", "5", "true"]);
    assert_eq!(done.code(), 64);
    assert!(done.err.contains("--oversubscribe"), "{}", done.err);
    let done = run(&["run", "--host=-oProxyCommand=touch${IFS}x", "true"]);
    assert!(done.err.contains("not a host name"), "{}", done.err);
}

#[test]
fn the_agents_path_may_be_hostile() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let odd = dir.path().join("it's a $(touch pwned) \"path\";`touch pwned`&");
    std::fs::create_dir(&odd).unwrap();
    std::os::unix::fs::symlink(common::site::tested(), odd.join("aeolian")).unwrap();
    let path = odd.join("aeolian");
    let args = [
        "run",
        "--ssh",
        ssh.to_str().unwrap(),
        "--interface",
        "127.0.0.1",
        "--host",
        "n1",
        "--remote-aeolian",
    ];
    let done = run(&[&args[..], &[path.to_str().unwrap(), "printf", "%s|", "a b", "$(x)", "'"]].concat());
    assert_eq!((done.code(), done.out.as_str()), (0, "a b|$(x)|'|"), "{}", done.err);
}

#[test]
fn the_report_says_who_and_why() {
    let done = run(&["run", "-n", "2", "--json", "sh", "-c", "exit $((AEOLIAN_RANK * 5))"]);
    let line = done.err.lines().last().unwrap();
    let report: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&report["outcome"], &report["code"]), (&"failed".into(), &5.into()));
    assert_eq!(report["blame"]["rank"], 1);
    assert_eq!(report["ranks"][1]["exit"], 5);
    assert!(report["ranks"][0]["pid"].as_u64().is_some_and(|pid| pid > 1));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report");
    let done = run(&["run", "-n", "2", &format!("--json={}", file.display()), "echo", "x"]);
    assert_eq!((done.code(), done.out.as_str(), done.err.as_str()), (0, "x\nx\n", ""));
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!((&report["outcome"], &report["code"]), (&"finished".into(), &0.into()));
    // On a line of its own, whatever a rank has left unfinished.
    let done = run(&["run", "-n", "1", "--json", "sh", "-c", "printf unfinished >&2"]);
    let lines: Vec<_> = done.err.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "unfinished"), "{}", done.err);
    let report: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(report["outcome"], "finished");
    let done = run(&["run", "--json", "./no-such-program"]);
    let report: serde_json::Value = serde_json::from_str(done.err.lines().last().unwrap()).unwrap();
    assert_eq!((&report["outcome"], &report["code"]), (&"not started".into(), &66.into()));
}
