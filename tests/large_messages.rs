//! One message over 2 GiB and one over 4 GiB, and collectives of a partition over 2 GiB, on every transport, whole and unharmed.
//! Needs 18 GiB of memory and minutes, so:
//! `cargo test --release --test large_messages -- --ignored --test-threads=1`
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::World;
use aeolian::harp::{
    self, Array, Modulo, Rotation, Sum, Table, allreduce, allreduce_slice, broadcast, regroup, rotate,
};
use aeolian::net::{Buf, NetError};
use common::site::{Site, is_worker};
use std::time::Duration;

/// Beyond what 31 and 32 bits count, and no multiple of anything.
const SIZES: [usize; 2] = [(2 << 30) + 12_347, (4 << 30) + 54_321];

/// Bytes that tell where they belong.
fn fill(len: usize, seed: u64) -> Buf {
    let mut body = Buf::zeroed(len);
    let mut x = seed;
    for chunk in body.chunks_mut(8) {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&(x ^ (x >> 29)).to_le_bytes()[..chunk.len()]);
    }
    body
}

/// Rank 0 sends, the last rank sends back the hash of what came.
fn there_and_back(world: &mut World) -> Result<(), NetError> {
    let (data, hashes) = (world.open_edge()?, world.open_edge()?);
    let last = world.size() - 1;
    for (len, seed) in SIZES.into_iter().zip(1..) {
        if world.rank() == 0 {
            let body = fill(len, seed);
            let sent = *blake3::hash(&body).as_bytes();
            world.send(data, last, seed, body)?;
            let came = world.recv_from(hashes, last)?;
            assert!(
                came.tag == len as u64 && came.body[..] == sent,
                "{len} bytes came as {} others",
                came.tag
            );
            println!("large message of {len} bytes over {}: whole", world.transport());
        } else if world.rank() == last {
            let message = world.recv_from(data, 0)?;
            assert_eq!(message.tag, seed);
            let hash = blake3::hash(&message.body);
            world.send(hashes, 0, message.body.len() as u64, Buf::from_slice(hash.as_bytes()))?;
        }
    }
    Ok(())
}

/// Of two ranks, each with one partition of more than 2 GiB.
fn collectives(world: &mut World) -> harp::Result<()> {
    let (me, len) = (world.rank() as u8, SIZES[0]);
    let value = |i: usize, rank: u8| (i % 61) as u8 + 100 * rank;
    let values = |rank: u8| Array::from((0..len).map(|i| value(i, rank)).collect::<Vec<_>>());
    let check = |what: &str, got: &[u8], want: &dyn Fn(usize) -> u8| {
        assert_eq!(got.len(), len, "{what}");
        let wrong = got.iter().enumerate().position(|(i, x)| *x != want(i));
        assert_eq!(wrong, None, "{what}");
    };
    let mut table = Table::<u8, Sum>::new(Sum);
    if me == 1 {
        table.insert(7, values(1));
    }
    broadcast(world, &mut table, 1)?;
    check("broadcast", table.get(7).unwrap(), &|i| value(i, 1));
    rotate(world, &mut table, &Rotation::Ring)?;
    check("rotate", table.get(7).unwrap(), &|i| value(i, 1));
    table.insert(7, values(me));
    allreduce(world, &mut table)?;
    check("allreduce", table.get(7).unwrap(), &|i| value(i, 0) + value(i, 1));
    table.insert(7, values(me));
    regroup(world, &mut table, &Modulo)?;
    if let Some(got) = table.get(7) {
        check("regroup", got, &|i| value(i, 0) + value(i, 1));
    }
    assert_eq!(table.len(), usize::from(me == 1));
    drop(table);
    let mut slice: Vec<u8> = (0..len).map(|i| value(i, me)).collect();
    allreduce_slice(world, &mut slice, Sum)?;
    check("allreduce_slice", &slice, &|i| value(i, 0) + value(i, 1));
    if me == 0 {
        println!("collectives over {}: whole", world.transport());
    }
    Ok(())
}

fn program(mut world: World) -> Result<(), NetError> {
    there_and_back(&mut world)?;
    collectives(&mut world)?;
    world.finish()
}

/// What runs on the ranks.
#[test]
#[ignore = "runs on the ranks that the other tests start"]
fn worker() {
    if is_worker() {
        program(World::init().unwrap()).unwrap();
    }
}

fn large(site: &Site, wire: &str) {
    let command = site.worker(2, "worker");
    let done = common::trial::run(command, Duration::from_secs(600));
    assert!(done.status.success(), "{done:?}");
    for len in SIZES {
        assert!(done.out.contains(&format!("of {len} bytes over {wire}: whole")), "{done:?}");
    }
    assert!(done.out.contains(&format!("collectives over {wire}: whole")), "{done:?}");
}

#[test]
#[ignore = "18 GiB of memory"]
fn large_messages_local() {
    World::local(2, program).unwrap();
}

#[test]
#[ignore = "18 GiB of memory"]
fn large_messages_shm() {
    large(&Site::run(&["--transport", "shm"]), "shm");
}

#[test]
#[ignore = "18 GiB of memory"]
fn large_messages_tcp() {
    large(&Site::run(&["--transport", "tcp"]), "tcp");
}

#[test]
#[ignore = "18 GiB of memory"]
fn large_messages_tcp_encrypted() {
    large(&Site::run(&["--transport", "tcp", "--encrypt", "on"]), "tcp");
}

#[test]
#[ignore = "18 GiB of memory"]
fn large_messages_openmpi() {
    if let Some(site) = Site::openmpi() {
        large(&site.with("AEOLIAN_TRANSPORT", "mpi"), "mpi");
    }
}

#[test]
#[ignore = "18 GiB of memory"]
fn large_messages_mpich() {
    if let Some(site) = Site::mpich() {
        large(&site.with("AEOLIAN_TRANSPORT", "mpi"), "mpi");
    }
}
