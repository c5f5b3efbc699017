//! Harp's collectives, timed as `coll_mpi.c` beside this file times MPI's, with the same arguments and output:
//!
//! `harp_coll LABEL SHARED [-o op,op] [-m smallest] [-M largest] [-t seconds per cell] [-c cores]`
//!
//! What is timed is the collective alone, in a superstep whose input the rank has just written. Where the collective keeps a table's
//! partitions, they are written in place; where it moves them away, new ones are made and written before the timed call, as a user makes them while
//! computing. What the collective allocates, and what it takes to put a partition into a table, is in the time. Dropping a result is not.
//! The back-to-back loop has its tables made beforehand where they do not come back (up to 64, and up to 64 MiB), zeros all of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "shared.rs"]
mod shared;

use aeolian::Failure;
use aeolian::harp::{
    Array, Modulo, Rotation, Sum, Table, allgather, allgather_slice, allreduce, allreduce_slice, alltoall,
    barrier, broadcast, broadcast_slice, gather, reduce, reduce_slice, regroup, rotate, scatter,
};
use aeolian::net::{Buf, Edge, World};
use shared::{MAX_ITERATIONS, PIECES, Shared, median, memcpy_bandwidth, tcp_bytes};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

const SIZES: [usize; 12] =
    [8, 64, 512, 1024, 4096, 16384, 65536, 262_144, 1 << 20, 4 << 20, 16 << 20, 64 << 20];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Op {
    Barrier,
    Broadcast,
    BroadcastSlice,
    Reduce,
    ReduceSlice,
    Allreduce,
    AllreduceSlice,
    ReduceScatter,
    Allgather,
    AllgatherSlice,
    Alltoall,
    Gather,
    Scatter,
    Rotate,
    Regroup,
    PingPong,
}

// By MPI's names, so that both sides' rows meet.
const OPS: [(Op, &str); 16] = [
    (Op::Barrier, "barrier"),
    (Op::Broadcast, "bcast"),
    (Op::BroadcastSlice, "bcast_slice"),
    (Op::Reduce, "reduce"),
    (Op::ReduceSlice, "reduce_slice"),
    (Op::Allreduce, "allreduce"),
    (Op::AllreduceSlice, "allreduce_slice"),
    (Op::ReduceScatter, "reduce_scatter"),
    (Op::Allgather, "allgather"),
    (Op::AllgatherSlice, "allgather_slice"),
    (Op::Alltoall, "alltoall"),
    (Op::Gather, "gather"),
    (Op::Scatter, "scatter"),
    (Op::Rotate, "rotate"),
    (Op::Regroup, "regroup"),
    (Op::PingPong, "pingpong"),
];

/// What a rank gives to a collective, and has after it.
struct Data {
    table: Table<f64, Sum>,
    /// One for each rank, of alltoall.
    tables: Vec<Table<f64, Sum>>,
    slice: Vec<f64>,
    /// Of allgather of slices: room for all.
    all: Vec<f64>,
    message: Buf,
}

/// One operation at one size.
struct Case<'a> {
    world: &'a mut World,
    shared: &'a mut Shared,
    edge: Edge,
    op: Op,
    name: &'static str,
    /// Elements of a partition.
    len: usize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.len() < 2 {
        eprintln!("usage: harp_coll LABEL SHARED [-o ops] [-m bytes] [-M bytes] [-t seconds] [-c cores]");
        return ExitCode::from(64);
    }
    aeolian::main(|world| program(world, &args))
}

