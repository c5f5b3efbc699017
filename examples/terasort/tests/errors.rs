//! What a user sees when something is wrong: message, help, exit code, and nothing left behind.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

use program::{TERAGEN, TERASORT, TERAVALIDATE, built};

mod program;

#[test]
fn every_mistake_has_its_message_and_code() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for sub in ["in", "empty", "full", "other"] {
        std::fs::create_dir(at(sub)).unwrap();
    }
    std::fs::write(at("in/part-00000"), [1; 300]).unwrap();
    std::fs::write(at("full/part-00000"), [1; 100]).unwrap();
    std::fs::write(at("other/notes.txt"), "dear").unwrap();
    std::fs::write(at("cut"), [1; 250]).unwrap();
    std::fs::write(at("file"), [1; 100]).unwrap();
    std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
    built::assert_mistakes(
        TERASORT,
        dir.path(),
        &[
            (&["--input", "in"], 64, "--output"),
            (&["--output", "x", "--input", "none"], 66, "none: cannot be read: no such file or directory"),
            (
                &["--output", "x", "--input", "empty"],
                66,
                "empty: there are no files part-00000, part-00001, ... in it",
            ),
            (&["--output", "x", "--input", "/dev/null"], 66, "/dev/null: is not a regular file"),
            (
                &["--output", "x", "--input", "cut"],
                65,
                "cut: 250 bytes are not a whole number of records of 100 bytes",
            ),
            (&["--output", "in", "--input", "in"], 64, "--output in: the input in is there"),
            (
                &["--output", "./in", "--input", "in/part-00000"],
                64,
                "--output ./in: the input in/part-00000 is there",
            ),
            (&["--output", "full", "--input", "in"], 73, "full: is not empty: part-00000 is in it"),
            (
                &["--output", "other", "--input", "in", "--overwrite"],
                73,
                "other: is not replaced: notes.txt in it is not a part file",
            ),
            (
                &["--output", "file", "--input", "in", "--overwrite"],
                73,
                "file: is there, and is not a directory",
            ),
            (&["--output", "link", "--input", "in"], 73, "link: is there, and is not a directory"),
            (
                &["--output", "no/out", "--input", "in"],
                73,
                "no/out: cannot be created: no such file or directory",
            ),
            (&["--output", "x", "--input", "in", "--memory", "0"], 64, "no rank can work with 0 bytes"),
            (&["--output", "x", "--input", "in", "--memory", "-5"], 64, "it must not be negative"),
            (&["--output", "x", "--input", "in", "--memory", "-5GiB"], 64, "it must not be negative"),
            (&["--output", "x", "--input", "in", "--generate", "5"], 64, "cannot be used with"),
        ],
    );
    built::assert_mistakes(
        TERAGEN,
        dir.path(),
        &[
            (&["--output", "x"], 64, "--records"),
            (&["--records", "5"], 64, "--output"),
            (&["--records", "-5", "--output", "x"], 64, "it must not be negative"),
            (&["--records", "1e6", "--output", "x"], 64, "give a whole number up to 18446744073709551615"),
            (&["--records", "18446744073709551616", "--output", "x"], 64, "give a whole number up to 1844"),
            (
                &["--records", "1000000000000000000", "--output", "x"],
                64,
                "so many records have no size in 64 bits",
            ),
            (
                &["--records", "5", "--first", "1000000000000000000", "--output", "x"],
                64,
                "--first 1000000000000000000",
            ),
            (&["--records", "5", "--output", "x", "--format", "xml"], 64, "invalid value 'xml'"),
            (&["--records", "99999999999999", "--output", "x"], 73, "free, but the records need 8.9 PiB"),
            (&["--records", "5", "--output", "full"], 73, "full: is not empty: part-00000 is in it"),
        ],
    );
    built::assert_mistakes(
        TERAVALIDATE,
        dir.path(),
        &[
            (&[], 64, "--input"),
            (&["--input", "none"], 66, "none: cannot be read"),
            (&["--input", "cut"], 65, "cut: 250 bytes are not a whole number of records"),
            (&["--input", "in", "--checksum", "xyz"], 64, "a checksum is up to 32 hexadecimal digits"),
            (&["--input", "in", "--records", "4"], 65, "in: the number of records is 3, not 4"),
            (&["--input", "in", "--checksum", "7"], 65, "in: the checksum is "),
        ],
    );
}

