//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use program::{built, lda};

mod program;

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("latin1.txt", b"one\ntwo\ncaf\xe9\n");
    write("zero.txt", b"one\ntwo\0\n");
    write("empty.txt", b"");
    write("numbers.txt", b"1 2 3\n");
    write("stop.txt", b"The and of\n");
    write("once.txt", b"every word here comes once\n");
    write("ok.txt", b"wind harp wind harp\n");
    write("list.txt", b"# words\nwind\ntwo words\n");
    write("plain", b"");
    std::fs::create_dir(dir.path().join("none")).unwrap();
    std::fs::create_dir(dir.path().join("texts")).unwrap();
    write("texts/topics.tsv", b"wind harp wind harp\n");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--input", "latin1.txt"], 65, "latin1.txt:3: this is not UTF-8"),
        (&["--input", "ok.txt", "latin1.txt", "--documents", "lines"], 65, "latin1.txt:3: this is not UTF-8"),
        (&["--input", "zero.txt"], 65, "zero.txt:2: there are zero bytes in it"),
        (&["--input", "empty.txt"], 65, "empty.txt: there is no text in it"),
        (&["--input", "numbers.txt"], 65, "numbers.txt: there are no words in it"),
        (&["--input", "stop.txt"], 65, "stop.txt: there are no words in it, or only stop words"),
        (&["--input", "once.txt"], 64, "there are 0 words that come at least 2 times"),
        (&["--input", "none"], 65, "none: there are no files in it"),
        (&["--input", "texts", "--suffix", ".txt"], 65, "there are no files in it that end in .txt"),
        (&["--input", "ok.txt", "missing.txt"], 66, "missing.txt: cannot be read: no such file or directory"),
        (&["--input", "/dev/null"], 66, "/dev/null: is not a regular file"),
        (&["--input", "ok.txt", "--stop-words", "list.txt"], 65, "list.txt:3: \"two words\" is not one word"),
        (&["--input", "ok.txt", "--stop-words", "missing"], 66, "missing: cannot be read"),
        (&["--input", "ok.txt", "--output", "plain"], 73, "plain: is not a directory"),
        (&["--input", "ok.txt", "--output", "no/out"], 73, "no/out: cannot be made: no such file"),
        (&["--input", "texts", "--output", "texts"], 64, "--output texts: topics.tsv in it is an input"),
        (&["--input", "ok.txt", "--topics", "0"], 64, "--topics 0: must be 1 to 65536"),
        (&["--input", "ok.txt", "--topics", "65537"], 64, "--topics 65537"),
        (&["--input", "ok.txt", "--alpha", "0"], 64, "--alpha 0: must be a positive number"),
        (&["--input", "ok.txt", "--beta", "nan"], 64, "--beta NaN"),
        (&["--input", "ok.txt", "--iterations", "0"], 64, "--iterations 0: nothing would be done"),
        (&["--input", "ok.txt", "--threads", "0"], 64, "--threads 0"),
        (&["--input", "ok.txt", "--blocks", "0"], 64, "--blocks 0: must be 1 to 256"),
        (&["--input", "ok.txt", "--documents", "pages"], 64, "invalid value 'pages'"),
        (&["--input", "ok.txt", "--generate", "planted"], 64, "cannot be used with"),
        (&["--input", "ok.txt", "--no-stop-words", "--stop-words", "list.txt"], 64, "cannot be used with"),
        (&["--documents", "lines"], 64, "--documents lines without --input"),
        (&["--generate", "planted", "--length", "0"], 64, "there would be no text"),
        (&["--docs", "10"], 64, "--generate"),
        (&["--inptu", "ok.txt"], 64, "--input"),
    ];
    built::assert_mistakes(env!("CARGO_BIN_EXE_lda"), dir.path(), cases);
}

#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    for name in ["topics.tsv", "documents.tsv", "vocabulary.tsv"] {
        let link = dir.path().join("out").join(name);
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        let (code, _, text) = lda(dir.path(), &["--quiet", "--iterations", "1", "--output", "out"]);
        let want = format!("out/{name}: cannot be written: no space left");
        assert!(code == 73 && text.contains(&want), "{code} {text}");
        std::fs::remove_file(&link).unwrap();
    }
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        ["--iterations", "100000000", "--likelihood", "1000", "--output", "out", "--threads", "1", "--quiet"];
    built::assert_stops_in_order(env!("CARGO_BIN_EXE_lda"), dir.path(), &args);
    for name in ["topics.tsv", "documents.tsv", "vocabulary.tsv"] {
        let file = std::fs::read_to_string(dir.path().join("out").join(name)).unwrap();
        assert!(file.lines().count() > 10, "the results so far are written");
    }
}
