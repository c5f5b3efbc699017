//! Sums by key, file to result: `ops_groupby PAIRS RESULT`, both files of (u64, f64). See `perf/ops/README.md`.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so and ends")]

use aeolian::World;
use aeolian::ops::{Batch, Dataflow, Insert, KeyedReduce, LogicalPlan, Operator, taking};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

fn main() {
    let mut words = std::env::args().skip(1);
    let (input, output) = (words.next().unwrap(), words.next().unwrap());
    let world = World::init().unwrap();
    let (rank, size) = (u64::from(world.rank()), u64::from(world.size()));
    let began = Instant::now();
    let file = File::open(input).unwrap();
    let pairs = file.metadata().unwrap().len() / 16;
    let (mut at, end) = (pairs * rank / size * 16, pairs * (rank + 1) / size * 16);
    let mut result: Vec<u8> = Vec::new();
    let (mut keys, mut check) = (0u64, 0u64);
    {
        let flow = Dataflow::new(&world).unwrap();
        let plan = LogicalPlan::each_rank(&world);
        let take = taking(|_, batch: Batch<(u64, f64)>| {
            for (key, sum) in &batch {
                keys += 1;
                check = check.wrapping_add(key ^ sum.to_bits());
                result.extend_from_slice(&key.to_le_bytes());
                result.extend_from_slice(&sum.to_le_bytes());
            }
        });
        let mut op = KeyedReduce::new(&flow, &plan, |sum: &mut f64, more| *sum += more, take).unwrap();
        let mut piece = vec![0; PIECE];
        while at < end {
            let piece = &mut piece[..PIECE.min((end - at) as usize)];
            file.read_exact_at(piece, at).unwrap();
            at += piece.len() as u64;
            let pairs = piece.as_chunks::<16>().0.iter().map(|pair| {
                let (key, value) = pair.split_at(8);
                (u64::from_le_bytes(key.try_into().unwrap()), f64::from_le_bytes(value.try_into().unwrap()))
            });
            op.insert_all(rank as u32, pairs).unwrap();
            op.progress().unwrap();
        }
        op.finish(rank as u32).unwrap();
        op.complete().unwrap();
    }
    let computed = began.elapsed().as_secs_f64();
    File::create(format!("{output}.{rank}")).unwrap().write_all(&result).unwrap();
    println!(
        "rank {rank}: {computed:.3} s, with the result written {:.3} s, {keys} keys, {check:016x}",
        began.elapsed().as_secs_f64()
    );
    world.finish().unwrap();
}