fn program(world: &mut World, args: &[String]) -> Result<(), Failure> {
    let (mut ops, mut smallest, mut largest, mut budget) = (None, 8, 64 << 20, 0.1);
    // (A pinned rank sees its own core only, so whoever starts it should say.)
    let mut cores = std::thread::available_parallelism()?.get();
    for option in args[2..].chunks_exact(2) {
        match &*option[0] {
            "-o" => ops = Some(option[1].split(',').collect::<Vec<_>>()),
            "-m" => smallest = option[1].parse()?,
            "-M" => largest = option[1].parse()?,
            "-t" => budget = option[1].parse()?,
            "-c" => cores = option[1].parse()?,
            other => return Err(Failure::new(2, format!("no option {other}"))),
        }
    }
    let mut shared = Shared::open(&args[1], world.rank() as usize, world.size() as usize, cores)?;
    let edge = world.open_edge()?;
    aligned(world, &mut shared)?;
    if world.rank() == 0 {
        println!("# Aeolian over {}\n# memcpy {:.2} GB/s", world.transport(), memcpy_bandwidth());
    }
    for (op, name) in OPS {
        if ops.as_ref().is_some_and(|ops| !ops.contains(&name)) || (op == Op::PingPong && world.size() < 2) {
            continue;
        }
        for bytes in SIZES {
            let bytes = match op {
                Op::Barrier if bytes == SIZES[0] => 0,
                Op::Barrier => continue,
                _ if bytes < smallest || bytes > largest => continue,
                _ => bytes,
            };
            let len = bytes / 8 / if op == Op::Regroup { world.size() as usize } else { 1 };
            if len > 0 || op == Op::Barrier {
                let mut case = Case { world: &mut *world, shared: &mut shared, edge, op, name, len };
                case.measure(&args[0], bytes, budget)?;
            }
        }
    }
    Ok(())
}

/// The world's barrier, then all ranks leave within a hand-over of each other. What still has to be sent may be what another rank
/// waits for, so a long wait moves it.
fn aligned(world: &mut World, shared: &mut Shared) -> Result<(), Failure> {
    barrier(world)?;
    shared.aligned(|| {
        world.progress()?;
        Ok(())
    })
}

/// Element `i` of what rank `r` has.
fn val(r: usize, i: usize) -> f64 {
    ((r + 1) * 1_000_003 % 9973 + i % 1021) as f64
}

