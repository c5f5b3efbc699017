//! Aeolian's operators on the files of the baselines: what `perf/ops/run` compares with them. See `perf/ops/README.md`.
//!
//! ```text
//! aeolian_ops copy IN TIMES             pairs from memory to memory, each rank its own: the bound of a partition
//! aeolian_ops partition IN OUT|- [TIMES]        pairs by the hash of their key
//! aeolian_ops sort IN OUT|- [TIMES]     keys
//! aeolian_ops terasort IN OUT|-         records of 100 bytes by their first 10
//! aeolian_ops groupby IN OUT|-          sums of pairs by key
//! aeolian_ops join LEFT RIGHT OUT|- inner|full [auto|hash|sort]
//! ```
//!
//! Each rank reads its part of the input and writes OUT.RANK; `-` leaves the result in memory. With TIMES it is done so often from memory to memory,
//! by one operator, and each time is told. Rank 0 prints a line of JSON.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on says so and ends")]

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian::net::Buf;
use aeolian::ops::{
    Ascending, Batch, ByKey, Dataflow, Insert, Join, JoinAlgorithm, JoinKind, Keyed, KeyedReduce,
    LogicalPlan, Operator, Partition, Plain, Sort, taking,
};
use aeolian_examples::rss;
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

/// What a joined row has where a side is missing.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Pair {
    key: u64,
    value: f64,
}
aeolian::ops::plain!(Pair);

impl Keyed for Pair {
    type Key = u64;

    fn key(&self) -> &u64 {
        &self.key
    }
}

/// Of a side of a join.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Row {
    key: u64,
    value: u64,
}
aeolian::ops::plain!(Row);

/// gensort's record.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Record {
    key: [u8; 10],
    rest: [u8; 90],
}
aeolian::ops::plain!(Record);

impl Keyed for Record {
    type Key = [u8; 10];

    fn key(&self) -> &[u8; 10] {
        &self.key
    }
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Joined {
    key: u64,
    left: u64,
    right: u64,
}
aeolian::ops::plain!(Joined);

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The checksum of a row at a place of the whole result.
trait Check: Plain {
    fn check(&self, at: u64) -> u64;
    /// Whether it may follow this one.
    fn follows(&self, _: &Self) -> bool {
        true
    }
}

impl Check for Pair {
    fn check(&self, _: u64) -> u64 {
        mix(self.key ^ mix(self.value.to_bits()))
    }
}

impl Check for u64 {
    fn check(&self, at: u64) -> u64 {
        mix(self ^ mix(at))
    }

    fn follows(&self, before: &u64) -> bool {
        before <= self
    }
}

impl Check for Record {
    fn check(&self, at: u64) -> u64 {
        let bytes = bytemuck::bytes_of(self);
        let (words, last) = bytes.as_chunks::<8>();
        let sum = words.iter().fold(mix(at), |sum, word| mix(sum ^ u64::from_le_bytes(*word)));
        mix(sum ^ u64::from(u32::from_le_bytes(last.try_into().unwrap())))
    }

    fn follows(&self, before: &Record) -> bool {
        before.key <= self.key
    }
}

impl Check for Joined {
    fn check(&self, _: u64) -> u64 {
        mix(self.key ^ mix(self.left ^ mix(self.right)))
    }
}

/// This rank's part of a file.
struct Part<T> {
    map: Option<memmap2::Mmap>,
    of: std::marker::PhantomData<T>,
}

impl<T: Plain> Part<T> {
    fn open(path: &str, world: &World) -> Part<T> {
        let file = File::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let all = file.metadata().unwrap().len() / size_of::<T>() as u64;
        let (rank, size) = (u64::from(world.rank()), u64::from(world.size()));
        let (from, to) = (all * rank / size, all * (rank + 1) / size);
        let width = size_of::<T>() as u64;
        // SAFETY: nobody writes to the inputs of a benchmark.
        let map = (to > from).then(|| unsafe {
            memmap2::MmapOptions::new()
                .offset(from * width)
                .len(((to - from) * width) as usize)
                .populate()
                .map(&file)
                .unwrap()
        });
        Part { map, of: std::marker::PhantomData }
    }

