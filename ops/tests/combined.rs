//! What sources of a keyed reduction send.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

use aeolian_net::World;
use aeolian_ops::{Batch, Dataflow, Insert, KeyedReduce, LogicalPlan, Operator, Options, taking};
use std::cell::Cell;

/// Each of two ranks counts the keys of `n` numbers, `keys` different ones: bytes that a rank sends, the most of both.
fn sent(memory: u64, n: u64, keys: u64, key: impl Fn(u64) -> u64 + Sync) -> u64 {
    let sent = World::local(2, |world| {
        let flow =
            Dataflow::with(&world, Options { memory, ..Options::detect(world.layout(), world.rank())? });
        let (count, sum) = (Cell::new(0), Cell::new(0));
        let take = taking(|_, batch: Batch<(u64, u64)>| {
            for (_, counted) in batch {
                count.set(count.get() + 1);
                sum.set(sum.get() + counted);
            }
        });
        let add = |sum: &mut u64, more| *sum += more;
        let mut op = KeyedReduce::new(&flow, &LogicalPlan::each_rank(&world), add, take)?;
        let before = world.traffic().bytes_sent;
        op.insert_all(world.rank(), (0..n).map(|i| (key(i), 1)))?;
        op.finish(world.rank())?;
        op.complete()?;
        let bytes = world.traffic().bytes_sent - before;
        drop(op);
        assert_eq!((flow.memory().used(), flow.spill().report().files), (0, 0));
        world.finish()?;
        Ok((bytes, count.get(), sum.get()))
    })
    .unwrap();
    assert_eq!(sent.iter().map(|(_, count, _)| count).sum::<u64>(), keys);
    assert_eq!(sent.iter().map(|(_, _, sum)| sum).sum::<u64>(), 2 * n);
    sent.into_iter().map(|(bytes, ..)| bytes).max().unwrap()
}

const PAIR: u64 = 16;
const KEYS: u64 = 50_000;

#[test]
fn a_pair_a_key_where_keys_come_again() {
    // Half of all keys, and of what is in batches that are not full at the end at most as many again.
    assert!(sent(1 << 30, 20 * KEYS, KEYS, |i| i % KEYS) < 2 * KEYS * PAIR);
}

#[test]
fn what_takes_too_much_is_sent_and_more_is_kept_if_it_pays() {
    // Three of four have few keys; tables have not room for all of the others.
    let n = 60 * KEYS;
    let key = |i: u64| if i.is_multiple_of(4) { i / 4 % KEYS } else { i % 5003 };
    let bytes = sent(4 << 20, n, KEYS, key);
    assert!((4 * KEYS * PAIR..n * PAIR / 4).contains(&bytes), "{bytes}");
}

#[test]
fn as_it_came_where_keys_are_all_others() {
    let n = 400_000;
    let bytes = sent(16 << 20, n, n, |i| i);
    assert!((n * PAIR / 5 * 2..n * PAIR / 5 * 3).contains(&bytes), "{bytes}");
}
