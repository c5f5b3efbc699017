//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use program::built;

mod program;

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("short.csv", b"user,item,rating\n1,2,3\n# c\n1,2\n");
    write("long.csv", b"1,2,3\n1,2,3,4\n");
    write("comma.tsv", b"1,2,3\n");
    write("tab.csv", b"1\t2\t3\n");
    write("word.csv", b"1,2,3\n1,3,good\n");
    write("slip.csv", b"1,2,3x\n");
    write("nan.csv", b"1,2,3\n1,3,NaN\n");
    write("noname.csv", b"1,2,3\n,2,3\n");
    write("zero.csv", b"1,2,3\n1\0,2,3\n");
    write("empty.csv", b"");
    write("header.csv", b"user,item,rating\n");
    write("huge.csv", b"1,1,1e30\n1,2,-1e30\n2,1,1e30\n2,2,5\n");
    write("ok.csv", b"1,1,5\n1,2,3\n2,1,4\n2,2,1\n");
    write("users.csv", b"1,1,5\n1,2,3\n2,1,4\n2,2,1\n");
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["--input", "short.csv"],
            65,
            "short.csv:4: the line has 2 fields, not USER, ITEM and RATING: \"1,2\"",
        ),
        (&["--input", "long.csv"], 65, "long.csv:2: the line has 4 fields, but the first one has 3"),
        (&["--input", "comma.tsv"], 65, "comma needs --format csv"),
        (&["--input", "tab.csv"], 65, "tab.csv:1: the line has 1 field, not USER"),
        (&["--input", "word.csv"], 65, "word.csv:2: column 3: the rating \"good\" is not a number"),
        (&["--input", "slip.csv"], 65, "slip.csv:1: column 3: the rating \"3x\" is not a number"),
        (&["--input", "nan.csv"], 65, "nan.csv:2: column 3: the rating \"NaN\" is not a finite number"),
        (&["--input", "noname.csv"], 65, "noname.csv:2: column 1: the name is empty"),
        (&["--input", "zero.csv"], 65, "zero.csv:2: there are zero bytes in it"),
        (&["--input", "empty.csv"], 65, "empty.csv: the file is empty"),
        (&["--input", "header.csv"], 65, "header.csv: there are no ratings in it"),
        (&["--input", "ok.csv", "--test", "0.99999"], 65, "all 4 ratings are held out"),
        (&["--input", "huge.csv", "--test", "0"], 65, "grown beyond all bounds in epoch"),
        (&["--input", "ok.csv", "--test-file", "word.csv"], 65, "word.csv:2: column 3"),
        (&["--input", "none.csv"], 66, "none.csv: cannot be read: no such file or directory"),
        (&["--input", "ok.csv", "--test-file", "none.csv"], 66, "none.csv: cannot be read"),
        (&["--input", "sub"], 66, "sub: cannot be read"),
        (&["--input", "/dev/null"], 66, "/dev/null: is not a regular file"),
        (&["--input", "ok.csv", "--output", "ok.csv"], 73, "ok.csv: is not a directory"),
        (&["--input", "ok.csv", "--output", "no/model"], 73, "no/model: cannot be made: no such file"),
        (&["--input", "users.csv", "--output", "."], 64, "--output .: users.csv in it is an input"),
        (&["--input", "ok.csv", "--rank", "0"], 64, "--rank 0"),
        (&["--input", "ok.csv", "--epochs", "0"], 64, "--epochs 0: nothing would be learnt"),
        (&["--input", "ok.csv", "--learning-rate", "0"], 64, "--learning-rate 0: must be a positive number"),
        (&["--input", "ok.csv", "--regularisation", "inf"], 64, "--regularisation inf"),
        (&["--input", "ok.csv", "--test", "1"], 64, "--test 1: must be at least 0 and less than 1"),
        (&["--input", "ok.csv", "--test", "0.1", "--test-file", "ok.csv"], 64, "cannot be used with"),
        (&["--input", "ok.csv", "--test-every", "0"], 64, "--test-every 0"),
        (&["--input", "ok.csv", "--threads", "0"], 64, "--threads 0"),
        (&["--input", "ok.csv", "--generate", "synthetic"], 64, "cannot be used with"),
        (&["--input", "ok.csv", "--users", "5"], 64, "cannot be used with"),
        (&["--input", "ok.csv", "--format", "xml"], 64, "invalid value 'xml'"),
        (&["--test-file", "ok.csv"], 64, "--input"),
        (&["--format", "csv"], 64, "--input"),
        (&["--inptu", "ok.csv"], 64, "--input"),
        (&["--users", "0"], 64, "no users, items or ratings"),
        // What was made for the results goes again.
        (&["--input", "word.csv", "--output", "model"], 65, "word.csv:2"),
    ];
    built::assert_mistakes(env!("CARGO_BIN_EXE_mf"), dir.path(), cases);
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--epochs", "1000000000", "--output", "model", "--threads", "1"];
    built::assert_stops_in_order(env!("CARGO_BIN_EXE_mf"), dir.path(), &args);
    let users = std::fs::read_to_string(dir.path().join("model/users.csv")).unwrap();
    assert_eq!(users.lines().next().unwrap().split(',').count(), 34, "the model so far is written");
}
