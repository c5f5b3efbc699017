//! `aeolian tune`, and jobs that take what it has written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian_net::tuning::{Row, Shape, Tuning};
use common::site::{Site, clean, tested};
use common::{Done, trial};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// The file in a cache directory.
fn file(cache: &Path) -> PathBuf {
    cache.join("aeolian/tune.txt")
}

/// A command on `n` ranks over TCP, with that cache directory and `AEOLIAN_TUNE`.
fn run(cache: &Path, n: u32, tune: Option<&str>, words: &[&str]) -> Done {
    let site = Site::run(&["--transport", "tcp"]).with("XDG_CACHE_HOME", cache.to_str().unwrap());
    // Empty is as if it were not set.
    let site = site.with("AEOLIAN_TUNE", tune.unwrap_or_default());
    trial::run(site.command(n, words), LIMIT)
}

/// `aeolian tune` with that cache directory.
fn tune(cache: &Path, options: &[&str]) -> Done {
    let mut command = clean(Command::new(tested()));
    command.arg("tune").args(options).env("XDG_CACHE_HOME", cache).env("AEOLIAN_TUNE", "");
    trial::run(command, LIMIT)
}

/// The line about tuning of a self-test that passes.
fn tuned(done: &Done) -> Option<&str> {
    assert!(done.status.success() && done.out.ends_with("selftest passed\n"), "{done:?}");
    done.out.lines().find_map(|line| line.trim().strip_prefix("tuned: "))
}

fn row(wire: &str, ranks: u32, values: &[(&str, u64)]) -> Row {
    let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    Row { shape: Shape { wire: wire.into(), nodes: 1, ranks }, values }
}

fn write(path: &Path, rows: Vec<Row>) {
    let mut tuning = Tuning::default();
    rows.into_iter().for_each(|row| tuning.put(row));
    tuning.write(path).unwrap();
}

#[test]
fn what_is_measured_is_taken_by_the_next_job() {
    let cache = tempfile::tempdir().unwrap();
    let done = tune(cache.path(), &["--quick", "-n", "2"]);
    assert!(done.status.success() && done.err.is_empty(), "{done:?}");
    let path = file(cache.path());
    for line in [
        "aeolian tune: 2 ranks on 1 node over tcp, about 5 s",
        &format!("written to {} for 2 ranks on 1 node over tcp", path.display()),
    ] {
        assert!(done.out.lines().any(|l| l == line), "{line}: {done:?}");
    }
    let tuning = Tuning::read(&path).unwrap().unwrap();
    let [row] = tuning.rows.as_slice() else { panic!("{tuning:?}") };
    assert_eq!(row.shape, Shape { wire: "tcp".into(), nodes: 1, ranks: 2 });
    assert!(row.values.keys().eq(["eager", "piece", "sparse"]), "{row:?}");

    let done = run(cache.path(), 2, None, &["selftest"]);
    let all: Vec<String> = row.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
    assert_eq!(tuned(&done), Some(&*all.join(", ")));
    assert!(done.err.is_empty(), "{done:?}");
    let done = run(cache.path(), 2, Some("off"), &["selftest"]);
    assert!(tuned(&done).is_none() && done.err.is_empty(), "{done:?}");
}

/// Rows of the extremes: every algorithm on every size.
#[test]
fn results_are_right_whatever_the_file_says() {
    let cache = tempfile::tempdir().unwrap();
    let extremes = [
        [("eager", 0), ("ring_share", 0), ("piece", 0), ("sparse", 0)],
        [("eager", u64::MAX), ("ring_share", u64::MAX), ("piece", u64::MAX), ("sparse", u64::MAX)],
    ];
    for values in extremes {
        write(&file(cache.path()), vec![row("tcp", 3, &values), row("shm", 3, &[]), row("tcp", 99, &[])]);
        let done = run(cache.path(), 3, None, &["selftest"]);
        assert!(tuned(&done).is_some_and(|line| line.contains("piece")) && done.err.is_empty(), "{done:?}");
    }
}

