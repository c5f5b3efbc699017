//! Operators that reduce all values to one.

use crate::keyed::by_target;
use crate::trial::{Log, Trial, trials};
use aeolian_net::World;
use aeolian_ops::{AllReduce, Dataflow, Full, Insert, LogicalPlan, Operator, Reduce};
use proptest::prelude::*;
use std::cell::Cell;
use std::time::{Duration, Instant};

fn value(source: u32, round: u32, place: usize) -> String {
    match place % 5 {
        0 => String::new(),
        _ => format!("{source}.{round}.{place} "),
    }
}

/// Strings one behind another, which shows in which order they came.
fn combine(all: &mut String, more: String) {
    all.push_str(&more);
}

fn check(trial: &Trial, rounds: &[Vec<Log<String>>]) {
    for (round, by_rank) in (0..).zip(rounds) {
        let sources = 0..trial.sources.len() as u32;
        let of = |source| (0..trial.records_of(source, round)).map(move |place| value(source, round, place));
        let values: Vec<String> = sources.flat_map(of).collect();
        let want: Vec<String> = if values.is_empty() { vec![] } else { vec![values.concat()] };
        for got in by_target(trial, by_rank) {
            assert_eq!(got, want, "{trial:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn reduce(mut trial in trials()) {
        trial.targets.truncate(1);
        let rounds = trial.run(|flow, plan, moody| Reduce::new(flow, plan, combine, moody), value);
        check(&trial, &rounds);
    }

    #[test]
    fn all_reduce(trial in trials()) {
        let rounds = trial.run(|flow, plan, moody| AllReduce::new(flow, plan, combine, moody), value);
        check(&trial, &rounds);
    }
}

/// Ranks that only wait for one another are told so; one whose receiver refuses is none of them.
#[test]
fn a_receiver_may_take_its_time() {
    let hang = Duration::from_millis(100);
    let sums = World::local_with(2, hang, |world| {
        let flow = Dataflow::new(&world)?;
        let (began, sum) = (Instant::now(), Cell::new(0));
        let late = |_: u32, value: u64| match began.elapsed() > 20 * hang {
            true => {
                sum.set(value);
                Ok(())
            }
            false => Err(Full(value)),
        };
        let mut op = AllReduce::new(&flow, &LogicalPlan::new(&world, 2, 1), |a: &mut u64, b| *a += b, late)?;
        op.insert_all(world.rank(), [2, 3])?;
        op.finish(world.rank())?;
        op.complete()?;
        drop(op);
        world.finish()?;
        Ok(sum.get())
    });
    assert_eq!(sums.unwrap(), [10, 0]);
}
