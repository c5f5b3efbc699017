//! What an operator does in one turn: others, and the wires, want theirs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

use aeolian_net::World;
use aeolian_ops::{
    Ascending, Batch, Dataflow, Insert, LogicalPlan, Operator, Partition, RoundRobin, Sort, taking,
};
use std::cell::Cell;

/// Where records of one size are put many at a time, as where they are put one by one.
#[test]
fn what_has_ended_is_not_asked_again_and_nothing_needs_no_room() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap();
    let plan = LogicalPlan::new(&world, 2, 2);
    let mut came = Vec::new();
    let take = taking(|_, batch: Batch<u64>| came.extend(batch));
    let mut op = Partition::new(&flow, &plan, RoundRobin::default(), take).unwrap();
    let mut next = [Some(1), Some(2), None, Some(3), None].into_iter();
    op.insert_all(0, std::iter::from_fn(|| next.next().flatten())).unwrap();
    assert_eq!(next.len(), 2);
    // The other source is not there yet: a record would have to wait for it.
    op.barrier(0, Vec::new()).unwrap();
    op.insert_all(0, []).unwrap();
    op.barrier(1, Vec::new()).unwrap();
    op.insert_all(0, [4]).unwrap();
    (0..2).for_each(|source| op.finish(source).unwrap());
    op.complete().unwrap();
    drop(op);
    came.sort();
    assert_eq!(came, [1, 2, 4]);
}

/// What a rank has sent waits for it to move the wires: if it handed over all it has in one turn, its neighbours would begin when it is through.
#[test]
fn a_turn_hands_over_a_bit_of_much() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap();
    let (batches, records) = (Cell::new(0), Cell::new(0));
    let take = taking(|_, batch: Batch<u64>| {
        batches.set(batches.get() + 1);
        records.set(records.get() + batch.count());
    });
    let mut sort = Sort::new(&flow, &LogicalPlan::each_rank(&world), Ascending, take).unwrap();
    const N: u64 = 1 << 20;
    sort.insert_all(0, (0..N).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).unwrap();
    sort.finish(0).unwrap();
    let mut turns = 0;
    let handle = world.handle();
    while !sort.is_complete() {
        let before = batches.get();
        let moved = sort.progress().unwrap();
        assert!(batches.get() - before <= 16, "{} batches in one turn", batches.get() - before);
        turns += u32::from(batches.get() > before);
        assert!(handle.progress().unwrap() || moved || sort.is_complete(), "nothing moves any more");
    }
    assert_eq!(records.get() as u64, N);
    assert!(turns >= 8, "{turns} turns");
}