#[test]
fn a_job_of_another_wire_or_size_is_not_tuned() {
    let cache = tempfile::tempdir().unwrap();
    let other = row("tcp", 5, &[("eager", 7)]);
    write(&file(cache.path()), vec![row("mpi", 2, &[("eager", 7)]), row("shm", 2, &[("eager", 7)]), other]);
    assert_eq!(tuned(&run(cache.path(), 2, None, &["selftest"])), None);
    assert_eq!(tuned(&run(cache.path(), 3, None, &["selftest"])), Some("eager 7"), "nearly as many ranks");
}

/// One warning of rank 0 that names the file; then the defaults hold.
#[test]
fn a_file_that_is_no_good_is_told_once_and_the_job_runs() {
    let cache = tempfile::tempdir().unwrap();
    let path = file(cache.path());
    let warned = |tune: Option<&str>, what: &str| {
        let done = run(cache.path(), 2, tune, &["selftest"]);
        assert_eq!(tuned(&done), None);
        assert!(done.err.starts_with("aeolian: warning: not tuned, the defaults hold: "), "{done:?}");
        let fine = done.err.contains(what) && done.err.matches("warning").count() == 1;
        assert!(fine && done.err.contains("\n  help: "), "{what}: {done:?}");
        done
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "version 1\nrow wire=tcp nodes=1 ranks=2 eager=7\n").unwrap();
    let done = warned(None, &format!("the tuning file {} is damaged", path.display()));
    assert!(done.err.contains("run aeolian tune again, or delete the file"), "{done:?}");
    std::fs::write(&path, "version 99\n").unwrap();
    warned(None, "is of version 99");
    let nowhere = cache.path().join("nowhere");
    warned(nowhere.to_str(), "nowhere, which is not there");

    // It is written anew; what jobs said of it is told once.
    let done = tune(cache.path(), &["--quick", "-n", "2"]);
    assert!(done.status.success(), "{done:?}");
    assert!(done.err.contains("what was in it is lost") && done.err.lines().count() == 1, "{done:?}");
    assert_eq!(Tuning::read(&path).unwrap().unwrap().rows.len(), 1);
}

#[test]
fn a_place_that_cannot_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = clean(Command::new(tested()));
    command.args(["tune", "--quick", "-n", "2"]).env("AEOLIAN_TUNE", "off");
    let done = trial::run(command, LIMIT);
    assert!(done.code() == 78 && done.err.contains("--output FILE"), "{done:?}");
    let done = run(dir.path(), 2, None, &["tune", "--quick", "-n", "3"]);
    assert!(done.code() == 78 && done.err.contains("give them to the launcher"), "{done:?}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let under = file.join("tune.txt");
    let done = run(dir.path(), 2, None, &["tune", "--quick", "--output", under.to_str().unwrap()]);
    assert!(!done.status.success() && done.err.contains("writing the tuning file"), "{done:?}");
}

#[test]
fn ranks_that_share_memory_have_nothing_to_choose() {
    let cache = tempfile::tempdir().unwrap();
    for n in ["1", "2"] {
        let done = tune(cache.path(), &["-n", n, "--transport", "shm"]);
        assert!(done.status.success() && done.out.contains("nothing to choose"), "{done:?}");
    }
    assert!(!file(cache.path()).exists());
}

/// Under an MPI's launcher, over that MPI; beside what is there of TCP.
#[test]
fn ranks_of_another_launcher_measure_in_their_job() {
    for site in [Site::openmpi(), Site::mpich()].into_iter().flatten() {
        let cache = tempfile::tempdir().unwrap();
        write(&file(cache.path()), vec![row("tcp", 2, &[("eager", 7)])]);
        let site = site.with("AEOLIAN_TRANSPORT", "mpi").with("AEOLIAN_TUNE", "");
        let site = site.with("XDG_CACHE_HOME", cache.path().to_str().unwrap());
        let done = trial::run(site.command(2, &["tune", "--quick"]), LIMIT);
        assert!(done.status.success() && done.out.contains("for 2 ranks on 1 node over mpi\n"), "{done:?}");
        let rows = Tuning::read(&file(cache.path())).unwrap().unwrap().rows;
        let wires: Vec<_> = rows.iter().map(|row| row.shape.wire.as_str()).collect();
        assert_eq!(wires, ["tcp", "mpi"]);
        let done = trial::run(site.command(2, &["selftest"]), LIMIT);
        assert!(tuned(&done).is_some_and(|line| line.starts_with("eager")), "{done:?}");
    }
}
