//! `aeolian run`: what a rank finds when it starts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::{aeolian, fake_ssh, run, start};
use std::collections::BTreeSet;

#[test]
fn variables_and_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "localhost,n1"];
    let args = [
        &args[..],
        &["--wdir", real.to_str().unwrap(), "-x", "A", "-x", "B=1 2=3", "-x", "NOT_SET_ANYWHERE"],
    ];
    let script = "echo \"$AEOLIAN_RANK/$AEOLIAN_SIZE A=$A B=$B $(pwd)\"";
    let args = [&args.concat()[..], &["--transport", "tcp", "--encrypt", "off", "sh", "-c", script]].concat();
    let done = start(aeolian(&args).env("A", "it's a")).finish();
    let line = |rank: u32| format!("{rank}/2 A=it's a B=1 2=3 {}", real.display());
    assert_eq!(done.sorted(), [line(0), line(1)], "{}", done.err);
    assert!(done.err.contains("NOT_SET_ANYWHERE: not set here"), "{}", done.err);
    let done = run(&["run", "--wdir", "/no/such/dir", "true"]);
    assert!(done.code() == 66 && done.err.contains("/no/such/dir"), "{}", done.err);
}

#[test]
fn nothing_is_inherited_but_the_secret() {
    // The launcher itself is started with descriptor 9 open.
    let script = "exec 9</dev/null; exec \"$0\" run -n 2 sh -c 'echo $AEOLIAN_SECRET_FD: $(ls /proc/$$/fd)'";
    let out = std::process::Command::new("sh").args(["-c", script, common::site::tested()]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{}", String::from_utf8_lossy(&out.stderr));
    for line in text.lines() {
        let (secret, open) = line.split_once(": ").unwrap();
        let mut open: BTreeSet<_> = open.split(' ').collect();
        // `$(...)` is a pipe of the shell's own while it reads.
        assert!(open.remove(secret), "{line}");
        assert!(
            open.is_superset(&["0", "1", "2"].into()) && !open.contains("9") && open.len() <= 4,
            "{line}"
        );
    }
}

#[test]
fn the_secret_is_on_the_descriptor_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let script = "cat /dev/fd/$AEOLIAN_SECRET_FD; tr '\\0' '\\n' < /proc/$$/environ | sed 's/^/env /'";
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "localhost,n1"];
    let done = run(&[&args[..], &["sh", "-c", script]].concat());
    let secrets: BTreeSet<_> = done.out.lines().filter(|l| !l.starts_with("env ")).collect();
    assert_eq!(secrets.len(), 1, "one secret, the same for all; {}", done.err);
    let secret = secrets.first().unwrap();
    assert!(secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()), "{secret}");
    assert!(!done.out.lines().any(|l| l.starts_with("env ") && l.contains(*secret)));
    let again = run(&["run", "-n", "1", "sh", "-c", script]);
    assert!(!again.out.contains(*secret), "a secret belongs to one job");
}

#[test]
fn ranks_lead_sessions_of_their_own() {
    let done = run(&["run", "-n", "2", "sh", "-c", "echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)"]);
    assert_eq!(done.out.lines().count(), 2);
    for line in done.out.lines() {
        let words: BTreeSet<_> = line.split(' ').collect();
        assert_eq!(words.len(), 1, "process, group and session are one: {line}");
    }
}

#[test]
fn binding_gives_each_rank_its_share() {
    let mine = std::thread::available_parallelism().unwrap().get();
    let script = "grep Cpus_allowed_list /proc/self/status";
    let done = run(&["run", "-n", "2", "--bind", "core", "sh", "-c", script]);
    let lists: BTreeSet<_> = done.out.lines().collect();
    assert_eq!(done.out.lines().count(), 2, "{}", done.err);
    if mine >= 2
        && std::fs::read_to_string("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
            .is_ok_and(|l| l.trim() == "0")
    {
        assert_eq!(lists.len(), 2, "two cores, two ranks: {}", done.out);
    }
    let done = run(&["run", "-n", "3", "--bind", "numa", "sh", "-c", script]);
    assert_eq!((done.code(), done.out.lines().count()), (0, 3), "{}", done.err);
}
