//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use program::{built, join};

mod program;

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("l.csv", b"k,v\na,1\nb,2\n");
    write("r.csv", b"k,w\na,1\n");
    write("ragged.csv", b"k,v\na,1,2\n");
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["--left", "ragged.csv", "--right", "r.csv", "--on", "k", "--output", "o.csv"],
            65,
            "ragged.csv:2: the row has 3 fields",
        ),
        (
            &["--left", "l.csv", "--right", "ragged.csv", "--on", "k", "--output", "o.csv"],
            65,
            "ragged.csv:2: the row has 3 fields",
        ),
        (
            &["--left", "l.csv", "--right", "r.csv", "--on", "v", "--output", "o.csv"],
            65,
            "r.csv:1: there is no column \"v\"; there are k, w",
        ),
        // Headers are looked at before files are read.
        (
            &["--left", "ragged.csv", "--right", "no.csv", "--on", "k", "--output", "o.csv"],
            66,
            "no.csv: cannot be read",
        ),
        (
            &["--left", "ragged.csv", "--right", "r.csv", "--on", "v", "--output", "o.csv"],
            65,
            "r.csv:1: there is no column \"v\"",
        ),
        (
            &["--left", "l.csv", "--right", "r.csv", "--on", "k,k", "--output", "o.csv"],
            64,
            "the column \"k\" comes twice",
        ),
        (
            &["--left", "l.csv", "--right", "r.csv", "--on", "k", "--output", "r.csv"],
            64,
            "--output r.csv: this file is an input",
        ),
        (
            &["--left", "l.csv", "--right", "no.csv", "--on", "k", "--output", "o.csv"],
            66,
            "no.csv: cannot be read",
        ),
        (
            &["--left", "l.csv", "--right", "r.csv", "--on", "k", "--kind", "cross", "--output", "o.csv"],
            64,
            "invalid value 'cross'",
        ),
        (
            &[
                "--left",
                "l.csv",
                "--right",
                "r.csv",
                "--on",
                "k",
                "--kind",
                "full",
                "--algorithm",
                "broadcast",
                "--output",
                "o.csv",
            ],
            64,
            "--algorithm broadcast: no rank would know",
        ),
        (
            &["--left", "l.csv", "--right", "r.csv", "--on", "k", "--output", "no/o.csv"],
            73,
            "no/o.csv: cannot be created",
        ),
        (&["--right", "r.csv", "--on", "k", "--output", "o.csv"], 64, "--left is missing"),
        (&["--left", "l.csv", "--on", "k", "--output", "o.csv"], 64, "--right is missing"),
        (&["--left", "l.csv", "--right", "r.csv", "--output", "o.csv"], 64, "--on is missing"),
        (&["--left", "l.csv", "--right", "r.csv", "--on", "k"], 64, "--output is missing"),
        (&["--on", "x", "--output", "o.csv"], 65, "flights.csv (bundled):1: there is no column \"x\""),
    ];
    built::assert_mistakes(env!("CARGO_BIN_EXE_join"), dir.path(), cases);
}

#[test]
fn null_matches_nothing_and_names_do_not_clash() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("l.csv", "v,k\n1,a\n2,\n3,c\n");
    write("r.csv", "k,v,w\na,x,0\n,y,0\n\"\",z,0\n");
    let run = |kind: &str| {
        let args = ["--left", "l.csv", "--right", "r.csv", "--on", "k", "--kind", kind, "--sorted"];
        assert_eq!(join(dir.path(), &[&args[..], &["--quiet", "--output", "o.csv"]].concat()).0, 0);
        std::fs::read_to_string(dir.path().join("o.csv")).unwrap()
    };
    assert_eq!(run("inner"), "k,v,v_right,w\na,1,x,0\n");
    assert_eq!(run("full"), "k,v,v_right,w\n,,y,0\n,2,,\n\"\",,z,0\na,1,x,0\nc,3,,\n");
    assert_eq!(run("semi"), "k,v\na,1\n");
    assert_eq!(run("anti"), "k,v\n,2\nc,3\n");
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    // A hole: as many bytes without quotes as there is time.
    std::fs::write(dir.path().join("x"), "k,v\n").unwrap();
    std::fs::File::options().write(true).open(dir.path().join("x")).unwrap().set_len(1 << 43).unwrap();
    let args = ["--left", "x", "--right", "x", "--on", "k", "--output", "o"];
    built::assert_stops_in_order(env!("CARGO_BIN_EXE_join"), dir.path(), &args);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left");
}
