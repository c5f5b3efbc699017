//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use program::{built, groupby};

mod program;

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("ok.csv", b"k,v,t\na,1,x\nb,2,y\n");
    write("ragged.csv", b"k,v\na,1\n\"b\nb\",2\nc\n");
    write("stray.csv", b"k,v\na,1\nb\"b,2\n");
    write("open.csv", b"k,v\na,1\n\"b,2\n");
    write("latin.csv", b"k,v\na,1\n\xfc,2\n");
    write("twice.csv", b"k,v,v\na,1,1\n");
    write("big.csv", b"k,v\na,9223372036854775807\na,1\n");
    write("bad.csv", b"k,v,w\na,x,1\nb,y,abc\nc,z,def\n");
    write("empty.csv", b"");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--input", "ragged.csv", "--key", "k"], 65, "ragged.csv:5: the row has 1 field, but the header 2"),
        (&["--input", "stray.csv", "--key", "k"], 65, "stray.csv:3: column 1: there is a quote inside"),
        (&["--input", "open.csv", "--key", "k"], 65, "open.csv:3: column 1: the quote that opens it"),
        (&["--input", "latin.csv", "--key", "k"], 65, "latin.csv:3: column 1: this is not UTF-8"),
        (&["--input", "twice.csv", "--key", "v"], 65, "twice.csv:1: several columns have the name \"v\""),
        (
            &["--input", "big.csv", "--key", "k", "--agg", "sum:v"],
            65,
            "sum_v of the group \"a\" is 9223372036854775808",
        ),
        (&["--input", "empty.csv", "--key", "k"], 65, "empty.csv: the file is empty"),
        (&["--input", "ok.csv", "--key", "x"], 65, "ok.csv:1: there is no column \"x\"; there are k, v, t"),
        (
            &["--input", "bad.csv", "--key", "k", "--agg", "count,mean:w"],
            65,
            "bad.csv:3: column 3 (w): \"abc\" is not a number",
        ),
        (&["--input", "ragged.csv", "--key", "x"], 65, "ragged.csv:1: there is no column \"x\""),
        (&["--input", "ok.csv", "--key", "k,k"], 64, "two columns with the name \"k\""),
        (&["--input", "ok.csv", "--key", "k", "--agg", "sum"], 64, "of which column? write sum:COL"),
        (&["--input", "ok.csv", "--key", "k", "--agg", "median:v"], 64, "write count, or count, sum"),
        (&["--input", "ok.csv", "--key", "k", "--delimiter", "xy"], 64, "give one ASCII character"),
        (&["--input", "ok.csv", "--key", "k", "--null", "a,b"], 64, "the delimiter is in it"),
        (&["--input", "ok.csv", "--key", "k", "--memory", "0"], 64, "no rank can work with 0 bytes"),
        (&["--input", "ok.csv"], 64, "--key is missing"),
        (&["--key", "x"], 65, "flights.csv (bundled):1: there is no column \"x\"; there are year, month"),
        (&["--input", "none.csv", "--key", "k"], 66, "none.csv: cannot be read: no such file or directory"),
    ];
    let with_output: Vec<Vec<&str>> =
        cases.iter().map(|(args, ..)| [*args, &["--output", "out.csv"]].concat()).collect();
    let cases: Vec<(&[&str], i32, &str)> =
        cases.iter().zip(&with_output).map(|((_, code, want), args)| (&args[..], *code, *want)).collect();
    built::assert_mistakes(env!("CARGO_BIN_EXE_groupby"), dir.path(), &cases);
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["--input", "ok.csv", "--key", "k", "--output", "ok.csv"],
            64,
            "--output ok.csv: this file is an input",
        ),
        (&["--input", "ok.csv", "--key", "k", "--output", "no/o.csv"], 73, "no/o.csv: cannot be created"),
        (&["--input", "ok.csv", "--key", "k"], 64, "--output is missing"),
    ];
    built::assert_mistakes(env!("CARGO_BIN_EXE_groupby"), dir.path(), cases);
}

#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ok.csv"), "k,v\na,1\n").unwrap();
    let (code, _, text) =
        groupby(dir.path(), &["--input", "ok.csv", "--key", "k", "--quiet", "--output", "/dev/full"]);
    assert!(code == 73 && text.contains("/dev/full: cannot be written: no space left"), "{code} {text}");
}

#[test]
fn groups_come_in_order_with_null_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.csv"), "k,v\n10,1.5\n9,\n,2\n10,2\n").unwrap();
    let args = [
        "--input",
        "t.csv",
        "--key",
        "k",
        "--agg",
        "count,count:v,sum:v,mean:v",
        "--quiet",
        "--output",
        "o.csv",
    ];
    assert_eq!(groupby(dir.path(), &args).0, 0);
    let text = std::fs::read_to_string(dir.path().join("o.csv")).unwrap();
    assert_eq!(text, "k,count,count_v,sum_v,mean_v\n,1,1,2.0,2.0\n9,1,0,,\n10,2,2,3.5,1.75\n");
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    // A hole: as many bytes without quotes as there is time.
    std::fs::write(dir.path().join("x"), "k,v\n").unwrap();
    std::fs::File::options().write(true).open(dir.path().join("x")).unwrap().set_len(1 << 43).unwrap();
    let args = ["--input", "x", "--key", "k", "--output", "o"];
    built::assert_stops_in_order(env!("CARGO_BIN_EXE_groupby"), dir.path(), &args);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left");
}
