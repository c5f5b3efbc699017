//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

#[cfg(not(feature = "hdf5"))]
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aeolian_examples::npy::header_bytes;
use program::{built, kmeans};

mod program;

fn npy(descr: &str, shape: &[u64], body: &[u8]) -> Vec<u8> {
    [header_bytes(descr, shape), body.to_vec()].concat()
}

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let f8 = |x: &[f64]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    write("ragged.csv", b"1,2\n3,4\n5\n");
    write("text.csv", b"a,b\n1,2\n3,four\n");
    write("nan.csv", b"1,2\n3,NaN\n");
    write("inf.npy", &npy("<f8", &[2, 2], &f8(&[1.0, 2.0, f64::INFINITY, 4.0])));
    write("empty.csv", b"");
    write("big.csv", b"3e19,1\n-3e19,2\n3e19,3\n");
    write("bigger.csv", b"1e200,1\n-1e200,2\n3e200,3\n");
    write("header.csv", b"a,b\n");
    write("ok.csv", b"1,2\n3,4\n5,6\n");
    write("cube.npy", &npy("<f8", &[2, 2, 2], &f8(&[0.0; 8])));
    write("text.npy", &npy("<U4", &[2], &[0; 32]));
    write("cut.npy", &npy("<f8", &[2, 2], &f8(&[0.0; 3])));
    write("norows.npy", &npy("<f8", &[0, 2], &[]));
    write("init.csv", b"1,2,3\n4,5,6\n");
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--input", "ragged.csv", "--k", "2"], 65, "ragged.csv:3: the row has 1 field"),
        (&["--input", "text.csv", "--k", "2"], 65, "text.csv:3: column 2 (b): \"four\" is not a number"),
        (&["--input", "nan.csv", "--k", "2"], 65, "nan.csv:2: column 2: \"NaN\" is not a finite number"),
        (
            &["--input", "inf.npy", "--k", "2"],
            65,
            "inf.npy: row 2 (counted from 1), column 1: the value is inf",
        ),
        (&["--input", "empty.csv", "--k", "2"], 65, "empty.csv: the file is empty"),
        (&["--input", "big.csv", "--k", "2", "--dtype", "f32"], 65, "big.csv: the numbers are up to"),
        (&["--input", "bigger.csv", "--k", "2", "--init", "first"], 65, "too large to be squared in f64"),
        (&["--input", "header.csv", "--k", "2"], 65, "header.csv: there are no points in it"),
        (&["--input", "norows.npy", "--k", "2"], 65, "norows.npy: there are no points in it"),
        (&["--input", "cube.npy", "--k", "2"], 65, "cube.npy: the array has 3 dimensions (shape [2, 2, 2])"),
        (&["--input", "text.npy", "--k", "2"], 65, "text.npy: the array holds text"),
        (&["--input", "cut.npy", "--k", "2"], 65, "it is cut off"),
        (&["--input", "none.csv", "--k", "2"], 66, "none.csv: cannot be read: no such file or directory"),
        (&["--input", "sub", "--k", "2"], 66, "sub: cannot be read"),
        (&["--input", "ok.csv", "--k", "4"], 65, "4 clusters of 3 points"),
        (&["--input", "ok.csv", "--k", "0"], 64, "--k 0: there must be at least one cluster"),
        (&["--input", "ok.csv"], 64, "--k is missing"),
        (&["--input", "ok.csv", "--k", "x"], 64, "invalid value 'x' for '--k <K>'"),
        (&["--inptu", "ok.csv"], 64, "--input"),
        (&["--input", "ok.csv", "--k", "2", "--tolerance", "nan"], 64, "--tolerance NaN"),
        (
            &["--input", "ok.csv", "--k", "2", "--init", "init.csv"],
            65,
            "init.csv: 2 rows of 3 numbers cannot be",
        ),
        (
            &["--input", "ok.csv", "--k", "3", "--init", "ok.csv", "--output", "sub"],
            73,
            "sub: is a directory",
        ),
        (&["--input", "ok.csv", "--k", "2", "--labels", "no/l.txt"], 73, "no/l.txt: cannot be created"),
        (
            &["--input", "ok.csv", "--k", "2", "--report", "a", "--plot", "a"],
            64,
            "--report and --plot both name a",
        ),
        (&["--input", "/dev/null", "--k", "2"], 66, "/dev/null: is not a regular file"),
    ];
    built::assert_mistakes(env!("CARGO_BIN_EXE_kmeans"), dir.path(), cases);
}

#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, text) = kmeans(dir.path(), &["--quiet", "--output", "/dev/full", "--plot", "p.svg"]);
    assert!(code == 73 && text.contains("/dev/full: cannot be written: no space left"), "{code} {text}");
}

#[test]
fn a_mapped_file_that_shrinks_ends_the_run_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let n = 400_000u64;
    let body: Vec<u8> =
        (0..2 * n).flat_map(|i| (aeolian_examples::random::at(1, 1, i) as f64).to_le_bytes()).collect();
    std::fs::write(&path, npy("<f8", &[n, 2], &body)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kmeans"))
        .args(["--k", "500", "--init", "first", "--tolerance", "0", "--iterations", "100000", "--input"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // "read: ... points" comes after the mapping; the iterations take minutes if nothing stops them.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("400000 points of 2 numbers"), "{first}");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > limit {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let rest: String = lines.map_while(Result::ok).collect::<Vec<_>>().join("\n");
    assert!(
        status.code() == Some(74) && rest.contains("a mapped input file was shortened"),
        "{status} {rest}"
    );
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut x = 1u64;
    let body: Vec<u8> = (0..60_000 * 8)
        .flat_map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((x >> 40) as f64).to_le_bytes()
        })
        .collect();
    std::fs::write(dir.path().join("x.npy"), npy("<f8", &[60_000, 8], &body)).unwrap();
    let args = [
        "--input",
        "x.npy",
        "--k",
        "900",
        "--init",
        "first",
        "--iterations",
        "1000000",
        "--tolerance",
        "0",
        "--output",
        "c.csv",
        "--threads",
        "1",
    ];
    built::assert_stops_in_order(env!("CARGO_BIN_EXE_kmeans"), dir.path(), &args);
    assert!(dir.path().join("c.csv").exists(), "the results so far are written");
}

#[cfg(not(feature = "hdf5"))]
#[test]
fn without_hdf5_the_program_says_how_to_get_it() {
    let (code, _, text) = kmeans(Path::new("/"), &["--input", "x.h5:/points", "--k", "2"]);
    assert!(code == 64 && text.contains("--features hdf5") && text.contains("libhdf5-dev"), "{code} {text}");
}