#[test]
fn where_the_order_breaks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let write = |part: usize, keys: &[u8]| {
        let bytes: Vec<u8> = keys.iter().flat_map(|key| [*key; 100]).collect();
        std::fs::write(dir.path().join(format!("part-{part:05}")), bytes).unwrap();
    };
    let checked = || built::run(TERAVALIDATE, dir.path(), &["--input", ".", "--json"]);
    write(0, &[1, 2, 2, 9]);
    write(1, &[9, 10, 3, 4, 3]);
    let (code, json, said) = checked();
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, &all["unordered"], &all["duplicate_keys"], &all["sorted"]),
        (65, &2.into(), &2.into(), &false.into())
    );
    let want = "./part-00001: record 2: its key 0x03030303030303030303 is smaller than 0x0a0a0a0a0a0a0a0a0a0a of the record before it (./part-00001: record 1)";
    assert!(said.contains(want) && said.contains("2 records of 9 are not in order"), "{said}");
    write(1, &[8, 10]);
    let (code, _, said) = checked();
    assert!(
        code == 65 && said.contains("./part-00001: record 0: ") && said.contains("(./part-00000: record 3)"),
        "{code} {said}"
    );
    write(1, &[9]);
    assert_eq!(checked().0, 0);
}

#[test]
fn a_lone_process_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    // As many as there is room for.
    let room = rustix::fs::statvfs(dir.path()).unwrap();
    let records = (room.f_bavail * room.f_frsize / 200).to_string();
    built::assert_stops_in_order(TERAGEN, dir.path(), &["--records", &records, "--output", "x"]);
    let sort = ["--generate", "100000000000", "--output", "y", "--memory", "64MiB", "--scratch", "."];
    built::assert_stops_in_order(TERASORT, dir.path(), &sort);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_killed_run_leaves_nothing() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    // As many as there seems to be room for.
    let room = rustix::fs::statvfs(dir.path()).unwrap();
    let records = (room.f_bavail * room.f_frsize / 200).to_string();
    let make = ["--records", &records, "--output", "x"];
    built::assert_killed_leaves_nothing(TERAGEN, dir.path(), &make);
}

#[test]
fn what_a_killed_run_has_left_is_named_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".x.17.part")).unwrap();
    std::fs::write(dir.path().join(".x.17.part/part-00000"), "left").unwrap();
    let (code, _, said) = built::run(TERAGEN, dir.path(), &["--records", "5", "--output", "x", "--quiet"]);
    assert!(code == 0 && said.contains("/.x.17.part is there"), "{code} {said}");
    assert!(dir.path().join(".x.17.part/part-00000").exists() && dir.path().join("x/part-00000").exists());
}

#[test]
fn a_demonstration_replaces_only_one_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("terasort-demo/part-00000");
    std::fs::create_dir(dir.path().join("terasort-demo")).unwrap();
    std::fs::write(&file, [7; 500]).unwrap();
    built::assert_mistakes(
        TERASORT,
        dir.path(),
        &[(&[], 73, "terasort-demo: is not replaced: there are 500 bytes")],
    );
    assert_eq!(std::fs::read(&file).unwrap(), [7; 500]);
    let (code, _, said) = built::run(TERASORT, dir.path(), &["--overwrite"]);
    let told =
        "terasort: no --input: sorts records of teragen, made in memory, to the directory terasort-demo\n";
    assert!(code == 0 && said.starts_with(told), "{code} {said}");
}
