//! Operators whose disk fills up, runs out of descriptors or lies: an error that says whose, where and what; never a wrong result.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod spill_common;

use aeolian_net::{NetError, World, exit};
use aeolian_ops::spill::{DiskIo, SpillError, SpillOptions};
use aeolian_ops::{
    Ascending, Batch, Dataflow, Insert, Join, JoinAlgorithm, JoinKind, KeyedGather, KeyedReduce, Lists,
    LogicalPlan, Operator, OpsError, Options, Order, Sort, Ways, drive, taking,
};
use spill_common::*;
use std::cell::RefCell;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The operators that spill, by the names that errors have for them.
const OPERATORS: [&str; 4] = ["keyed_reduce", "sort", "join", "keyed_gather"];
const RECORDS: u64 = 3000;

/// Everything that can spill does.
fn dataflow(world: &World, directory: &Path, io: DiskIo) -> Dataflow {
    let spill = SpillOptions {
        directories: vec![("AEOLIAN_SCRATCH".into(), directory.into())],
        block_bytes: 4000,
        rank: world.rank(),
        io,
        ..SpillOptions::from_env(0x5eed, 0)
    };
    Dataflow::with(world, Options { memory: 0, batch: 1000, spill, ways: Ways::default() })
}

/// Pairs of a source.
fn pairs(source: u32) -> impl Iterator<Item = (String, u64)> {
    (0..RECORDS).map(move |i| ("key ".to_string() + &(i * 7 % 2500).to_string(), u64::from(source) << 32 | i))
}

/// Inserts, and completes it; calls `between` when all is inserted and after each step.
fn through<O: Operator>(
    op: &mut O,
    me: u32,
    insert: impl FnOnce(&mut O) -> Result<(), OpsError>,
    mut between: impl FnMut(),
) -> Result<(), OpsError> {
    insert(op)?;
    between();
    op.finish(me)?;
    drive(op, |op| {
        between();
        Ok(op.is_complete().then_some(()))
    })
}

/// Runs the operator; what this rank's target got, each as text.
fn run(name: &str, flow: &Dataflow, between: impl FnMut()) -> Result<Vec<String>, OpsError> {
    let (plan, me) = (LogicalPlan::each_rank(flow.world()), flow.world().rank());
    let got = RefCell::new(Vec::new());
    let pair = taking(|_, batch: Batch<(String, u64)>| {
        got.borrow_mut().extend(batch.map(|pair| format!("{pair:?}")));
    });
    match name {
        "keyed_reduce" => {
            let mut op = KeyedReduce::new(flow, &plan, |a: &mut u64, b| *a += b, pair)?;
            through(&mut op, me, |op| op.insert_all(me, pairs(me)), between)?;
        }
        "sort" => {
            let mut op = Sort::new(flow, &plan, Ascending, pair)?;
            through(&mut op, me, |op| op.insert_all(me, pairs(me)), between)?;
        }
        "join" => {
            let row = |key: &String, l: Option<&u64>, r: Option<&u64>| (key.clone(), l.copied(), r.copied());
            let take = taking(|_, batch: Batch<(String, Option<u64>, Option<u64>)>| {
                got.borrow_mut().extend(batch.map(|row| format!("{row:?}")));
            });
            let mut op = Join::new(flow, &plan, JoinKind::Inner, JoinAlgorithm::Hash, row, take)?;
            let insert = |op: &mut Join<_, _, _, _, _>| {
                op.insert_all_left(me, pairs(me))?;
                op.insert_all_right(me, pairs(me).step_by(5))
            };
            through(&mut op, me, insert, between)?;
        }
        "keyed_gather" => {
            let take = Lists::new(|_, key: String, mut values: Vec<u64>| {
                values.sort_unstable();
                got.borrow_mut().push(format!("{key} {values:?}"));
            });
            let mut op = KeyedGather::new(flow, &plan, Order::Any, take)?;
            through(&mut op, me, |op| op.insert_all(me, pairs(me)), between)?;
        }
        other => panic!("no operator {other}"),
    }
    Ok(got.take())
}

/// What all ranks get where nothing is wrong, sorted.
fn right(name: &str) -> Vec<String> {
    let got = World::local(2, |world| {
        let flow = Dataflow::with(&world, Options { memory: 1 << 30, ..Options::detect(world.layout(), 0)? });
        let got = run(name, &flow, || ())?;
        assert_eq!(flow.spill().report().blocks_written, 0);
        drop(flow);
        world.finish()?;
        Ok(got)
    });
    sorted(got.unwrap())
}

fn sorted(got: Vec<Vec<String>>) -> Vec<String> {
    let mut got = got.concat();
    got.sort();
    got
}

/// The open files of this process in a directory, which have no names.
fn files_in(directory: &Path) -> Vec<std::fs::File> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if std::fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(directory)) {
            files.extend(std::fs::OpenOptions::new().read(true).write(true).open(entry.path()));
        }
    }
    files
}

/// Makes each block that is on the disk one that is not right.
fn damage(file: &std::fs::File, how: &str) -> bool {
    let bytes = file.metadata().unwrap().len();
    match how {
        "flip" => {
            // In each stretch that is no longer than a block.
            let mut byte = [0];
            for at in (100..bytes).step_by(500) {
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            }
        }
        _ => file.set_len(bytes / 2).unwrap(),
    }
    bytes > 200
}

