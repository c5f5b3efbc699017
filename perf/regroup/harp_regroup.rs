//! Regroup of key-values, timed as `regroup_mpi.c` beside this file times MPI's, with the same pairs and output:
//!
//! `harp_regroup PAIRS SEED REPETITIONS delivered|combined [items]`
//!
//! `delivered`: pairs in arrays, an [`alltoall`] of tables of them. `combined`: a [`KvTable`] that was filled before the time begins, and [`regroup_kv`].
//! With `items` the same exchange through serialisation of each pair by itself (`postcard`), as systems do that know no more of a record
//! than how to write it; what comes is decoded pair by pair, into an array or the same [`KvTable`].
#![allow(missing_docs)]

use aeolian::harp::{Array, Custom, KvTable, Sum, Table, allreduce_slice, alltoall, barrier, regroup_kv};
use aeolian::net::{Buf, World};
use aeolian::{Failure, harp};
use aeolian_examples::random::mix;
use bytemuck::{Pod, Zeroable};
use std::process::ExitCode;
use std::time::Instant;

/// A key with its value.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Pair {
    key: u64,
    value: f64,
}

type Pairs = KvTable<u64, f64, Sum>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.len() < 4 {
        eprintln!("usage: harp_regroup PAIRS SEED REPETITIONS delivered|combined [items]");
        return ExitCode::from(64);
    }
    aeolian::main(|world| program(world, &args))
}

fn program(world: &mut World, args: &[String]) -> Result<(), Failure> {
    let (pairs, seed, repetitions): (u64, u64, usize) =
        (args[0].parse()?, args[1].parse()?, args[2].parse()?);
    let (combined, items) = (args[3] == "combined", args.get(4).is_some_and(|a| a == "items"));
    let mine = made(world, pairs / u64::from(world.size()), seed);
    // Rows, sum of keys, sum of values: of the last repetition, the same for all who are right.
    let (mut have, mut seconds) = ([0u64, 0], Vec::with_capacity(repetitions));
    let mut sum = [0.0];
    for _ in 0..repetitions {
        let mut table = Pairs::new(Sum);
        if combined {
            table.reserve(mine.len());
            for pair in &mine {
                table.add(pair.key, pair.value);
            }
        }
        barrier(world)?;
        let began = Instant::now();
        let mut came = Vec::new();
        match (combined, items) {
            (true, false) => regroup_kv(world, &mut table)?,
            (true, true) => items_combined(world, &mut table)?,
            (false, false) => came = delivered(world, &mine)?,
            (false, true) => came = vec![Array::from(items_delivered(world, &mine)?)],
        }
        let mut took = [began.elapsed().as_secs_f64()];
        allreduce_slice(world, &mut took, harp::Max)?;
        seconds.push(took[0]);
        let arrays = came.iter().flat_map(|part| part.iter().map(|pair| (pair.key, pair.value)));
        let rows = arrays.chain(table.iter().map(|(key, value)| (*key, *value)));
        (have, sum) = ([0, 0], [0.0]);
        for (key, value) in rows {
            have = [have[0] + 1, have[1].wrapping_add(key)];
            sum[0] += value;
        }
    }
    let wrapping = Custom::new("wrapping sum", |a: &mut [u64], b: &[u64]| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = a.wrapping_add(*b));
    });
    allreduce_slice(world, &mut have, wrapping)?;
    allreduce_slice(world, &mut sum, Sum)?;
    if world.rank() == 0 {
        let [rows, keys] = have;
        println!(
            "{{\"rows\": {rows}, \"keys\": \"{keys:016x}\", \"sum\": {:.1}, \"seconds\": {seconds:?}}}",
            sum[0]
        );
    }
    Ok(())
}

/// This rank's pairs: different keys, a quarter of which all ranks have.
fn made(world: &World, n: u64, seed: u64) -> Vec<Pair> {
    let (rank, size) = (u64::from(world.rank()), u64::from(world.size()));
    let id = |j: u64| if j.is_multiple_of(4) { j } else { (1 << 40) + j * size + rank };
    (0..n).map(|j| Pair { key: mix(id(j) ^ (seed << 48)), value: (j % 1000 + 1) as f64 }).collect()
}

/// The rank that a key belongs to: by the upper half of its hash.
fn owner(key: u64, size: u64) -> usize {
    let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
    let hash = product as u64 ^ (product >> 64) as u64;
    (((hash >> 32) * size) >> 32) as usize
}

/// Two passes, count and place, and an alltoall.
fn delivered(world: &mut World, mine: &[Pair]) -> Result<Vec<Array<Pair>>, Failure> {
    let size = u64::from(world.size());
    let mut counts = vec![0; size as usize];
    mine.iter().for_each(|pair| counts[owner(pair.key, size)] += 1);
    let mut bufs: Vec<Buf> = counts.iter().map(|n| Buf::stale(n * size_of::<Pair>())).collect();
    let mut places: Vec<_> = bufs.iter_mut().map(|buf| buf.cast_mut::<Pair>().iter_mut()).collect();
    for pair in mine {
        if let Some(place) = places[owner(pair.key, size)].next() {
            *place = *pair;
        }
    }
    let tables = bufs.into_iter().map(|buf| {
        let mut table = Table::<Pair, _>::new(keep());
        table.insert(0, Array::<Pair>::from_buf(buf).map_err(|e| Failure::new(1, e))?);
        Ok(table)
    });
    let came = alltoall(world, tables.collect::<Result<_, Failure>>()?)?;
    Ok(came.into_iter().filter_map(|mut table| table.remove(0)).collect())
}

/// Partitions of one id do not meet here.
fn keep<T: 'static>() -> Custom<impl Fn(&mut [T], &[T]) + Clone> {
    Custom::new("keep", |_: &mut [T], _: &[T]| {})
}

/// Writes each pair by itself for its rank; the bytes that come.
fn exchanged_items(
    world: &mut World,
    pairs: impl Iterator<Item = (u64, f64)>,
) -> Result<Vec<Array<u8>>, Failure> {
    let size = u64::from(world.size());
    let mut bytes = vec![Vec::new(); size as usize];
    for pair in pairs {
        let to = &mut bytes[owner(pair.0, size)];
        *to = postcard::to_extend(&pair, std::mem::take(to))?;
    }
    let tables = bytes.into_iter().map(|bytes| {
        let mut table = Table::<u8, _>::new(keep());
        table.insert(0, bytes);
        table
    });
    let came = alltoall(world, tables.collect())?;
    Ok(came.into_iter().filter_map(|mut table| table.remove(0)).collect())
}

fn items_delivered(world: &mut World, mine: &[Pair]) -> Result<Vec<Pair>, Failure> {
    let mut all = Vec::with_capacity(mine.len());
    for bytes in exchanged_items(world, mine.iter().map(|pair| (pair.key, pair.value)))? {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let ((key, value), after) = postcard::take_from_bytes(rest)?;
            all.push(Pair { key, value });
            rest = after;
        }
    }
    Ok(all)
}

fn items_combined(world: &mut World, table: &mut Pairs) -> Result<(), Failure> {
    let came = exchanged_items(world, table.iter().map(|(key, value)| (*key, *value)))?;
    table.clear();
    for bytes in came {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let ((key, value), after) = postcard::take_from_bytes(rest)?;
            table.add(key, value);
            rest = after;
        }
    }
    Ok(())
}
