//! What is spilled comes back, block by block, whoever reads and writes; and what it holds meanwhile is bounded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod spill_common;

use aeolian_net::Buf;
use aeolian_ops::spill::{Compression, DiskIo, Spill, SpillError, SpillOptions};
use proptest::prelude::*;
use spill_common::*;

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), Just(999), Just(1000), Just(1001), 2..900usize, 3000..20_000usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn interleaved_runs_come_back(
        blocks in prop::collection::vec((0..7usize, lengths()), 0..60),
        lz4 in any::<bool>(), kind in 0..KINDS.len(), behind in 0..5usize, ahead in 0..5usize,
        order in any::<prop::sample::Index>(), keep in any::<bool>(), named in any::<bool>(),
    ) {
        let io = KINDS[kind];
        prop_assume!(has(io));
        let directory = tempfile::tempdir().unwrap();
        let compression = if lz4 { Compression::Lz4 } else { Compression::None };
        let spill = Spill::new(SpillOptions {
            compression, write_behind: behind, read_ahead: ahead, ..options(directory.path(), io)
        });
        if named {
            spill.without_tmpfile();
        }
        let file = spill.file("sort");
        let mut writers: Vec<_> = (0..7).map(|_| file.run()).collect();
        let mut oracle: Vec<Vec<Buf>> = vec![Vec::new(); 7];
        for (i, &(run, len)) in blocks.iter().enumerate() {
            let block = bytes(len, i as u64);
            writers[run].write(block.clone()).unwrap();
            oracle[run].push(block);
        }
        let mut runs = Vec::new();
        for (writer, oracle) in writers.into_iter().zip(&oracle) {
            prop_assert_eq!(writer.bytes(), oracle.iter().map(|b| b.len() as u64).sum::<u64>());
            let run = writer.finish().unwrap();
            prop_assert_eq!(run.blocks(), oracle.len());
            runs.push(run);
        }
        if keep {
            for (run, oracle) in runs.iter().zip(&oracle) {
                let mut reader = run.reader();
                for block in oracle {
                    let read = reader.next().unwrap();
                    prop_assert_eq!(read.as_ref(), Some(block));
                }
                prop_assert_eq!(reader.next().unwrap(), None);
            }
        }
        // As a merge reads them: a block here, a block there.
        let mut readers: Vec<_> = runs.into_iter().map(|r| r.read()).zip(oracle.iter().map(|o| o.iter())).collect();
        let mut turn = 0;
        while !readers.is_empty() {
            turn += 1;
            let at = (order.index(1 << 20) * turn) % readers.len();
            let (reader, oracle) = &mut readers[at];
            if turn % 3 == 0 {
                reader.prefetch().unwrap();
            }
            let read = reader.next().unwrap();
            prop_assert_eq!(read.as_ref(), oracle.next());
            if read.is_none() {
                drop(readers.swap_remove(at));
            }
        }
        let report = spill.report();
        prop_assert_eq!(report.blocks_written, blocks.len() as u64);
        prop_assert_eq!(report.stored_now, 0);
        prop_assert!(report.files == u64::from(!blocks.is_empty()));
        let most = 20_000 + 1000;
        prop_assert!(report.write_behind_peak <= (behind.max(1) as u64 * 1000).max(most), "{report:?}");
        prop_assert!(report.read_ahead_peak <= ahead as u64 * 1000, "{report:?}");
        prop_assert_eq!(on_disk(&file), 0);
        prop_assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_thousand_runs_are_one_file_and_bounded_memory() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let directory = tempfile::tempdir().unwrap();
        let spill =
            Spill::new(SpillOptions { write_behind: 3, read_ahead: 5, ..options(directory.path(), io) });
        let file = spill.file("merge");
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut writers: Vec<_> = (0..1000).map(|_| file.run()).collect();
        writers[0].write(bytes(1000, 0)).unwrap();
        let before = descriptors();
        for block in 0..3 {
            for (i, writer) in writers.iter_mut().enumerate() {
                writer.write(bytes(1000, i as u64 + block)).unwrap();
            }
        }
        let mut readers: Vec<_> = writers.into_iter().map(|w| w.finish().unwrap().read()).collect();
        assert_eq!(readers[0].next().unwrap().unwrap(), bytes(1000, 0));
        for block in 0..3 {
            for (i, reader) in readers.iter_mut().enumerate() {
                assert_eq!(reader.next().unwrap().unwrap(), bytes(1000, i as u64 + block), "{io:?} {i}");
                reader.prefetch().unwrap();
            }
        }
        // Tests beside this one open some too.
        assert!(descriptors() < before + 200, "a descriptor for each run");
        let report = spill.report();
        assert_eq!((report.files, report.blocks_written, report.blocks_read), (1, 3001, 3001));
        assert!(report.write_behind_peak <= 3000, "{report:?}");
        assert!(report.read_ahead_peak <= 5000, "{report:?}");
        if io != DiskIo::Blocking {
            assert!(report.read_ahead_peak > 0, "nothing was read ahead: {report:?}");
        }
    }
}

