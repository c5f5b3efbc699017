//! Disks that fail, fill up or lie.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod spill_common;

use aeolian_net::exit;
use aeolian_ops::spill::{Compression, Damage, DiskIo, Fault, Spill, SpillError, SpillFile, SpillOptions};
use spill_common::*;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Errors of the system, as tests name them.
const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOSPC: i32 = 28;

#[test]
fn short_and_interrupted_calls_are_continued() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let directory = tempfile::tempdir().unwrap();
        let spill = Spill::new(SpillOptions { write_behind: 2, ..options(directory.path(), io) });
        let faults =
            [Fault::Short(1), Fault::Short(64), Fault::Errno(EINTR), Fault::Short(500), Fault::Short(70)];
        spill.write_faults(faults.map(Some));
        spill.read_faults(faults.map(Some));
        let mut run = spill.file("sort").run();
        for i in 0..10 {
            run.write(bytes(1000, i)).unwrap();
        }
        let back = read_all(run.finish().unwrap());
        for (i, block) in back.iter().enumerate() {
            assert_eq!(*block, bytes(1000, i as u64), "{io:?}");
        }
        assert_eq!(back.len(), 10);
    }
}

#[test]
fn a_failed_write_is_told_by_every_later_call() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        for n in 0..6 {
            let directory = tempfile::tempdir().unwrap();
            let spill = Spill::new(options(directory.path(), io));
            let file = spill.file("sort");
            let mut faults = vec![None; n];
            faults.push(Some(Fault::Errno(EIO)));
            spill.write_faults(faults);
            let mut run = file.run();
            let told: Vec<_> = (0..6).filter_map(|i| run.write(bytes(1000, i)).err()).collect();
            let error = run.finish().unwrap_err();
            for error in told.iter().chain([&error]) {
                assert!(
                    matches!(error, SpillError::Write { offset, .. } if *offset == n as u64 * 1064),
                    "{error}"
                );
            }
            let text = error.to_string();
            for word in
                ["`sort`", "rank 3", &*directory.path().to_string_lossy(), "Input/output error", "help:"]
            {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert_eq!(error.exit_code(), exit::IO);
            // Others go on.
            let mut other = file.run();
            other.write(bytes(10, 1)).unwrap();
            assert_eq!(read_all(other.finish().unwrap()), [bytes(10, 1)]);
            assert_eq!(spill.report().stored_now, 0);
        }
    }
}

#[test]
fn a_failed_read_says_where_and_can_be_tried_again() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let directory = tempfile::tempdir().unwrap();
        let spill = Spill::new(options(directory.path(), io));
        let mut run = spill.file("join").run();
        for i in 0..10 {
            run.write(bytes(1000, i)).unwrap();
        }
        let mut reader = run.finish().unwrap().read();
        spill.read_faults([None, None, Some(Fault::Errno(EIO))]);
        let mut failed = 0;
        let mut i = 0;
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(block)) => {
                    assert_eq!(block, bytes(1000, i));
                    i += 1;
                }
                Err(SpillError::Read { place, offset, bytes, .. }) => {
                    assert_eq!((&*place.operator, offset, bytes), ("join", 2 * 1064, 1064));
                    failed += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((i, failed), (10, 1), "{io:?}");
    }
}

/// A run of three blocks, with its file.
fn three(
    directory: &Path,
    io: DiskIo,
    compression: Compression,
) -> (Spill, SpillFile, aeolian_ops::spill::Run) {
    let spill = Spill::new(SpillOptions { compression, ..options(directory, io) });
    let file = spill.file("sort");
    let mut run = file.run();
    for i in 0..3 {
        run.write(bytes(1000, i)).unwrap();
    }
    let run = run.finish().unwrap();
    (spill, file, run)
}

#[test]
fn a_flipped_byte_anywhere_in_a_block_is_found() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        for compression in compressions() {
            let directory = tempfile::tempdir().unwrap();
            let (_spill, file, run) = three(directory.path(), io, compression);
            let (part, offset, total) = run.places()[1];
            let disk = file.files()[part].clone();
            // Each byte of the header, the first, some and the last of the payload.
            for at in (0..70).chain([200, total / 2, total - 1]) {
                let mut byte = [0];
                disk.read_exact_at(&mut byte, offset + at).unwrap();
                disk.write_all_at(&[byte[0] ^ 0x10], offset + at).unwrap();
                let mut reader = run.reader();
                assert_eq!(reader.next().unwrap().unwrap(), bytes(1000, 0));
                let error = reader.next().unwrap_err();
                let SpillError::Damaged { offset: told, damage, .. } = &error else {
                    panic!("{at}: {error}")
                };
                assert_eq!(*told, offset);
                match at {
                    0..8 => assert_eq!(*damage, Damage::Magic),
                    8..10 => assert!(matches!(damage, Damage::Version(_))),
                    _ => assert!(matches!(damage, Damage::Checksum { .. }), "{at}: {error}"),
                }
                let text = error.to_string();
                let where_ = format!("offset {offset}");
                let directory = directory.path().to_string_lossy();
                for word in ["`sort`", "rank 3", &*directory, &where_, "disk's", "not the network's"] {
                    assert!(text.contains(word), "{word}: {text}");
                }
                assert_eq!(error.exit_code(), exit::IO);
                // Whole again, it is read: nothing was given up.
                disk.write_all_at(&byte, offset + at).unwrap();
                assert_eq!(reader.next().unwrap().unwrap(), bytes(1000, 1));
                assert_eq!(reader.next().unwrap().unwrap(), bytes(1000, 2));
            }
        }
    }
}

