//! `aeolian run`: what goes in and out of the ranks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::{fake_ssh, run, run_with, start};
use std::process::{Command, Stdio};

/// Writes 300 lines of about 3 KB, each of one letter, in pieces that do not end where lines do.
const LONG_LINES: &str = r#"
c=$(printf %b "\\$(printf %o $((65 + AEOLIAN_RANK)))")
line=$(head -c $((3000 + AEOLIAN_RANK)) /dev/zero | tr '\0' $c)
i=0
while [ $i -lt 300 ]; do echo $line; i=$((i + 1)); done | dd obs=1777 status=none
"#;

#[test]
fn lines_of_different_ranks_never_mix() {
    let done = run(&["run", "-n", "4", "sh", "-c", LONG_LINES]);
    assert_eq!(done.code(), 0, "{}", done.err);
    let mut count = [0; 4];
    for line in done.out.lines() {
        let letter = line.bytes().next().unwrap();
        let rank = usize::from(letter - b'A');
        assert!(line.bytes().all(|b| b == letter), "a line of rank {rank} is mixed");
        assert_eq!(line.len(), 3000 + rank);
        count[rank] += 1;
    }
    assert_eq!(count, [300; 4]);
}

#[test]
fn lines_longer_than_a_pipe_arrive_whole_if_nobody_cuts_in() {
    let done =
        run(&["run", "-n", "1", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo; printf end"]);
    assert_eq!(done.out, format!("{}\nend", "x".repeat(1_000_000)));
}

#[test]
fn bytes_of_one_rank_arrive_unchanged() {
    let seed = 20_260_101u64;
    println!("seed {seed}");
    let mut x = seed;
    let mut bytes = Vec::new();
    for _ in 0..200_000 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push((x >> 56) as u8);
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in"), &bytes).unwrap();
    let file = std::fs::File::open(dir.path().join("in")).unwrap();
    let out = std::fs::File::create(dir.path().join("out")).unwrap();
    // Through standard input, too: it is inherited.
    let status =
        Command::new(common::site::tested()).args(["run", "-n", "1", "cat"]).stdin(file).stdout(out).status();
    assert!(status.unwrap().success());
    assert!(std::fs::read(dir.path().join("out")).unwrap() == bytes);
}

#[test]
fn tags_name_the_rank_on_both_streams() {
    let script = "echo out; echo err >&2; printf 'no newline'";
    let done = run(&["run", "-n", "2", "--tag-output", "sh", "-c", script]);
    assert_eq!(done.sorted(), ["[0] no newline", "[0] out", "[1] no newline", "[1] out"]);
    assert_eq!(done.err.lines().count(), 2);
    assert!(done.err.contains("[0] err\n") && done.err.contains("[1] err\n"));
}

#[test]
fn tags_name_the_host_where_there_are_several() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = [
        "--interface",
        "127.0.0.1",
        "--host",
        "localhost:1,n1:2",
        "--tag-output",
        "sh",
        "-c",
        "echo $FAKE_HOST",
    ];
    let done = run(&[&["run", "--ssh", ssh.to_str().unwrap()], &args[..]].concat());
    assert_eq!(done.sorted(), ["[0@localhost] ", "[1@n1] n1", "[2@n1] n1"], "{}", done.err);
}

#[test]
fn standard_input_goes_to_rank_0_only() {
    let done = run_with(&["run", "-n", "3", "--tag-output", "sh", "-c", "cat; echo end"], b"one\ntwo\n");
    assert_eq!(done.sorted(), ["[0] end", "[0] one", "[0] two", "[1] end", "[2] end"], "{}", done.err);
}

#[test]
fn standard_input_reaches_a_rank_behind_ssh_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    // More than what is sent ahead, and a reader that takes its time.
    let input = b"0123456789abcde\n".repeat(100_000);
    let args = [
        "--interface",
        "127.0.0.1",
        "--host",
        "n1,n2",
        "sh",
        "-c",
        "[ $AEOLIAN_RANK = 1 ] || sleep 0.2; cksum",
    ];
    let done = run_with(&[&["run", "--ssh", ssh.to_str().unwrap()], &args[..]].concat(), &input);
    std::fs::write(dir.path().join("in"), &input).unwrap();
    let file = std::fs::File::open(dir.path().join("in")).unwrap();
    let sum = Command::new("cksum").stdin(file).output().unwrap();
    let want = String::from_utf8(sum.stdout).unwrap();
    let mut want = [want.trim(), "4294967295 0"];
    want.sort_unstable();
    assert_eq!(done.sorted(), want, "{}", done.err);
}

#[test]
fn a_rank_that_does_not_read_its_input_holds_nothing_up() {
    let done = run_with(&["run", "-n", "2", "true"], &vec![b'x'; 1 << 20]);
    assert_eq!(done.code(), 0, "{}", done.err);
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let args = ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", "n1", "true"];
    let done = run_with(&args, &vec![b'x'; 1 << 20]);
    assert_eq!(done.code(), 0, "{}", done.err);
}

#[test]
fn a_reader_that_leaves_ends_the_job_quietly() {
    let running = std::process::Command::new("sh")
        .arg("-c")
        .arg("{ \"$0\" run -n 2 yes; echo $? >&2; } | head -n 3")
        .arg(common::site::tested())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let done = running.wait_with_output().unwrap();
    assert_eq!(done.stdout, b"y\ny\ny\n");
    assert_eq!(String::from_utf8(done.stderr).unwrap(), "141\n");
}

#[test]
fn a_full_disk_under_the_output_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut running = common::aeolian(&["run", "-n", "2", "echo", "hello"]);
    let mut child = running.stdout(full).spawn().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(73), "{text}");
    assert!(text.contains("cannot write the ranks' output: No space left"), "{text}");
}

#[test]
fn several_hosts_and_sixty_four_ranks_are_ordinary() {
    let dir = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(dir.path());
    let hosts: Vec<_> = (0..4).map(|i| format!("n{i}:4")).collect();
    let args =
        ["run", "--ssh", ssh.to_str().unwrap(), "--interface", "127.0.0.1", "--host", &hosts.join(",")];
    let done = run(&[&args[..], &["sh", "-c", "echo $AEOLIAN_RANK $AEOLIAN_SIZE $FAKE_HOST"]].concat());
    let mut want: Vec<_> = (0..16).map(|r| format!("{r} 16 n{}", r / 4)).collect();
    want.sort_unstable();
    assert_eq!(done.sorted(), want, "{}", done.err);
    let done = start(&mut common::aeolian(&["run", "-n", "64", "sh", "-c", "echo $AEOLIAN_RANK"])).finish();
    assert_eq!(done.out.lines().count(), 64);
}