    /// All of it, in memory.
    fn read(&self) -> Buf {
        let map = self.map.as_deref().unwrap_or_default();
        let mut bytes = Buf::private(map.len());
        bytes.copy_from_slice(map);
        bytes
    }

    fn records(&self) -> impl Iterator<Item = T> + '_ {
        self.map.iter().flat_map(|map| map.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned))
    }
}

/// A rank's part of the result: in a file, or in memory as the batches in which it came.
struct Output<T> {
    file: Option<(String, BufWriter<File>)>,
    batches: Vec<Batch<T>>,
}

impl<T: Plain> Output<T> {
    fn create(path: &str, world: &World) -> Output<T> {
        let file = (path != "-").then(|| {
            let path = format!("{path}.{:04}", world.rank());
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
            (path.clone(), BufWriter::with_capacity(1 << 20, file.unwrap_or_else(|e| panic!("{path}: {e}"))))
        });
        Output { file, batches: Vec::new() }
    }

    fn clear(&mut self) {
        assert!(self.file.is_none(), "what is done several times stays in memory");
        self.batches.clear();
    }

    fn put(&mut self, batch: Batch<T>) {
        match &mut self.file {
            Some((_, file)) => file.write_all(bytemuck::cast_slice(batch.as_slice())).unwrap(),
            None => self.batches.push(batch),
        }
    }

