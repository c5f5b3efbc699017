//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use program::{built, wordcount};

mod program;

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("ok.txt"), "a b").unwrap();
    for sub in ["sub", "empty", "empty/er", "links"] {
        std::fs::create_dir(at(sub)).unwrap();
    }
    std::fs::write(at("sub/x.txt"), "a b").unwrap();
    std::os::unix::fs::symlink("../ok.txt", at("links/link")).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--input", "none.txt"], 66, "none.txt: cannot be read: no such file or directory"),
        (&["--input", "ok.txt", "none.txt"], 66, "none.txt: cannot be read"),
        (&["--input", "ok.txt/x"], 66, "ok.txt/x: cannot be read"),
        (&["--input", "/dev/null"], 66, "/dev/null: is not a regular file"),
        (&["--input", "empty"], 65, "empty: there are no regular files in this directory"),
        (&["--input", "links"], 65, "links: there are no regular files in this directory"),
        (&["--input", "ok.txt", "--output", "sub"], 73, "sub: is a directory"),
        (&["--input", "ok.txt", "--output", "no/w.tsv"], 73, "no/w.tsv: cannot be created"),
        (&["--input", "ok.txt", "--output", "ok.txt"], 64, "--output ok.txt: this file is an input"),
        (&["--input", "sub", "--output", "sub/x.txt"], 64, "--output sub/x.txt: this file is an input"),
        (&["--input", "ok.txt", "--output", "links/link"], 64, "--output links/link: this file is an input"),
        (&["--input", "ok.txt", "--words", "lines"], 64, "invalid value 'lines'"),
        (&["--input", "ok.txt", "--memory", "0"], 64, "no rank can work with 0 bytes"),
        (&["--input", "ok.txt", "--memory", "much"], 64, "invalid value 'much'"),
        (&["--input", "ok.txt", "--top", "100001"], 64, "--top 100001: the table is for people"),
        (&["--input", "ok.txt", "--top", "-1"], 64, "it must not be negative"),
        (&["--input", "ok.txt", "--top", "many"], 64, "give a whole number up to"),
        (&["--inptu", "ok.txt"], 64, "--input"),
    ];
    built::assert_mistakes(env!("CARGO_BIN_EXE_wordcount"), dir.path(), cases);
}

#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, text) = wordcount(dir.path(), &["--quiet", "--output", "/dev/full"]);
    assert!(code == 73 && text.contains("/dev/full: cannot be written: no space left"), "{code} {text}");
}

#[test]
fn a_scratch_directory_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..200_000).map(|i| format!("w{:x} ", i * 7919)).collect();
    std::fs::write(dir.path().join("x"), text).unwrap();
    let args = ["--input", "x", "--output", "w", "--memory", "1MiB", "--scratch", "nowhere"];
    let (code, _, text) = wordcount(dir.path(), &args);
    assert!(code != 0 && text.contains("nowhere") && !text.contains("panicked"), "{code} {text}");
    assert!(!dir.path().join("w").exists(), "whole or none");
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    // A hole: as much to read as there is time.
    std::fs::File::create(dir.path().join("x")).unwrap().set_len(1 << 43).unwrap();
    built::assert_stops_in_order(
        env!("CARGO_BIN_EXE_wordcount"),
        dir.path(),
        &["--input", "x", "--output", "w"],
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left");
}
