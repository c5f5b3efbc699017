//! The partition operator alone, in memory: pairs of 16 bytes by the hash of their key. See `perf/ops/README.md`.
//!
//! `ops_partition PAIRS REPETITIONS`: pairs of all ranks together. Prints a line a repetition: seconds, and a sum to compare.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so and ends")]

use aeolian::World;
use aeolian::ops::{Batch, ByKey, Dataflow, Insert, LogicalPlan, Operator, Partition, taking};
use std::cell::Cell;
use std::time::Instant;

fn main() {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<usize>().unwrap());
    let (pairs, repetitions) = (words.next().unwrap(), words.next().unwrap());
    let world = World::init().unwrap();
    let (rank, size) = (world.rank(), world.size() as usize);
    let mine = pairs / size;
    let mut x = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(u64::from(rank) + 1);
    let input: Vec<(u64, f64)> = (0..mine)
        .map(|i| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x, i as f64)
        })
        .collect();
    let mut output: Vec<(u64, f64)> = Vec::with_capacity(mine + mine / 8);
    let flow = Dataflow::new(&world).unwrap();
    let plan = LogicalPlan::each_rank(&world);
    for _ in 0..repetitions {
        output.clear();
        let began = Instant::now();
        let batches = Cell::new(0);
        let take = taking(|_, batch: Batch<(u64, f64)>| {
            batches.set(batches.get() + 1);
            output.extend(&batch);
        });
        let mut op = Partition::new(&flow, &plan, ByKey, take).unwrap();
        op.insert_all(rank, input.iter().copied()).unwrap();
        op.finish(rank).unwrap();
        op.complete().unwrap();
        drop(op);
        let seconds = began.elapsed().as_secs_f64();
        let sum = output.iter().fold(0u64, |sum, pair| sum.wrapping_add(pair.0));
        println!(
            "rank {rank}: {seconds:.4} s, {} pairs in {} batches, {sum:016x}",
            output.len(),
            batches.get()
        );
    }
    world.finish().unwrap();
}
