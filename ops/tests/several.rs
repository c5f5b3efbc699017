//! Several operators at once, and many one after another.

use aeolian_net::World;
use aeolian_ops::{Batch, Dataflow, Gather, Insert, LogicalPlan, Operator, Partition, complete_all, taking};
use std::sync::Barrier;

/// Each rank has more than a window for the other one, in another operator.
#[test]
fn a_rank_that_waits_for_room_takes_what_comes_for_others() {
    const MANY: u64 = 2_000_000;
    let counts = World::local(2, |world| {
        let (flow, me) = (Dataflow::new(&world)?, world.rank());
        let plan = LogicalPlan::each_rank(&world);
        let to_other = |source: u32, _: &u64, _: u32| 1 - source;
        let mut counts = [0; 2];
        let [of_a, of_b] = &mut counts;
        let mut a = Partition::new(&flow, &plan, to_other, taking(|_, b: Batch<u64>| *of_a += b.count()))?;
        let mut b =
            Partition::new(&flow, &plan, to_other, taking(|_, batch: Batch<u64>| *of_b += batch.count()))?;
        let (to_a, to_b) = if me == 0 { (10, MANY) } else { (MANY, 10) };
        a.insert_all_beside(me, 0..to_a, &mut [&mut b])?;
        b.insert_all_beside(me, 0..to_b, &mut [&mut a])?;
        a.finish(me)?;
        b.finish(me)?;
        complete_all(&mut [&mut a, &mut b])?;
        drop((a, b));
        world.finish()?;
        Ok(counts)
    });
    assert_eq!(counts.unwrap(), [[MANY as usize, 10], [10, MANY as usize]]);
}

/// One that names no others is told so, instead of waiting for ever.
#[test]
fn who_waits_for_one_only_is_found() {
    let got = World::local_with(2, std::time::Duration::from_millis(300), |world| {
        let (flow, me) = (Dataflow::new(&world)?, world.rank());
        let plan = LogicalPlan::each_rank(&world);
        let to_other = |source: u32, _: &u64, _: u32| 1 - source;
        let mut a = Partition::new(&flow, &plan, to_other, taking(|_, _: Batch<u64>| {}))?;
        let mut b = Partition::new(&flow, &plan, to_other, taking(|_, _: Batch<u64>| {}))?;
        let (to_a, to_b) = if me == 0 { (10, 2_000_000) } else { (2_000_000, 10) };
        a.insert_all(me, 0..to_a)?;
        b.insert_all(me, 0..to_b)?;
        Ok(())
    });
    let told = got.unwrap_err().to_string();
    assert!(
        told.contains("partition #1") && told.contains("partition #2") && told.contains("insert_all_beside"),
        "{told}"
    );
}

/// A rank that only sends may be any number of operators ahead of one that has not begun.
#[test]
fn a_source_is_thousands_of_operators_ahead() {
    let sent = Barrier::new(2);
    let sums = World::local(2, |world| {
        let flow = Dataflow::new(&world)?;
        let plan = LogicalPlan::each_rank(&world).sources_on(&[1])?.targets_on(&[0])?;
        let mut sum = 0;
        if world.rank() == 0 {
            sent.wait();
        }
        for i in 0..3000u64 {
            let take = taking(|_, batch: Batch<(u32, u64)>| sum += batch.map(|(_, i)| i).sum::<u64>());
            let mut op = Gather::new(&flow, &plan, take)?;
            if world.rank() == 1 {
                op.insert_all(0, [i])?;
                op.finish(0)?;
            }
            op.complete()?;
        }
        if world.rank() == 1 {
            sent.wait();
        }
        world.finish()?;
        Ok(sum)
    });
    assert_eq!(sums.unwrap(), [2999 * 3000 / 2, 0]);
}
