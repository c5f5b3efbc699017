//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use program::{built, pagerank};

mod program;

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("short.tsv", b"a\tb\n# c\nb\n");
    write("long.tsv", b"a b\nb c 0.5\n");
    write("comma.tsv", b"a,b\n");
    write("tab.csv", b"a\tb\n");
    write("noname.tsv", b"a\tb\na\t\n");
    write("zero.tsv", b"a\tb\0\n");
    write("empty.tsv", b"");
    write("comments.tsv", b"# nothing\n\n");
    write("cut.bin", &[0; 12]);
    write("empty.bin", b"");
    write("ok.tsv", b"a\tb\n");
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--input", "short.tsv"], 65, "short.tsv:3: the line has 1 field, not 2: \"b\""),
        (&["--input", "long.tsv"], 65, "long.tsv:2: the line has 3 fields, not 2"),
        (&["--input", "comma.tsv"], 65, "comma needs --format csv"),
        (&["--input", "tab.csv"], 65, "tab.csv:1: the line has 1 field"),
        (&["--input", "noname.tsv"], 65, "noname.tsv:2: column 2: the name is empty"),
        (&["--input", "zero.tsv"], 65, "zero.tsv:1: there are zero bytes in it"),
        (&["--input", "empty.tsv"], 65, "empty.tsv: the file is empty"),
        (&["--input", "empty.bin"], 65, "empty.bin: the file is empty"),
        (&["--input", "comments.tsv"], 65, "comments.tsv: there are no edges in it"),
        (&["--input", "cut.bin"], 65, "cut.bin: 12 bytes are not a whole number of edges"),
        (&["--input", "none.tsv"], 66, "none.tsv: cannot be read: no such file or directory"),
        (&["--input", "sub"], 66, "sub: cannot be read"),
        (&["--input", "/dev/null"], 66, "/dev/null: is not a regular file"),
        (&["--input", "ok.tsv", "--output", "sub"], 73, "sub: is a directory"),
        (&["--input", "ok.tsv", "--output", "no/r.tsv"], 73, "no/r.tsv: cannot be created"),
        (&["--input", "ok.tsv", "--output", "ok.tsv"], 64, "--output ok.tsv: this file is an input"),
        (&["--input", "ok.tsv", "--damping", "1"], 64, "--damping 1: must be at least 0 and less than 1"),
        (&["--input", "ok.tsv", "--damping", "x"], 64, "invalid value 'x' for '--damping <D>'"),
        (&["--input", "ok.tsv", "--tolerance", "nan"], 64, "--tolerance NaN"),
        (&["--input", "ok.tsv", "--iterations", "0"], 64, "--iterations 0: nothing would be done"),
        (&["--input", "ok.tsv", "--threads", "0"], 64, "--threads 0"),
        (&["--input", "ok.tsv", "--generate", "rmat"], 64, "cannot be used with"),
        (&["--input", "ok.tsv", "--format", "xml"], 64, "invalid value 'xml'"),
        (&["--inptu", "ok.tsv"], 64, "--input"),
        (&["--format", "csv"], 64, "--format without --input"),
        (&["--generate", "rmat"], 64, "--scale"),
        (&["--generate", "rmat", "--scale", "32"], 64, "--scale 32: vertices have 32-bit numbers"),
        (&["--scale", "10"], 64, "--generate"),
    ];
    built::assert_mistakes(env!("CARGO_BIN_EXE_pagerank"), dir.path(), cases);
}

#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, text) = pagerank(dir.path(), &["--quiet", "--output", "/dev/full"]);
    assert!(code == 73 && text.contains("/dev/full: cannot be written: no space left"), "{code} {text}");
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "--generate",
        "rmat",
        "--scale",
        "14",
        "--iterations",
        "100000000",
        "--tolerance",
        "0",
        "--output",
        "r.tsv",
        "--threads",
        "1",
    ];
    built::assert_stops_in_order(env!("CARGO_BIN_EXE_pagerank"), dir.path(), &args);
    let ranks = std::fs::read_to_string(dir.path().join("r.tsv")).unwrap();
    assert_eq!(ranks.lines().count(), 1 << 14, "the results so far are written");
}
