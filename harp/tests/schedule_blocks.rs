//! The block scheduler: who meets whom, how often, and what stays the same.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use aeolian_harp::HarpError;
use aeolian_harp::schedule::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// A split that knows its number and whether somebody is at it.
struct Split {
    number: usize,
    busy: AtomicBool,
}

fn splits(n: usize) -> Vec<Split> {
    (0..n).map(|number| Split { number, busy: AtomicBool::new(false) }).collect()
}

/// Runs blocks, checks that none meet, and that the counts are those of the calls.
fn checked(threads: usize, (rows, cols): (usize, usize), until: Until, in_order: bool) -> BlockCounts {
    let (mut r, mut c) = (splits(rows), splits(cols));
    let calls: Vec<AtomicU64> = (0..rows * cols).map(|_| AtomicU64::new(0)).collect();
    let (at_work, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // `&mut` would show a collision only to the compiler: flags show it to this test, whatever hands the splits out.
    let work = |row: usize, r: &mut Split, col: usize, c: &mut Split| -> Result<(), TaskError> {
        assert_eq!((r.number, c.number), (row, col));
        assert!(!r.busy.swap(true, SeqCst), "two threads in row {row}");
        assert!(!c.busy.swap(true, SeqCst), "two threads in column {col}");
        most.fetch_max(at_work.fetch_add(1, SeqCst) + 1, SeqCst);
        (0..(row * 3 + col) % 5).for_each(|_| std::thread::yield_now());
        calls[row * cols + col].fetch_add(1, SeqCst);
        at_work.fetch_sub(1, SeqCst);
        r.busy.store(false, SeqCst);
        c.busy.store(false, SeqCst);
        Ok(())
    };
    let mut scheduler = BlockScheduler::new(threads, 11);
    let counts = match in_order {
        true => scheduler.run_in_order(&mut r, &mut c, until, work),
        false => scheduler.run(&mut r, &mut c, until, work),
    }
    .unwrap();
    for row in 0..rows {
        for col in 0..cols {
            assert_eq!(counts.of(row, col), calls[row * cols + col].load(SeqCst));
        }
    }
    assert_eq!((counts.of(rows, 0), counts.of(0, cols)), (0, 0));
    assert!(most.into_inner() <= threads);
    counts
}

/// What splits become whose blocks do not commute, floating-point rounding included.
fn mixed(threads: usize, seed: u64, (rows, cols): (usize, usize), until: Until) -> Vec<u64> {
    let mut r: Vec<f64> = (0..rows).map(|i| 1.0 + i as f64).collect();
    let mut c: Vec<f64> = (0..cols).map(|i| 0.1 * i as f64).collect();
    BlockScheduler::new(threads, seed)
        .run_in_order(&mut r, &mut c, until, |i, r, j, c| {
            (0..(i + j) % 4).for_each(|_| std::thread::yield_now());
            (*r, *c) = ((*r * 1.1 + *c).sin() + i as f64, (*c - *r / 3.0).cos() + j as f64);
            Ok(())
        })
        .unwrap();
    r.iter().chain(&c).map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn each_block_as_often_as_asked(
        threads in 1usize..7, shape in (0usize..8, 0usize..8), epochs in 0u64..4, in_order: bool
    ) {
        let counts = checked(threads, shape, Until::Epochs(epochs), in_order);
        let blocks = (shape.0 * shape.1) as u64;
        prop_assert_eq!(counts.total(), blocks * epochs);
        if blocks > 0 {
            prop_assert_eq!((counts.least(), counts.most()), (epochs, epochs));
        }
    }

    #[test]
    fn a_number_of_blocks_is_spread(
        threads in 1usize..7, shape in (1usize..7, 1usize..7), blocks in 0u64..100, in_order: bool
    ) {
        let counts = checked(threads, shape, Until::Blocks(blocks), in_order);
        prop_assert_eq!(counts.total(), blocks);
        prop_assert!(counts.most() - counts.least() <= 1);
    }

    #[test]
    fn in_order_has_the_same_bits_for_any_threads(
        shape in (1usize..7, 1usize..7), blocks in 0u64..80, seed: u64
    ) {
        let one = mixed(1, seed, shape, Until::Blocks(blocks));
        for threads in [2, 3, 5] {
            prop_assert_eq!(&mixed(threads, seed, shape, Until::Blocks(blocks)), &one);
        }
    }

    #[test]
    fn time_is_fair(threads in 1usize..5, shape in (1usize..6, 1usize..6), micros in 0u64..3000) {
        let counts = checked(threads, shape, Until::Time(Duration::from_micros(micros)), false);
        prop_assert!(counts.most() - counts.least() <= 2, "{:?}", counts);
    }
}

#[test]
fn another_seed_or_run_is_another_order() {
    let order = |seed, runs| {
        let mut scheduler = BlockScheduler::new(1, seed);
        let mut all = Vec::new();
        for in_order in [true, false].repeat(runs) {
            let seen = Mutex::new(Vec::new());
            let work = |row, _: &mut (), col, _: &mut ()| {
                seen.lock().unwrap().push((row, col));
                Ok(())
            };
            match in_order {
                true => scheduler.run_in_order(&mut [(); 6], &mut [(); 6], Until::Epochs(1), work),
                false => scheduler.run(&mut [(); 6], &mut [(); 6], Until::Epochs(1), work),
            }
            .unwrap();
            all.push(seen.into_inner().unwrap());
        }
        all
    };
    // With one thread, all is the same again.
    assert_eq!(order(3, 2), order(3, 2));
    let (a, b) = (order(3, 2), order(4, 1));
    assert!(a[0] != a[2] && a[1] != a[3] && a[0] != b[0] && a[1] != b[1]);
}

#[test]
fn no_time_is_no_blocks_and_for_ever_ends_with_an_error() {
    assert_eq!(checked(3, (4, 4), Until::Time(Duration::ZERO), false).total(), 0);
    let calls = AtomicU64::new(0);
    let error = BlockScheduler::new(2, 0)
        .run(&mut [(); 3], &mut [(); 3], Until::Time(Duration::MAX), |_, _, _, _| {
            if calls.fetch_add(1, SeqCst) == 100 { Err("enough".into()) } else { Ok(()) }
        })
        .unwrap_err();
    assert!(error.to_string().ends_with(": enough"), "{error}");
}

#[test]
fn time_has_no_order() {
    let run = BlockScheduler::new(1, 0).run_in_order(
        &mut [0],
        &mut [0],
        Until::Time(Duration::ZERO),
        |_, _, _, _| Ok(()),
    );
    assert!(matches!(run, Err(HarpError::Usage(_))));
}

#[test]
fn an_error_or_a_panic_names_the_block_and_ends_all() {
    for threads in [1, 2, 4] {
        for in_order in [true, false] {
            for panics in [true, false] {
                let begun_after = AtomicUsize::new(0);
                let failed = AtomicBool::new(false);
                let work = |row: usize, _: &mut (), col: usize, _: &mut ()| {
                    if failed.load(SeqCst) {
                        begun_after.fetch_add(1, SeqCst);
                    }
                    if (row, col) != (2, 1) {
                        return Ok(());
                    }
                    failed.store(true, SeqCst);
                    if panics { panic!("lost a string") } else { Err("lost a string".into()) }
                };
                let mut scheduler = BlockScheduler::new(threads, 5);
                let (rows, cols) = (&mut [(); 5], &mut [(); 5]);
                let error = match in_order {
                    true => scheduler.run_in_order(rows, cols, Until::Epochs(10), work),
                    false => scheduler.run(rows, cols, Until::Epochs(10), work),
                }
                .unwrap_err();
                let block = Work::Block { row: 2, col: 1 };
                match error {
                    HarpError::Panicked { work, ref what } if panics => {
                        assert_eq!((work, &what[..]), (block, "lost a string"));
                        assert_eq!(error.to_string(), "block (2, 1): panicked: lost a string");
                    }
                    HarpError::Task { work, ref source } if !panics => {
                        assert_eq!((work, source.to_string()), (block, "lost a string".into()));
                    }
                    other => panic!("{other}"),
                }
                if threads == 1 {
                    assert_eq!(begun_after.into_inner(), 0);
                }
            }
        }
    }
}

#[test]
fn blocks_that_share_nothing_are_worked_on_at_once() {
    for in_order in [true, false] {
        let (here, all_here) = (Mutex::new(0), Condvar::new());
        let work = |_, _: &mut (), _, _: &mut ()| {
            let mut count = here.lock().unwrap();
            *count += 1;
            all_here.notify_all();
            let patience = Duration::from_secs(60);
            let (count, _) = all_here.wait_timeout_while(count, patience, |count| *count < 3).unwrap();
            if *count == 3 { Ok(()) } else { Err("the others never came".into()) }
        };
        let mut scheduler = BlockScheduler::new(8, 0);
        let (rows, cols) = (&mut [(); 3], &mut [(); 3]);
        match in_order {
            true => scheduler.run_in_order(rows, cols, Until::Blocks(3), work),
            false => scheduler.run(rows, cols, Until::Blocks(3), work),
        }
        .unwrap();
    }
}