impl Case<'_> {
    fn me(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    /// The ids that this rank's table has before the collective.
    fn ids(&self) -> std::ops::Range<u64> {
        let (me, size) = (self.me() as u64, self.size() as u64);
        match self.op {
            Op::Barrier | Op::Alltoall | Op::PingPong => 0..0,
            Op::BroadcastSlice | Op::ReduceSlice | Op::AllreduceSlice | Op::AllgatherSlice => 0..0,
            Op::Broadcast if me == 0 => 0..1,
            Op::Scatter if me == 0 => 0..size,
            Op::Broadcast | Op::Scatter => 0..0,
            Op::Reduce | Op::Allreduce | Op::Rotate => 0..1,
            Op::ReduceScatter | Op::Regroup => 0..size,
            Op::Allgather | Op::Gather => me..me + 1,
        }
    }

    fn empty(&self) -> Data {
        Data {
            table: Table::new(Sum),
            tables: Vec::new(),
            slice: Vec::new(),
            all: Vec::new(),
            message: Buf::empty(),
        }
    }

    /// Makes `data` the input of the next call, `value(block, element)` everywhere.
    fn give(&self, data: &mut Data, value: impl Fn(usize, usize) -> f64) -> Result<(), Failure> {
        let len = self.len;
        let write =
            |to: &mut [f64], block: usize| to.iter_mut().zip(0..).for_each(|(x, i)| *x = value(block, i));
        let put = |table: &mut Table<f64, Sum>, id: u64, block: usize| match table.get_mut(id) {
            Some(part) if part.len() == len => write(part, block),
            _ => {
                let mut part = Array::zeroed(len);
                write(&mut part, block);
                table.insert(id, part);
            }
        };
        match self.op {
            Op::Barrier => {}
            Op::Alltoall => {
                data.tables.resize_with(self.size(), || Table::new(Sum));
                data.tables.iter_mut().zip(0..).for_each(|(table, to)| put(table, 0, to));
            }
            Op::BroadcastSlice | Op::ReduceSlice | Op::AllreduceSlice | Op::AllgatherSlice => {
                data.slice.resize(len, 0.0);
                write(&mut data.slice, 0);
                if self.op == Op::AllgatherSlice {
                    data.all.resize(len * self.size(), 0.0);
                }
            }
            Op::PingPong => {
                if data.message.len() != len * 8 {
                    data.message = Buf::zeroed(len * 8);
                }
                write(data.message.cast_mut(), 0);
            }
            _ => {
                let ids = self.ids();
                let others: Vec<u64> = data.table.ids().filter(|id| !ids.contains(id)).collect();
                for id in others {
                    data.table.remove(id);
                }
                // A table with the rank's own partition counts it as its first block.
                let first = ids.start;
                ids.for_each(|id| put(&mut data.table, id, (id - first) as usize));
            }
        }
        Ok(())
    }

    /// The call that is timed.
    fn call(&mut self, data: &mut Data) -> Result<(), Failure> {
        let (world, table) = (&mut *self.world, &mut data.table);
        match self.op {
            Op::Barrier => barrier(world)?,
            Op::Broadcast => broadcast(world, table, 0)?,
            Op::Reduce => reduce(world, table, 0)?,
            Op::Allreduce => allreduce(world, table)?,
            Op::BroadcastSlice => broadcast_slice(world, &mut data.slice, 0)?,
            Op::ReduceSlice => reduce_slice(world, &mut data.slice, Sum, 0)?,
            Op::AllreduceSlice => allreduce_slice(world, &mut data.slice, Sum)?,
            Op::AllgatherSlice => allgather_slice(world, &data.slice, &mut data.all)?,
            Op::ReduceScatter | Op::Regroup => regroup(world, table, &Modulo)?,
            Op::Allgather => allgather(world, table)?,
            Op::Alltoall => data.tables = alltoall(world, std::mem::take(&mut data.tables))?,
            Op::Gather => gather(world, table, 0)?,
            Op::Scatter => scatter(world, table, 0, &Modulo)?,
            Op::Rotate => rotate(world, table, &Rotation::Ring)?,
            Op::PingPong => match world.rank() {
                0 => {
                    world.send(self.edge, 1, 0, std::mem::take(&mut data.message))?;
                    data.message = world.recv_from(self.edge, 1)?.body;
                }
                1 => {
                    let came = world.recv_from(self.edge, 0)?.body;
                    world.send(self.edge, 0, 0, std::mem::replace(&mut data.message, came))?;
                }
                _ => {}
            },
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), Failure> {
        let (me, size, len) = (self.me(), self.size(), self.len);
        let mut data = self.empty();
        self.give(&mut data, |block, i| val(me, block * len + i))?;
        aligned(self.world, self.shared)?;
        self.call(&mut data)?;
        let all = |i: usize| (0..size).map(|r| val(r, i)).sum::<f64>();
        // By table and id, where what should be there comes from.
        let table = |id: usize| data.table.get(id as u64).map(|part| &part[..]);
        let right = |part: Option<&[f64]>, want: &dyn Fn(usize) -> f64| {
            part.is_some_and(|part| part.len() == len && part.iter().zip(0..).all(|(x, i)| *x == want(i)))
        };
        let (has, ok) = match self.op {
            Op::Barrier => (0, true),
            Op::Broadcast => (1, right(table(0), &|i| val(0, i))),
            Op::Reduce if me == 0 => (1, right(table(0), &all)),
            Op::Reduce => (0, true),
            Op::Allreduce => (1, right(table(0), &all)),
            Op::BroadcastSlice => (0, right(Some(&data.slice), &|i| val(0, i))),
            Op::ReduceSlice if me != 0 => (0, right(Some(&data.slice), &|i| val(me, i))),
            Op::ReduceSlice | Op::AllreduceSlice => (0, right(Some(&data.slice), &all)),
            Op::AllgatherSlice => {
                let of = |r: usize| data.all.get(r * len..(r + 1) * len);
                (0, (0..size).all(|r| right(of(r), &|i| val(r, i))))
            }
            Op::ReduceScatter | Op::Regroup => (1, right(table(me), &|i| all(me * len + i))),
            Op::Gather if me != 0 => (0, true),
            Op::Allgather | Op::Gather => (size, (0..size).all(|r| right(table(r), &|i| val(r, i)))),
            Op::Alltoall => {
                let from = |r: usize| data.tables[r].get(0).map(|part| &part[..]);
                (0, data.tables.len() == size && (0..size).all(|r| right(from(r), &|i| val(r, me * len + i))))
            }
            Op::Scatter => (1, right(table(me), &|i| val(0, me * len + i))),
            Op::Rotate => (1, right(table(0), &|i| val((me + size - 1) % size, i))),
            Op::PingPong => (0, me > 1 || right(Some(data.message.cast()), &|i| val(1 - me, i))),
        };
        if !ok || data.table.len() != has {
            let what = format!("WRONG {} of {} bytes on rank {me}", self.name, len * 8);
            return Err(Failure::new(3, what));
        }
        Ok(())
    }

    fn measure(&mut self, label: &str, bytes: usize, budget: f64) -> Result<(), Failure> {
        let (me, size) = (self.me(), self.size());
        self.verify()?;
        aligned(self.world, self.shared)?;
        let before = self.shared.hand_over();
        let mut data = self.empty();
        let mut best = f64::INFINITY;
        // Long enough for what a superstep leaves to be what the next one finds: its first buffers are pages that nobody has touched.
        for _ in 0..if bytes < 1 << 20 { 3 } else { 12 } {
            let begin = Instant::now();
            self.give(&mut data, |_, _| black_box(1.0))?;
            aligned(self.world, self.shared)?;
            self.call(&mut data)?;
            aligned(self.world, self.shared)?;
            best = best.min(begin.elapsed().as_secs_f64());
        }
        if me == 0 {
            self.shared.set_iterations(((budget / best) as usize).clamp(3, MAX_ITERATIONS));
        }
        aligned(self.world, self.shared)?;
        let iterations = self.shared.iterations();
        let tcp = tcp_bytes();
        for i in 0..iterations {
            self.give(&mut data, |_, _| black_box(1.0))?;
            aligned(self.world, self.shared)?;
            let begin = Instant::now();
            self.call(&mut data)?;
            let took = begin.elapsed().as_secs_f64();
            self.shared.set_time(i, took);
        }
        aligned(self.world, self.shared)?;
        let tcp = (tcp_bytes() - tcp) / iterations as f64;
        let pieces = iterations.min(PIECES);
        for p in 0..pieces {
            let took = self.back_to_back(&mut data, iterations / pieces)?;
            self.shared.set_back_to_back(p, took);
        }
        // What calls leave behind must not change what the next one does.
        self.verify()?;
        aligned(self.world, self.shared)?;
        let after = self.shared.hand_over();
        if me == 0 {
            let unit = if self.op == Op::PingPong { 0.5e6 } else { 1e6 }; // one way of two
            let times = self.shared.slowest(iterations);
            println!(
                "{label},{},{size},{bytes},{iterations},{:.3},{:.3},{:.3},{:.3},{before:.0},{after:.0},{tcp:.0}",
                self.name,
                times[0] * unit,
                times[iterations / 2] * unit,
                times[iterations - 1] * unit,
                median(self.shared.slowest_back_to_back(pieces)) * unit,
            );
        }
        aligned(self.world, self.shared)
    }

    /// Seconds a call, of `count` calls without a pause.
    fn back_to_back(&mut self, data: &mut Data, count: usize) -> Result<f64, Failure> {
        let again = matches!(
            self.op,
            Op::Barrier
                | Op::Allreduce
                | Op::BroadcastSlice
                | Op::ReduceSlice
                | Op::AllreduceSlice
                | Op::AllgatherSlice
                | Op::Alltoall
                | Op::Rotate
                | Op::PingPong
        );
        if again {
            self.give(data, |_, _| black_box(0.0))?;
            aligned(self.world, self.shared)?;
            let begin = Instant::now();
            for _ in 0..count {
                self.call(data)?;
            }
            return Ok(begin.elapsed().as_secs_f64() / count as f64);
        }
        // As many on every rank, whatever its own table has.
        let all_blocks = self.len * 8 * self.size();
        let (pool, mut took, mut done) = (((64 << 20) / all_blocks.max(1)).clamp(1, 64), 0.0, 0);
        while done < count {
            let mut inputs: Vec<Data> = (0..pool.min(count - done)).map(|_| self.empty()).collect();
            for input in &mut inputs {
                self.give(input, |_, _| black_box(0.0))?;
            }
            aligned(self.world, self.shared)?;
            let begin = Instant::now();
            for input in &mut inputs {
                self.call(input)?;
            }
            took += begin.elapsed().as_secs_f64();
            done += inputs.len();
        }
        Ok(took / count as f64)
    }
}
