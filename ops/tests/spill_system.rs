//! What the system refuses or ends: full disks, descriptors, a killed process. Children do what cannot be done in the test's own process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod spill_common;

use aeolian_net::exit;
use aeolian_ops::spill::{DiskIo, Spill, SpillError, SpillFile, SpillOptions};
use spill_common::*;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn output_text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a test of this program in namespaces where it may mount; false, and said, if that cannot be had.
fn with_mounts(name: &str, directory: &Path) -> bool {
    let may = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none"]).arg(directory).output();
    if !may.as_ref().is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: `unshare -rm` cannot mount a tmpfs here: {may:?}");
        assert!(std::env::var_os("AEOLIAN_REQUIRE_ALL").is_none(), "namespaces are required");
        return false;
    }
    let child = child(name, "SPILL_TEST_MOUNTS", directory);
    let mut command = Command::new("unshare");
    command.arg("-rm").arg(child.get_program()).args(child.get_args());
    let output = command.env("SPILL_TEST_MOUNTS", directory).output().unwrap();
    assert!(output.status.success(), "{}", output_text(&output));
    assert!(output_text(&output).contains("1 passed"), "{}", output_text(&output));
    true
}

/// A tmpfs with these options.
fn mount(at: &Path, options: &str) -> PathBuf {
    std::fs::create_dir_all(at).unwrap();
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status().unwrap();
    assert!(status.success());
    at.into()
}