#[test]
fn a_block_longer_than_all_that_may_wait_waits_alone() {
    let directory = tempfile::tempdir().unwrap();
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let spill = Spill::new(SpillOptions { write_behind: 4, ..options(directory.path(), io) });
        let mut run = spill.file("join").run();
        for i in 0..20 {
            run.write(bytes(if i % 5 == 4 { 50_000 } else { 900 }, i)).unwrap();
        }
        assert!(spill.report().write_behind_peak <= 50_000, "{:?}", spill.report());
        assert_eq!(read_all(run.finish().unwrap()).len(), 20);
    }
}

#[test]
fn lz4_shrinks_what_can_be_shrunk_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let spill = Spill::new(SpillOptions {
        compression: Compression::Lz4,
        ..options(directory.path(), DiskIo::Blocking)
    });
    let file = spill.file("sort");
    let mut run = file.run();
    run.write(Buf::zeroed(1 << 20)).unwrap();
    let small = spill.report().stored_bytes;
    assert!(small < 10_000, "{small}");
    let mut state = 1u64;
    let noise: Vec<u64> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 29)
    })
    .take(1000)
    .collect();
    run.write(Buf::from_pod(&noise)).unwrap();
    assert_eq!(spill.report().stored_bytes - small, 8000 + 64, "a header is all that is added");
    let back = read_all(run.finish().unwrap());
    assert_eq!(back[1].cast::<u64>(), noise);
    assert_eq!(back[0].len(), 1 << 20);
}

#[test]
fn dropped_runs_free_their_place() {
    for compression in compressions() {
        for io in KINDS.into_iter().filter(|&io| has(io)) {
            let directory = tempfile::tempdir().unwrap();
            let spill = Spill::new(SpillOptions {
                compression,
                block_bytes: 100_000,
                ..options(directory.path(), io)
            });
            let file = spill.file("group");
            let mut writers: Vec<_> = (0..4).map(|_| file.run()).collect();
            for i in 0..40 {
                writers[i % 4].write(bytes(100_000, i as u64)).unwrap();
            }
            let mut runs: Vec<_> = writers.into_iter().map(|w| w.finish().unwrap()).collect();
            let full = on_disk(&file);
            // Neighbours share pages: the quarter is not whole.
            drop(runs.remove(1));
            let three = on_disk(&file);
            assert!(three < full * 8 / 10, "{full} {three}");
            // Read once, blocks go as they are given out; the last run needs all of its own still.
            let mut reader = runs.remove(0).read();
            for _ in 0..8 {
                reader.next().unwrap().unwrap();
            }
            let less = on_disk(&file);
            assert!(less < three * 8 / 10, "{three} {less}");
            drop(reader);
            let last = runs.remove(1);
            drop(runs);
            assert!(on_disk(&file) < full * 3 / 10);
            assert_eq!(read_all(last).len(), 10);
            assert_eq!(on_disk(&file), 0);
            // A run given up half-way, with blocks on their way.
            let mut run = file.run();
            for i in 0..5 {
                run.write(bytes(100_000, i)).unwrap();
            }
            drop(run);
            let mut other = file.run();
            other.write(bytes(10, 1)).unwrap();
            let other = other.finish().unwrap();
            while spill.report().stored_now > 74 {
                std::thread::yield_now();
            }
            drop(other);
            assert_eq!((on_disk(&file), spill.report().stored_now), (0, 0));
        }
    }
}

