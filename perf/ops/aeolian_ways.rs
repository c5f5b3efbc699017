//! What a shuffle takes by both ways that messages can go between nodes, in turns: what `perf/ops/nodes` runs on several hosts.
//!
//! ```text
//! aeolian_ways TIMES RECORDS...      records of 16 bytes that each rank deals to all ranks
//! ```
//!
//! Rank 0 prints a line of JSON for each number of records: of each way the messages and bytes that a rank sends (the most of all), and the seconds of
//! each time, of the slowest rank.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on says so and ends")]

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian::ops::{
    Batch, Dataflow, Insert, LogicalPlan, Operator, Options, Partition, RoundRobin, Ways, taking,
};
use std::cell::Cell;
use std::time::Instant;

fn main() {
    let words: Vec<u64> = std::env::args().skip(1).map(|word| word.parse().unwrap()).collect();
    let [times, sizes @ ..] = &words[..] else { panic!("aeolian_ways TIMES RECORDS...") };
    let mut world = World::init().unwrap();
    for records in sizes {
        shuffle(&mut world, *times, *records);
    }
    world.finish().unwrap();
}

fn shuffle(world: &mut World, times: u64, records: u64) {
    let (me, plan) = (world.rank(), LogicalPlan::each_rank(world));
    let came = Cell::new(0u64);
    let flows = [Ways::Direct, Ways::ByNode].map(|ways| {
        let usual = Options::detect(world.layout(), me).unwrap();
        Dataflow::with(world, Options { ways, ..usual })
    });
    let mut ways = flows.each_ref().map(|flow| {
        let take = taking(|_, batch: Batch<(u64, u64)>| came.set(came.get() + batch.count() as u64));
        Partition::new(flow, &plan, RoundRobin::default(), take).unwrap()
    });
    let (mut sent, mut seconds) = ([[0u64; 2]; 2], [Vec::new(), Vec::new()]);
    for time in 0..=times {
        for (way, op) in ways.iter_mut().enumerate() {
            came.set(0);
            if time > 0 {
                op.reset().unwrap();
            }
            allreduce_slice(world, &mut [0u64], Sum).unwrap();
            let (began, before) = (Instant::now(), world.traffic());
            op.insert_all(me, (0..records).map(|i| (i, u64::from(me)))).unwrap();
            op.finish(me).unwrap();
            op.complete().unwrap();
            let (took, after) = (began.elapsed().as_secs_f64(), world.traffic());
            sent[way] = [after.messages_sent - before.messages_sent, after.bytes_sent - before.bytes_sent];
            // The first time makes connections and buffers.
            if time > 0 {
                seconds[way].push(took);
            }
            let mut all = [came.get()];
            allreduce_slice(world, &mut all, Sum).unwrap();
            assert_eq!(all[0], records * u64::from(world.size()), "records are lost");
        }
    }
    let mut line = String::new();
    for (way, name) in ["direct", "by_node"].iter().enumerate() {
        allreduce_slice(world, &mut sent[way], Max).unwrap();
        allreduce_slice(world, &mut seconds[way], Max).unwrap();
        let [messages, bytes] = sent[way];
        line += &format!(
            ", \"{name}\": {{\"messages\": {messages}, \"bytes\": {bytes}, \"seconds\": {:.6?}}}",
            seconds[way]
        );
    }
    if me == 0 {
        let nodes = world.layout().hosts.len();
        println!("{{\"nodes\": {nodes}, \"ranks\": {}, \"records\": {records}{line}}}", world.size());
    }
}