#[test]
fn full_disks_are_followed_by_the_next_and_the_last_by_an_error() {
    let Some(directory) = std::env::var_os("SPILL_TEST_MOUNTS").map(PathBuf::from) else {
        let directory = tempfile::tempdir().unwrap();
        with_mounts("full_disks_are_followed_by_the_next_and_the_last_by_an_error", directory.path());
        return;
    };
    for (i, io) in KINDS.into_iter().enumerate().filter(|&(_, io)| has(io)) {
        let small = mount(&directory.join(format!("small{i}")), "size=256k");
        let large = mount(&directory.join(format!("large{i}")), "size=1024k");
        let spill = Spill::new(SpillOptions {
            directories: vec![("AEOLIAN_SCRATCH".into(), small.clone()), ("TMPDIR".into(), large.clone())],
            block_bytes: 50_000,
            ..options(&small, io)
        });
        let file = spill.file("sort");
        let mut run = file.run();
        for i in 0..20 {
            run.write(bytes(50_000, i)).unwrap();
        }
        let run = run.finish().unwrap();
        let report = spill.report();
        assert!(report.directories[0].full, "{report:?}");
        assert!(report.directories.iter().all(|d| d.files == 1 && d.stored_bytes > 150_000), "{report:?}");

        // No room left: names and numbers, once and again.
        let mut second = file.run();
        let error = loop {
            if let Err(error) = second.write(bytes(50_000, 1)) {
                break error;
            }
            assert!(second.blocks() < 100, "nothing is full");
        };
        let text = error.to_string();
        let free = rustix::fs::statvfs(&large).unwrap();
        assert!(free.f_bavail * free.f_frsize < 2 * 50_064, "{text}");
        for word in [
            "48.9 KiB of `sort` on rank 3",
            &*format!("{} (AEOLIAN_SCRATCH, tmpfs, ", small.display()),
            &*format!("{} (TMPDIR, tmpfs, ", large.display()),
            " free): No space left on device",
            "help: set AEOLIAN_SCRATCH",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(error.exit_code(), exit::CANNOT_WRITE);
        assert!(matches!(second.finish(), Err(SpillError::NoRoom { .. })));

        // What was written is whole, and makes room as it is read.
        for (i, block) in read_all(run).into_iter().enumerate() {
            assert_eq!(block, bytes(50_000, i as u64));
        }
        let mut third = file.run();
        for i in 0..15 {
            third.write(bytes(50_000, i)).unwrap();
        }
        assert_eq!(read_all(third.finish().unwrap()).len(), 15);
        assert_eq!(spill.report().files, 2);
        assert_eq!(on_disk(&file), 0);
        // A block that fits nowhere.
        let mut huge = file.run();
        let failed = huge.write(bytes(2 << 20, 1)).and_then(|()| huge.finish().map(|_| ()));
        assert!(matches!(failed, Err(SpillError::NoRoom { wanted: 2_097_216, .. })), "{failed:?}");
    }
}

#[test]
fn a_directory_without_inodes_is_followed_by_the_next_and_the_last_by_an_error() {
    let Some(directory) = std::env::var_os("SPILL_TEST_MOUNTS").map(PathBuf::from) else {
        let name = "a_directory_without_inodes_is_followed_by_the_next_and_the_last_by_an_error";
        let directory = tempfile::tempdir().unwrap();
        with_mounts(name, directory.path());
        return;
    };
    // Who asks it again and again for one block is ended.
    let limit = rustix::process::Rlimit { current: Some(30), maximum: Some(30) };
    rustix::process::setrlimit(rustix::process::Resource::Cpu, limit).unwrap();
    let kinds = KINDS.into_iter().filter(|&io| has(io)).flat_map(|io| [(io, false), (io, true)]);
    for (i, (io, with_name)) in kinds.enumerate() {
        // The directory itself is one of the two.
        let few = mount(&directory.join(format!("few{i}")), "size=64m,nr_inodes=2");
        let many = mount(&directory.join(format!("many{i}")), "size=64m");
        let spill_to = |directories: &[(&str, &PathBuf)]| {
            let own = |&(by, path): &(&str, &PathBuf)| (by.into(), path.clone());
            let directories = directories.iter().map(own).collect();
            let spill = Spill::new(SpillOptions { directories, ..options(&few, io) });
            if with_name {
                spill.without_tmpfile();
            }
            spill
        };
        let write = |file: &SpillFile| {
            let mut run = file.run();
            (0..3).try_for_each(|i| run.write(bytes(1000, i)))?;
            run.finish()
        };
        // Where another file has just been closed: that an `io_uring` had may still be there for a moment.
        let write_soon = |file: &SpillFile| {
            let begin = Instant::now();
            let most = Duration::from_secs(if matches!(io, DiskIo::Auto | DiskIo::IoUring) { 10 } else { 0 });
            loop {
                match write(file) {
                    Err(SpillError::NoRoom { .. }) if begin.elapsed() < most => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    done => break done.unwrap(),
                }
            }
        };
        let whole = |run| assert_eq!(read_all(run), [0, 1, 2].map(|i| bytes(1000, i)));

        let spill = spill_to(&[("AEOLIAN_SCRATCH", &few), ("TMPDIR", &many)]);
        let (first, second) = (spill.file("sort"), spill.file("join"));
        // Who has a file there already goes on with it.
        let runs = [&first, &second, &first].map(|file| write(file).unwrap());
        let report = spill.report();
        let [a, b] = &report.directories[..] else { panic!("{report:?}") };
        assert_eq!((a.files, a.stored_bytes, a.full), (1, 6 * 1064, true), "{report:?}");
        assert_eq!((b.files, b.stored_bytes, b.full), (1, 3 * 1064, false), "{report:?}");
        runs.into_iter().for_each(whole);
        drop((spill, first, second));

        let spill = spill_to(&[("AEOLIAN_SCRATCH", &few)]);
        let (first, second) = (spill.file("sort"), spill.file("join"));
        let run = write_soon(&first);
        for _ in 0..2 {
            let error = write(&second).unwrap_err();
            let text = error.to_string();
            for word in [
                "`join` on rank 3",
                &*format!("{} (AEOLIAN_SCRATCH, tmpfs, 6", few.display()),
                " MiB free): no file can be made there: No space left on device",
                "help: where no file can be made, remove some",
                "`df -i`",
                "set AEOLIAN_SCRATCH",
            ] {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert_eq!(error.exit_code(), exit::CANNOT_WRITE);
        }
        [run, write(&first).unwrap()].into_iter().for_each(whole);
        // Its inode is free again.
        drop(first);
        whole(write_soon(&second));
    }
}

/// Whether the signal of this number is in a set of a process' status (`SigIgn`, `SigCgt`).
fn in_set(status: &str, set: &str, signal: u32) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t")).unwrap();
    u64::from_str_radix(set, 16).unwrap() >> (signal - 1) & 1 == 1
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_not_the_end() {
    let Some(directory) = std::env::var_os("SPILL_TEST_FILE_SIZE").map(PathBuf::from) else {
        // As it comes, and where whoever starts the program has the signal ignored.
        for before in ["", "trap '' XFSZ; export SPILL_TEST_IGNORED=1; "] {
            let directory = tempfile::tempdir().unwrap();
            let name = "a_limit_on_the_size_of_files_is_an_error_and_not_the_end";
            let child = child(name, "SPILL_TEST_FILE_SIZE", directory.path());
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("{before}exec \"$0\" \"$@\""));
            command.arg(child.get_program()).args(child.get_args());
            let output = command.env("SPILL_TEST_FILE_SIZE", directory.path()).output().unwrap();
            assert!(output.status.success(), "{}: {}", output.status, output_text(&output));
            assert!(output_text(&output).contains("1 passed"), "{}", output_text(&output));
        }
        return;
    };
    // As by `ulimit -f`, whose unit is not the same in all shells.
    let limit = rustix::process::Rlimit { current: Some(100_000), maximum: Some(100_000) };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    for (i, io) in KINDS.into_iter().enumerate().filter(|&(_, io)| has(io)) {
        let [a, b] = ["a", "b"].map(|name| directory.join(format!("{name}{i}")));
        for path in [&a, &b] {
            std::fs::create_dir(path).unwrap();
        }
        let spill = Spill::new(SpillOptions {
            directories: vec![("AEOLIAN_SCRATCH".into(), a.clone()), ("TMPDIR".into(), b.clone())],
            ..options(&a, io)
        });
        let file = spill.file("sort");
        let mut run = file.run();
        for i in 0..120 {
            run.write(bytes(1000, i)).unwrap();
        }
        let run = run.finish().unwrap();
        let report = spill.report();
        assert!(report.directories[0].full && !report.directories[1].full, "{report:?}");
        assert_eq!(report.directories.iter().map(|d| d.files).collect::<Vec<_>>(), [1, 1]);

        let mut second = file.run();
        let error = loop {
            if let Err(error) = second.write(bytes(1000, 1)) {
                break error;
            }
            assert!(second.blocks() < 200, "there is no limit");
        };
        let text = error.to_string();
        for word in [
            "`sort` on rank 3",
            &*format!("{} (AEOLIAN_SCRATCH, ", a.display()),
            &*format!("{} (TMPDIR, ", b.display()),
            "File too large (os error 27): a file of this process may have 97.7 KiB",
            "help: raise the limit on the size of files (`ulimit -f`), which holds in every directory",
            "or give the job more memory",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("set AEOLIAN_SCRATCH"), "no other directory helps: {text}");
        assert_eq!(error.exit_code(), exit::CANNOT_WRITE);
        assert!(matches!(second.finish(), Err(SpillError::NoRoom { .. })));

        // What was written is whole, and makes room as it is read.
        for (i, block) in read_all(run).into_iter().enumerate() {
            assert_eq!(block, bytes(1000, i as u64));
        }
        let mut third = file.run();
        for i in 0..50 {
            third.write(bytes(1000, i)).unwrap();
        }
        assert_eq!(read_all(third.finish().unwrap()).len(), 50);
        // A block that is longer than any file.
        let mut huge = file.run();
        let failed = huge.write(bytes(200_000, 1)).and_then(|()| huge.finish().map(|_| ()));
        assert!(failed.unwrap_err().to_string().contains("`ulimit -f`"));
    }
    // Programs that this one starts have the signal as it was; and who had said what is to come of it is not overruled.
    const SIGXFSZ: u32 = 25;
    let was_ignored = std::env::var_os("SPILL_TEST_IGNORED").is_some();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(in_set(&own, "SigCgt", SIGXFSZ), !was_ignored);
    assert_eq!(in_set(&own, "SigIgn", SIGXFSZ), was_ignored);
    let started = Command::new("cat").arg("/proc/self/status").output().unwrap();
    assert_eq!(in_set(&String::from_utf8_lossy(&started.stdout), "SigIgn", SIGXFSZ), was_ignored);
}

#[test]
fn no_descriptors_are_left() {
    let Some(directory) = std::env::var_os("SPILL_TEST_LIMIT").map(PathBuf::from) else {
        let directory = tempfile::tempdir().unwrap();
        let output = child("no_descriptors_are_left", "SPILL_TEST_LIMIT", directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", output_text(&output));
        assert!(output_text(&output).contains("1 passed"), "{}", output_text(&output));
        return;
    };
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    for io in KINDS {
        let spill = Spill::new(options(&directory, io));
        let mut run = spill.file("sort").run();
        let error = run.write(bytes(1000, 1)).unwrap_err();
        if io == DiskIo::IoUring {
            assert!(matches!(error, SpillError::NoIoUring { .. }), "{error}");
            assert!(error.to_string().contains("of `sort` on rank 3"), "{error}");
            continue;
        }
        let SpillError::TooManyFiles { limit, .. } = &error else { panic!("{error}") };
        assert_eq!(*limit, Some(64));
        let text = error.to_string();
        for word in ["Too many open files", "64 open files", "`sort` on rank 3", "ulimit -n"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(error.exit_code(), exit::OS);
        // With a descriptor again, the next run is as any other.
        taken.truncate(taken.len() - 3);
        let mut run = spill.file("sort").run();
        run.write(bytes(1000, 1)).unwrap();
        assert_eq!(read_all(run.finish().unwrap()), [bytes(1000, 1)]);
        // A ring is a descriptor too: there was none for it, and threads do it.
        let who = if io == DiskIo::Blocking { io } else { DiskIo::Threads };
        assert_eq!(spill.report().io, Some(who));
        drop(spill);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
    }
}

#[test]
fn a_killed_process_leaves_nothing() {
    if let Some(directory) = std::env::var_os("SPILL_TEST_KILL").map(PathBuf::from) {
        // Writes until it is killed, by each who can.
        let all: Vec<_> = KINDS.into_iter().filter(|&io| has(io)).collect();
        let mut runs: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(i, &io)| {
                let spill = Spill::new(options(&directory, io));
                if i % 2 == 0 {
                    spill.without_tmpfile();
                }
                spill.file("sort").run()
            })
            .collect();
        let began = std::time::Instant::now();
        while began.elapsed().as_secs() < 60 {
            for run in &mut runs {
                run.write(bytes(1000, 1)).unwrap();
            }
            if runs[0].blocks() == 100 {
                eprintln!("100 blocks");
            }
            if runs[0].blocks() > 10_000 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        return;
    }
    use std::io::BufRead;
    let directory = tempfile::tempdir().unwrap();
    let mut command = child("a_killed_process_leaves_nothing", "SPILL_TEST_KILL", directory.path());
    let mut child =
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let said = std::io::BufReader::new(child.stderr.take().unwrap());
    assert!(said.lines().any(|line| line.unwrap().contains("100 blocks")));
    let held = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        files.filter(|f| {
            let to = std::fs::read_link(f.as_ref().unwrap().path()).unwrap_or_default();
            to.starts_with(directory.path())
        })
    };
    assert!(held().count() >= 3, "it has its files");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "none of them has a name");
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Threads that are ours, by their names, and run. (One that was waited for may be in the list for a moment, on its way out.)
fn threads() -> usize {
    const PF_EXITING: u32 = 4;
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let runs = |stat: &String| {
        let (name, rest) = stat.rsplit_once(')').unwrap();
        let flags: u32 = rest.split_whitespace().nth(6).unwrap().parse().unwrap();
        name.contains("(aeolian-spill") && flags & PF_EXITING == 0
    };
    tasks.filter_map(|t| std::fs::read_to_string(t.unwrap().path().join("stat")).ok()).filter(runs).count()
}

#[test]
fn threads_begin_with_the_first_block_and_end_with_the_last_handle() {
    let Some(directory) = std::env::var_os("SPILL_TEST_THREADS").map(PathBuf::from) else {
        let name = "threads_begin_with_the_first_block_and_end_with_the_last_handle";
        let directory = tempfile::tempdir().unwrap();
        let output = child(name, "SPILL_TEST_THREADS", directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", output_text(&output));
        assert!(output_text(&output).contains("1 passed"), "{}", output_text(&output));
        return;
    };
    let spill = Spill::new(options(&directory, DiskIo::Threads));
    let (a, b) = (spill.file("a"), spill.file("b"));
    let mut run = a.run();
    assert_eq!(threads(), 0);
    run.write(bytes(1000, 1)).unwrap();
    let mut other = b.run();
    other.write(bytes(1000, 1)).unwrap();
    let run = run.finish().unwrap();
    drop((spill, a, b, other));
    // Names are given by the threads themselves, which may not have run yet.
    while threads() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(threads(), 2);
    drop(run);
    assert_eq!(threads(), 0);
}