#[test]
fn a_run_that_others_still_read_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let spill = Spill::new(options(directory.path(), DiskIo::Auto));
    let file = spill.file("iterate");
    let mut run = file.run();
    for i in 0..10 {
        run.write(bytes(5000, i)).unwrap();
    }
    let run = run.finish().unwrap();
    let mut kept = run.reader();
    assert_eq!(read_all(run).len(), 10);
    for i in 0..10 {
        assert_eq!(kept.next().unwrap().unwrap(), bytes(5000, i));
    }
    drop(kept);
    assert_eq!(on_disk(&file), 0);
}

#[test]
fn readers_given_up_leave_nothing_of_what_they_read_ahead() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let directory = tempfile::tempdir().unwrap();
        let spill = Spill::new(SpillOptions { read_ahead: 4, ..options(directory.path(), io) });
        let file = spill.file("merge");
        let mut run = file.run();
        for i in 0..50 {
            run.write(bytes(1000, i)).unwrap();
        }
        let run = run.finish().unwrap();
        for _ in 0..20 {
            let mut reader = run.reader();
            reader.next().unwrap();
        }
        let mut reader = run.read();
        for i in 0..50 {
            assert_eq!(reader.next().unwrap().unwrap(), bytes(1000, i));
        }
        assert!(spill.report().read_ahead_peak <= 4000);
    }
}

#[test]
fn nothing_is_opened_before_the_first_block() {
    let spill = Spill::new(SpillOptions {
        directories: vec![("test".into(), "/nonexistent".into())],
        ..SpillOptions::from_env(1, 0)
    });
    let file = spill.file("sort");
    assert_eq!(read_all(file.run().finish().unwrap()).len(), 0);
    assert_eq!(spill.report().to_string(), "nothing spilled");
    assert!(matches!(file.run().write(Buf::empty()), Err(SpillError::NoRoom { .. })));
}

#[test]
fn the_report_names_operators() {
    let directory = tempfile::tempdir().unwrap();
    let spill = Spill::new(options(directory.path(), DiskIo::Blocking));
    for (operator, blocks) in [("sort #1", 2), ("join #2", 1), ("sort #1", 3)] {
        let mut run = spill.file(operator).run();
        (0..blocks).for_each(|i| run.write(bytes(1000, i)).unwrap());
        run.finish().unwrap();
    }
    let report = spill.report();
    assert_eq!(
        report.operators.into_iter().collect::<Vec<_>>(),
        [("join #2".into(), 1000), ("sort #1".into(), 5000)]
    );
    assert!(spill.report().to_string().contains("; sort #1: 4.9 KiB"), "{}", spill.report());
}

/// Handles and what runs belong to may go in any order, with requests on their way.
#[test]
fn handles_go_in_any_order() {
    for io in KINDS.into_iter().filter(|&io| has(io)) {
        let directory = tempfile::tempdir().unwrap();
        let spill = Spill::new(options(directory.path(), io));
        let file = spill.file("sort");
        let mut run = file.run();
        drop((spill, file));
        for i in 0..6 {
            run.write(bytes(1000, i)).unwrap();
        }
        let run = run.finish().unwrap();
        let mut reader = run.reader();
        drop(run);
        assert_eq!(reader.next().unwrap().unwrap(), bytes(1000, 0));
        let spill = Spill::new(options(directory.path(), io));
        let mut run = spill.file("sort").run();
        run.write(bytes(100_000, 1)).unwrap();
        drop(spill);
        drop(run);
    }
}