    fn flush(&mut self) {
        if let Some((_, file)) = &mut self.file {
            file.flush().unwrap();
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut world = World::init().unwrap();
    match words[..] {
        ["copy", input, times] => copy(&mut world, input, times.parse().unwrap()),
        ["partition", input, output] => partition(&mut world, input, output, 1),
        ["partition", input, output, times] => partition(&mut world, input, output, times.parse().unwrap()),
        ["sort", input, output] => sort(&mut world, input, output, 1),
        ["sort", input, output, times] => sort(&mut world, input, output, times.parse().unwrap()),
        ["terasort", input, output] => terasort(&mut world, input, output),
        ["groupby", input, output] => groupby(&mut world, input, output),
        ["join", left, right, output, kind] => join(&mut world, left, right, output, kind, "auto"),
        ["join", left, right, output, kind, how] => join(&mut world, left, right, output, kind, how),
        _ => panic!(
            "aeolian_ops partition|sort|terasort|groupby IN OUT|-, or join LEFT RIGHT OUT|- inner|full [auto|hash|sort]"
        ),
    }
    world.finish().unwrap();
}

/// Times `work` and its phases, checks the result, and prints the line, with the fields that `work` returns.
fn run<T: Check>(
    world: &mut World,
    what: &str,
    output: &str,
    work: impl FnOnce(&Dataflow, &LogicalPlan, &RefCell<Output<T>>, &mut dyn FnMut(&'static str)) -> String,
) {
    let mut flag = [0u64];
    allreduce_slice(world, &mut flag, Sum).unwrap();
    let (began, mut last) = (Instant::now(), Instant::now());
    let mut phases: Vec<(&'static str, f64)> = Vec::new();
    let out = RefCell::new(Output::create(output, world));
    let flow = Dataflow::new(world).unwrap();
    let mut phase = |name| {
        phases.push((name, last.elapsed().as_secs_f64()));
        last = Instant::now();
    };
    let more = work(&flow, &LogicalPlan::each_rank(world), &out, &mut phase);
    out.borrow_mut().flush();
    let mut seconds: Vec<f64> = phases.iter().map(|phase| phase.1).collect();
    seconds.push(began.elapsed().as_secs_f64());
    let mut resources = [rss::peak(), flow.memory().peak()];

    // What follows is not timed.
    let out = out.into_inner();
    let read = out.file.map(|(path, _)| std::fs::read(path).unwrap());
    let read = read.iter().flat_map(|bytes| bytes.chunks_exact(size_of::<T>()));
    let rows = || {
        let kept = out.batches.iter().flat_map(|batch| batch.as_slice()).copied();
        read.clone().map(bytemuck::pod_read_unaligned::<T>).chain(kept)
    };
    let me = world.rank() as usize;
    let mut counts = vec![0u64; world.size() as usize];
    counts[me] = rows().count() as u64;
    allreduce_slice(world, &mut counts, Sum).unwrap();
    let first: u64 = counts[..me].iter().sum();
    let mut sum = 0u64;
    let mut before: Option<T> = None;
    for (row, at) in rows().zip(first..) {
        assert!(before.is_none_or(|before| row.follows(&before)), "row {at} is not in order");
        sum = sum.wrapping_add(row.check(at));
        before = Some(row);
    }
    // Halves, whose sums do not overflow.
    let mut sums = [sum & 0xffff_ffff, sum >> 32];
    allreduce_slice(world, &mut sums, Sum).unwrap();
    let sum = sums[0].wrapping_add(sums[1] << 32);
    let report = flow.spill().report();
    let mut spilled = [report.bytes_written, report.files];
    allreduce_slice(world, &mut spilled, Sum).unwrap();
    allreduce_slice(world, &mut resources, Max).unwrap();
    allreduce_slice(world, &mut seconds, Max).unwrap();
    if me == 0 {
        let phases: String =
            phases.iter().zip(&seconds).map(|((name, _), s)| format!("\"{name}\": {s:.6}, ")).collect();
        println!(
            "{{\"what\": \"{what}\", \"who\": \"aeolian\", \"ranks\": {}, \"rows\": {}, \"checksum\": \"{sum:016x}\", {more}\
             \"spilled_bytes\": {}, \"spill_files\": {}, \"budget_bytes\": {}, \"peak_budget_bytes\": {}, \
             \"peak_rss_bytes\": {}, \"seconds\": {{{phases}\"total\": {:.6}}}}}",
            world.size(),
            counts.iter().sum::<u64>(),
            spilled[0],
            spilled[1],
            flow.memory().limit(),
            resources[1],
            resources[0],
            seconds.last().unwrap()
        );
    }
}

/// Does something so many times, and tells the seconds of each, of the slowest rank, as a field of the line.
fn times(world: &mut World, name: &str, times: usize, mut once: impl FnMut()) -> String {
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..times {
        allreduce_slice(world, &mut [0u64], Sum).unwrap();
        let began = Instant::now();
        once();
        seconds.push(began.elapsed().as_secs_f64());
    }
    allreduce_slice(world, &mut seconds, Max).unwrap();
    format!("\"{name}\": {seconds:.6?}, ")
}

fn copy(world: &mut World, input: &str, repetitions: usize) {
    let mut handle = world.handle();
    run::<Pair>(world, "copy", "-", |_, _, out, phase| {
        let rows = Part::<Pair>::open(input, &handle).read();
        let mut copied = Buf::private(rows.len());
        copied.fill(1);
        phase("read");
        let more = times(&mut handle, "copies", repetitions, || copied.copy_from_slice(&rows));
        phase("copy");
        out.borrow_mut().put(copied.cast::<Pair>().iter().copied().collect());
        more
    });
}

fn partition(world: &mut World, input: &str, output: &str, repetitions: usize) {
    let (me, mut handle) = (world.rank(), world.handle());
    run::<Pair>(world, "partition", output, |flow, plan, out, phase| {
        let rows = Part::<Pair>::open(input, &handle).read();
        let rows = rows.cast::<Pair>();
        phase("read");
        let take = taking(|_, batch| out.borrow_mut().put(batch));
        let mut op = Partition::new(flow, plan, ByKey, take).unwrap();
        let mut is_first = true;
        let more = times(&mut handle, "partitions", repetitions, || {
            if !std::mem::replace(&mut is_first, false) {
                out.borrow_mut().clear();
                op.reset().unwrap();
            }
            op.insert_all(me, rows.iter().copied()).unwrap();
            op.finish(me).unwrap();
            op.complete().unwrap();
        });
        phase("partition");
        more
    });
}

fn sort(world: &mut World, input: &str, output: &str, repetitions: usize) {
    let (me, mut handle) = (world.rank(), world.handle());
    run::<u64>(world, "sort", output, |flow, plan, out, phase| {
        let part = Part::<u64>::open(input, &handle);
        phase("read");
        let take = taking(|_, batch| out.borrow_mut().put(batch));
        let mut op = Sort::new(flow, plan, Ascending, take).unwrap();
        let mut is_first = true;
        let more = times(&mut handle, "sorts", repetitions, || {
            if !std::mem::replace(&mut is_first, false) {
                out.borrow_mut().clear();
                op.reset().unwrap();
            }
            op.insert_all(me, part.records()).unwrap();
            op.finish(me).unwrap();
            op.complete().unwrap();
        });
        phase("sort");
        more
    });
}

fn terasort(world: &mut World, input: &str, output: &str) {
    let me = world.rank();
    let handle = world.handle();
    run::<Record>(world, "terasort", output, |flow, plan, out, phase| {
        let part = Part::<Record>::open(input, &handle);
        phase("read");
        let take = taking(|_, batch| out.borrow_mut().put(batch));
        let mut op = Sort::new(flow, plan, ByKey, take).unwrap();
        op.insert_all(me, part.records()).unwrap();
        op.finish(me).unwrap();
        phase("insert");
        op.complete().unwrap();
        phase("sort");
        String::new()
    });
}

fn groupby(world: &mut World, input: &str, output: &str) {
    let me = world.rank();
    let handle = world.handle();
    run::<Pair>(world, "groupby", output, |flow, plan, out, phase| {
        let part = Part::<Pair>::open(input, &handle);
        phase("read");
        // A pair and a tuple of its parts have the same bytes.
        let mut rows: Vec<Pair> = Vec::new();
        let take = taking(|_, batch: Batch<(u64, f64)>| {
            rows.clear();
            rows.extend(batch.map(|(key, value)| Pair { key, value }));
            out.borrow_mut().put(rows.iter().copied().collect());
        });
        let mut op = KeyedReduce::new(flow, plan, |sum: &mut f64, more| *sum += more, take).unwrap();
        op.insert_all(me, part.records().map(|pair| (pair.key, pair.value))).unwrap();
        op.finish(me).unwrap();
        phase("insert");
        op.complete().unwrap();
        phase("reduce");
        String::new()
    });
}

fn join(world: &mut World, left: &str, right: &str, output: &str, kind: &str, how: &str) {
    let me = world.rank();
    let handle = world.handle();
    let kind = match kind {
        "inner" => JoinKind::Inner,
        "full" => JoinKind::Full,
        _ => panic!("{kind} is neither inner nor full"),
    };
    let how = match how {
        "auto" => JoinAlgorithm::Auto,
        "hash" => JoinAlgorithm::Hash,
        "sort" => JoinAlgorithm::SortMerge,
        _ => panic!("{how} is not auto, hash or sort"),
    };
    run::<Joined>(world, "join", output, |flow, plan, out, phase| {
        let [left, right] = [left, right].map(|path| Part::<Row>::open(path, &handle));
        phase("read");
        let take = taking(|_, batch| out.borrow_mut().put(batch));
        let make = |key: &u64, left: Option<&u64>, right: Option<&u64>| Joined {
            key: *key,
            left: left.copied().unwrap_or(NONE),
            right: right.copied().unwrap_or(NONE),
        };
        let mut op = Join::new(flow, plan, kind, how, make, take).unwrap();
        op.insert_all_left(me, left.records().map(|row| (row.key, row.value))).unwrap();
        op.insert_all_right(me, right.records().map(|row| (row.key, row.value))).unwrap();
        op.finish(me).unwrap();
        phase("insert");
        op.complete().unwrap();
        phase("join");
        String::new()
    });
}
