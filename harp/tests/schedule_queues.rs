//! The dynamic and the static scheduler against what one thread would do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use aeolian_harp::schedule::*;
use aeolian_harp::*;
use aeolian_net::exit;
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;

fn square(input: u64) -> std::result::Result<u64, TaskError> {
    // Some take longer than others.
    (0..input % 7).for_each(|_| std::thread::yield_now());
    Ok(input * input)
}

/// A task that an input 13 makes fail, and 66 panic.
fn touchy(input: u64) -> std::result::Result<u64, TaskError> {
    match input {
        13 => Err("unlucky".into()),
        66 => panic!("order {input}"),
        other => Ok(other),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn dynamic_does_each_input_once(threads in 1usize..6, n in 0u64..200, in_order: bool, cut in 0u64..200) {
        let order = if in_order { Order::Submission } else { Order::Completion };
        let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
        let (mut outputs, done) = std::thread::scope(|scope| {
            let task = |_| {
                let (counts, mut done) = (&counts, 0u64);
                move |input: u64| {
                    counts[input as usize].fetch_add(1, SeqCst);
                    done += 1;
                    Ok((square(input)?, done))
                }
            };
            let scheduler = DynamicScheduler::new(scope, (0..threads).map(task).collect(), order)?;
            let mut outputs = Vec::new();
            let cut = cut.min(n);
            (0..cut).for_each(|i| assert_eq!(scheduler.submit(i), i));
            if let Some(output) = scheduler.wait_for_output()? {
                outputs.push(output);
            }
            assert_eq!(scheduler.submit_all(cut..n), cut);
            while let Some(output) = scheduler.wait_for_output()? {
                outputs.push(output);
            }
            assert_eq!((scheduler.outstanding(), scheduler.has_output()), (0, false));
            // The tasks are threads' own: together they did all.
            let last = |tasks: Vec<_>| tasks.len();
            Ok::<_, HarpError>((outputs, last(scheduler.stop()?)))
        })
        .unwrap();
        prop_assert_eq!(done, threads);
        prop_assert!(counts.iter().all(|count| count.load(SeqCst) == 1));
        if !in_order {
            outputs.sort_by_key(|(input, _)| *input);
        }
        prop_assert_eq!(
            outputs.into_iter().map(|(i, (output, _))| (i, output)).collect::<Vec<_>>(),
            (0..n).map(|i| (i, i * i)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn static_keeps_the_order_of_each_queue(inputs in prop::collection::vec((0usize..5, any::<u32>()), 0..100)) {
        let seen: Vec<Mutex<Vec<u32>>> = (0..5).map(|_| Mutex::new(Vec::new())).collect();
        let outputs: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let scheduler = StaticScheduler::new(scope, 5, |id, _| {
                let seen = &seen;
                move |input: u32| {
                    seen[id].lock().unwrap().push(input);
                    Ok(input ^ 1)
                }
            })?;
            for &(task, input) in &inputs {
                scheduler.submit(task, input)?;
            }
            let outputs = (0..5).map(|id| std::iter::from_fn(|| scheduler.wait_for_output(id).transpose()).collect());
            let outputs = outputs.collect::<Result<Vec<_>>>()?;
            scheduler.stop()?;
            Ok::<_, HarpError>(outputs)
        })
        .unwrap();
        for id in 0..5 {
            let want: Vec<u32> = inputs.iter().filter(|(task, _)| *task == id).map(|(_, input)| *input).collect();
            prop_assert_eq!(&*seen[id].lock().unwrap(), &want);
            prop_assert_eq!(&outputs[id], &want.iter().map(|input| input ^ 1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn tokens_go_round_static_tasks(tasks in 1usize..6, tokens in prop::collection::vec(0u64..50, 0..6)) {
        // A token of n is passed on n times: n + 1 inputs.
        let done = std::thread::scope(|scope| {
            let scheduler = StaticScheduler::new(scope, tasks, |id, submitter: Submitter<u64>| {
                move |token: u64| {
                    if token > 0 {
                        submitter.submit((id + 1) % submitter.tasks(), token - 1)?;
                    }
                    Ok(())
                }
            })?;
            scheduler.submit_all(0, tokens.iter().copied())?;
            let mut done = 0;
            for id in 0..tasks {
                // The first one that is waited for waits for all that others might still send it.
                while scheduler.wait_for_output(id)?.is_some() {
                    done += 1;
                }
            }
            assert_eq!(scheduler.outstanding(), 0);
            Ok::<_, HarpError>(done)
        })
        .unwrap();
        prop_assert_eq!(done, tokens.iter().map(|n| n + 1).sum::<u64>());
    }
}

#[test]
fn an_error_and_a_panic_name_the_input_and_others_go_on() {
    for order in [Order::Completion, Order::Submission] {
        std::thread::scope(|scope| {
            let scheduler = DynamicScheduler::new(scope, vec![touchy; 3], order).unwrap();
            scheduler.submit_all([1, 13, 2, 66, 3]);
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            loop {
                match scheduler.wait_for_output() {
                    Ok(None) => break,
                    Ok(Some((_, output))) => good.push(output),
                    Err(e) => bad.push((e.to_string(), e.exit_code())),
                }
            }
            good.sort_unstable();
            bad.sort();
            assert_eq!(good, [1, 2, 3]);
            let want = [
                ("input 1: unlucky".to_string(), exit::PROGRAM),
                ("input 3: panicked: order 66".into(), exit::PANICKED),
            ];
            assert_eq!(bad, want);
            assert_eq!(scheduler.stop().unwrap().len(), 2, "the task that panicked is not trusted");
        });
    }
}

#[test]
fn inputs_for_nobody_are_errors() {
    std::thread::scope(|scope| {
        let scheduler = DynamicScheduler::new(scope, vec![touchy; 2], Order::Submission).unwrap();
        scheduler.submit_all([66, 66, 1, 2]);
        let next = || scheduler.wait_for_output().map_err(|e| e.to_string());
        assert_eq!(next(), Err("input 0: panicked: order 66".into()));
        assert_eq!(next(), Err("input 1: panicked: order 66".into()));
        let not = "it was not processed, because all tasks that could have panicked";
        assert_eq!(next(), Err(format!("input 2: {not}")));
        assert!(scheduler.has_output());
        assert_eq!(next(), Err(format!("input 3: {not}")));
        assert_eq!(next(), Ok(None));
        scheduler.submit(5);
        scheduler.pause();
        assert_eq!(next(), Err(format!("input 4: {not}")));
        assert!(scheduler.stop().unwrap().is_empty());
    });
}

#[test]
fn an_error_of_ours_inside_a_task_keeps_its_code() {
    let fails = |_: u8| -> std::result::Result<(), TaskError> { Err(HarpError::Root { root: 4, size: 2 })? };
    std::thread::scope(|scope| {
        let scheduler = DynamicScheduler::new(scope, vec![fails], Order::Completion).unwrap();
        scheduler.submit(0);
        assert_eq!(scheduler.wait_for_output().unwrap_err().exit_code(), exit::MISMATCH);
    });
}

#[test]
fn stop_tells_an_error_that_nobody_heard() {
    std::thread::scope(|scope| {
        let scheduler = DynamicScheduler::new(scope, vec![touchy], Order::Completion).unwrap();
        scheduler.submit_all([1, 13]);
        scheduler.pause();
        assert_eq!(scheduler.stop().err().unwrap().to_string(), "input 1: unlucky");
    });
}

#[test]
fn tasks_come_back_with_their_state() {
    struct Sum(u64);
    impl Task<u64> for Sum {
        type Output = ();
        fn run(&mut self, input: u64) -> std::result::Result<(), TaskError> {
            self.0 += input;
            Ok(())
        }
    }
    let sum = std::thread::scope(|scope| {
        let tasks = (0..4).map(|_| Sum(0)).collect();
        let scheduler = DynamicScheduler::new(scope, tasks, Order::Completion)?;
        scheduler.submit_all(0..=100);
        scheduler.pause();
        Ok::<u64, HarpError>(scheduler.stop()?.iter().map(|task| task.0).sum())
    });
    assert_eq!(sum.unwrap(), 5050);
}

#[test]
fn pauses_keep_inputs_and_never_hang() {
    std::thread::scope(|scope| {
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let slow = move |input: u64| {
            begun.send(input)?;
            may_go.recv()?;
            Ok(input)
        };
        let scheduler = DynamicScheduler::new(scope, vec![slow], Order::Completion).unwrap();
        scheduler.submit_all([0, 1, 2, 3]);
        assert_eq!(has_begun.recv().unwrap(), 0);
        std::thread::scope(|inner| {
            inner.spawn(|| scheduler.pause_now());
            // It waits for input 0 and takes no other.
            while !scheduler.is_paused() {
                std::thread::yield_now();
            }
            go.send(()).unwrap();
        });
        assert_eq!(scheduler.outstanding(), 3);
        assert!(has_begun.try_recv().is_err());
        assert_eq!(scheduler.wait_for_output().unwrap(), Some((0, 0)));
        assert!(!scheduler.has_output());
        assert!(matches!(scheduler.wait_for_output(), Err(HarpError::Usage(_))));
        scheduler.pause(); // paused as it is: nothing to wait for
        assert_eq!(scheduler.submit(4), 4);
        (0..4).for_each(|_| go.send(()).unwrap());
        scheduler.start();
        scheduler.pause(); // this one lets all end
        assert_eq!(has_begun.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
        for i in 1..=4 {
            assert_eq!(scheduler.wait_for_output().unwrap(), Some((i, i)));
        }
        assert_eq!(scheduler.wait_for_output().unwrap(), None);
        scheduler.stop().unwrap();
    });
}

#[test]
fn inputs_taken_back_leave_no_gap_in_the_order() {
    std::thread::scope(|scope| {
        let scheduler = DynamicScheduler::new(scope, vec![square; 3], Order::Submission).unwrap();
        scheduler.submit_all([1, 2]);
        scheduler.pause();
        scheduler.submit_all([3, 4]);
        assert_eq!(scheduler.clear_inputs(), [3, 4]);
        scheduler.start();
        assert_eq!(scheduler.submit(5), 4);
        let all: Vec<_> = std::iter::from_fn(|| scheduler.wait_for_output().unwrap()).collect();
        assert_eq!(all, [(0, 1), (1, 4), (4, 25)]);
    });
}

#[test]
fn dropping_a_scheduler_ends_its_threads() {
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let task = |_: u64| {
            taken.fetch_add(1, SeqCst);
            Ok(())
        };
        let scheduler = DynamicScheduler::new(scope, vec![task], Order::Completion).unwrap();
        scheduler.pause();
        scheduler.submit_all(0..1000);
        drop(scheduler);
    });
    assert_eq!(taken.into_inner(), 0);
}

#[test]
fn no_tasks_and_unknown_tasks_are_errors() {
    std::thread::scope(|scope| {
        let none: Vec<fn(u64) -> std::result::Result<u64, TaskError>> = Vec::new();
        assert!(matches!(DynamicScheduler::new(scope, none, Order::Completion), Err(HarpError::Usage(_))));
        assert!(matches!(StaticScheduler::new(scope, 0, |_, _| square), Err(HarpError::Usage(_))));
        let scheduler = StaticScheduler::new(scope, 2, |_, submitter: Submitter<u64>| {
            move |input: u64| Ok(submitter.submit(input as usize, 0)?)
        })
        .unwrap();
        assert!(scheduler.submit(2, 0).is_err());
        assert!(scheduler.wait_for_output(2).is_err());
        assert!(scheduler.clear_inputs(2).is_err());
        scheduler.submit(1, 7).unwrap();
        let error = scheduler.wait_for_output(1).unwrap_err();
        assert_eq!(error.to_string(), "input 0 of task 1: task 7 of a scheduler of 2 tasks");
    });
}

#[test]
fn a_panic_of_one_static_task_leaves_the_others() {
    std::thread::scope(|scope| {
        let scheduler = StaticScheduler::new(scope, 3, |_, _| touchy).unwrap();
        scheduler.submit_all(0, [1, 2]).unwrap();
        scheduler.submit_all(1, [3, 66, 4]).unwrap();
        scheduler.submit_all(2, [13, 5]).unwrap();
        let all = |task| -> Vec<_> {
            std::iter::from_fn(|| scheduler.wait_for_output(task).map_err(|e| e.to_string()).transpose())
                .collect()
        };
        let not = "it was not processed, because all tasks that could have panicked";
        assert_eq!(all(2), [Err("input 0 of task 2: unlucky".into()), Ok(5)]);
        assert_eq!(
            all(1),
            [
                Ok(3),
                Err("input 1 of task 1: panicked: order 66".into()),
                Err(format!("input 2 of task 1: {not}"))
            ]
        );
        assert_eq!(all(0), [Ok(1), Ok(2)]);
    });
}