#[test]
fn blocks_that_were_flipped_or_cut_are_errors_and_never_results() {
    for name in OPERATORS {
        let right = right(name);
        assert!(!right.is_empty());
        for how in ["", "flip", "cut"] {
            let directory = tempfile::tempdir().unwrap();
            let outcome = World::local(2, |world| {
                // The caller itself writes: what was inserted is on the disk when it is damaged.
                let own = directory.path().join(world.rank().to_string());
                std::fs::create_dir(&own).map_err(|e| NetError::Usage(e.to_string()))?;
                let flow = dataflow(&world, &own, DiskIo::Blocking);
                let mut is_done = world.rank() == 0 || how.is_empty();
                let got = run(name, &flow, || {
                    // As soon as there is something.
                    is_done = is_done || files_in(&own).iter().filter(|file| damage(file, how)).count() > 0;
                })?;
                assert!(is_done, "{name}: nothing was on the disk");
                assert!(flow.spill().report().blocks_read > 0, "{name} has not spilled");
                drop(flow);
                world.finish()?;
                Ok(got)
            });
            let text = match (how, outcome) {
                ("", got) => {
                    assert_eq!(sorted(got.unwrap()), right, "{name}");
                    continue;
                }
                (_, Ok(got)) => {
                    panic!("{name} gave {} records of damaged blocks ({how})", got.concat().len())
                }
                (_, Err(e)) => e.to_string(),
            };
            let own = directory.path().join("1").display().to_string();
            // (What is written behind the cut leaves a hole there.)
            let is_cut = how == "cut" && text.contains("is truncated: the block at offset");
            assert!(is_cut || text.contains("is damaged: the block at offset"), "{name}, {how}: {text}");
            for word in [&*format!("`{name} #"), "on rank 1", &own, "the disk's or its file system's fault"] {
                assert!(text.contains(word), "{name}, {how}: no {word:?} in: {text}");
            }
        }
    }
}

/// Runs a test of this program in namespaces where it may mount.
fn with_mounts(name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut may = Command::new("unshare");
    let may = may.args(["-rm", "mount", "-t", "tmpfs", "none"]).arg(directory.path()).output();
    if !may.as_ref().is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: `unshare -rm` cannot mount a tmpfs here: {may:?}");
        assert!(std::env::var_os("AEOLIAN_REQUIRE_ALL").is_none(), "namespaces are required");
        return;
    }
    let child = child(name, "SPILL_TEST_MOUNTS", directory.path());
    let mut command = Command::new("unshare");
    command.arg("-rm").arg(child.get_program()).args(child.get_args());
    passes(command.env("SPILL_TEST_MOUNTS", directory.path()));
}

fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let text = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The error of a run on one rank.
fn failed(name: &str, directory: &Path, before: impl Fn(&Dataflow) + Sync) -> OpsError {
    let error = std::sync::Mutex::new(None);
    let told = World::local(1, |world| {
        let flow = dataflow(&world, directory, DiskIo::Auto);
        before(&flow);
        if let Err(e) = run(name, &flow, || ()) {
            let text = e.to_string();
            *error.lock().unwrap() = Some(e);
            return Err(NetError::Usage(text));
        }
        drop(flow);
        world.finish()
    });
    assert!(told.is_err(), "{name} came to an end");
    error.into_inner().unwrap().unwrap()
}

#[test]
fn a_full_disk_names_operator_rank_and_directory() {
    let Some(directory) = std::env::var_os("SPILL_TEST_MOUNTS").map(PathBuf::from) else {
        return with_mounts("a_full_disk_names_operator_rank_and_directory");
    };
    let small = directory.join("small");
    std::fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "none"]).arg(&small).status();
    assert!(mount.unwrap().success());
    for name in OPERATORS {
        let error = failed(name, &small, |_| ());
        assert!(matches!(error, OpsError::Spill(SpillError::NoRoom { .. })), "{name}: {error}");
        assert_eq!(error.exit_code(), exit::CANNOT_WRITE);
        let text = error.to_string();
        let place = format!("{} (AEOLIAN_SCRATCH, tmpfs, ", small.display());
        for word in
            [&*format!("`{name} #"), "on rank 0", &place, "No space left on device", "set AEOLIAN_SCRATCH"]
        {
            assert!(text.contains(word), "{name}: no {word:?} in: {text}");
        }
    }
}

#[test]
fn no_descriptor_left_names_operator_rank_and_directory() {
    let Some(directory) = std::env::var_os("SPILL_TEST_LIMIT").map(PathBuf::from) else {
        let directory = tempfile::tempdir().unwrap();
        let name = "no_descriptor_left_names_operator_rank_and_directory";
        return passes(&mut child(name, "SPILL_TEST_LIMIT", directory.path()));
    };
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    for name in OPERATORS {
        let taken = std::sync::Mutex::new(Vec::new());
        let error = failed(name, &directory, |_| {
            while let Ok(file) = std::fs::File::open("/dev/null") {
                taken.lock().unwrap().push(file);
            }
        });
        let OpsError::Spill(SpillError::TooManyFiles { limit: Some(64), .. }) = &error else {
            panic!("{name}: {error}")
        };
        assert_eq!(error.exit_code(), exit::OS);
        let text = error.to_string();
        let directory = directory.display().to_string();
        for word in [&*format!("`{name} #"), "on rank 0", &directory, "Too many open files", "ulimit -n"] {
            assert!(text.contains(word), "{name}: no {word:?} in: {text}");
        }
    }
}