#[test]
fn a_block_in_the_place_of_another_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (_spill, file, run) = three(directory.path(), DiskIo::Auto, Compression::None);
    let places = run.places();
    let mut block = vec![0; places[0].2 as usize];
    let disk = &file.files()[0];
    disk.read_exact_at(&mut block, places[0].1).unwrap();
    disk.write_all_at(&block, places[1].1).unwrap();
    let mut reader = run.read();
    reader.next().unwrap();
    let error = reader.next().unwrap_err();
    assert!(matches!(error, SpillError::Damaged { damage: Damage::Misplaced, .. }), "{error}");
}

#[test]
fn a_truncated_file_is_found() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        for left in [0u64, 1, 63, 64, 65, 1063] {
            let directory = tempfile::tempdir().unwrap();
            let (_spill, file, run) = three(directory.path(), io, Compression::None);
            file.files()[0].set_len(2 * 1064 + left).unwrap();
            let mut reader = run.read();
            reader.next().unwrap().unwrap();
            reader.next().unwrap().unwrap();
            let error = reader.next().unwrap_err();
            assert!(
                matches!(&error, SpillError::Truncated { offset: 2128, bytes: 1064, got, .. } if *got == left),
                "{left}: {error}"
            );
            assert!(error.to_string().contains("disk's"), "{error}");
        }
    }
}

#[test]
fn what_lost_room_by_a_fault_moves_to_the_next_directory() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let spill = Spill::new(SpillOptions {
            directories: vec![("first".into(), a.path().into()), ("second".into(), b.path().into())],
            ..options(a.path(), io)
        });
        spill.write_faults([None, Some(Fault::Errno(ENOSPC)), None, Some(Fault::Short(100))]);
        let file = spill.file("sort");
        let mut run = file.run();
        for i in 0..10 {
            run.write(bytes(1000, i)).unwrap();
        }
        let back = read_all(run.finish().unwrap());
        assert_eq!(back, (0..10).map(|i| bytes(1000, i)).collect::<Vec<_>>());
        let report = spill.report();
        assert_eq!(report.files, 2);
        assert!(report.directories[0].full && !report.directories[1].full, "{report:?}");
        assert_eq!(report.directories[0].stored_bytes + report.directories[1].stored_bytes, 10 * 1064);
        assert_eq!(on_disk(&file), 0);
    }
}

/// As with a quota that nobody tells of: the file system says that there is room, and refuses.
#[test]
fn a_directory_is_not_asked_twice_for_one_block() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let directory = tempfile::tempdir().unwrap();
        let spill = Spill::new(options(directory.path(), io));
        spill.write_faults([Some(Fault::Errno(ENOSPC))]);
        let file = spill.file("sort");
        let mut run = file.run();
        let error = run.write(bytes(1000, 1)).and_then(|()| run.finish().map(|_| ())).unwrap_err();
        let SpillError::NoRoom { refusals, wanted: 1064, .. } = &error else { panic!("{error}") };
        assert_eq!((refusals.len(), refusals[0].answer), (1, Some(ENOSPC)));
        // The next block may find room again.
        let mut run = file.run();
        run.write(bytes(1000, 2)).unwrap();
        assert_eq!(read_all(run.finish().unwrap()), [bytes(1000, 2)]);
    }
}

#[test]
fn directories_that_are_memory_come_last_and_those_not_writable_never() {
    let local = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let look = aeolian_net::scratch::look("test", local.path());
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return eprintln!("skipped: no /dev/shm") };
    if look.medium != aeolian_net::scratch::Medium::Local {
        return eprintln!("skipped: the build directory is on {}", look.file_system);
    }
    let nowhere = local.path().join("not there");
    let directories: Vec<(String, PathBuf)> = [
        ("AEOLIAN_SCRATCH", memory.path()),
        ("AEOLIAN_SCRATCH", &nowhere),
        ("TMPDIR", local.path()),
        ("default", Path::new("/not/looked/at")),
    ]
    .map(|(by, path)| (by.into(), path.into()))
    .into();
    let spill = Spill::new(SpillOptions { directories, ..SpillOptions::from_env(1, 0) });
    let mut run = spill.file("sort").run();
    run.write(bytes(1000, 1)).unwrap();
    let report = spill.report();
    let files: Vec<_> = report.directories.iter().map(|d| d.files).collect();
    assert_eq!(files, [0, 0, 1, 0], "{report:?}");
    assert_eq!(report.directories[1].refused, Some(2));
    assert_eq!(report.directories[3].file_system, "not looked at");
    drop(run.finish().unwrap());
    // Memory is better than nothing.
    spill.write_faults([Some(Fault::Errno(ENOSPC))]);
    let mut run = spill.file("sort").run();
    run.write(bytes(1000, 1)).unwrap();
    assert_eq!(read_all(run.finish().unwrap()), [bytes(1000, 1)]);
    assert_eq!(spill.report().directories[0].files, 1, "{:?}", spill.report());
}
