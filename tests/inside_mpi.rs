//! Collectives in a program that uses MPI itself (cargo feature `mpi`): a world of the ranks of one of its communicators.
#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::World;
use aeolian::harp::{Rotation, Sum, Table, allreduce, allreduce_slice, iallreduce, rotate};
use common::site::{Site, is_worker};
use mpi::collective::SystemOperation;
use mpi::topology::{Color, Communicator};
use mpi::traits::CommunicatorCollectives;
use std::time::Duration;

/// What runs on the ranks: MPI's calls and Aeolian's in turn, on halves of the program's ranks.
#[test]
#[ignore = "runs on the ranks that the other tests start"]
fn worker() {
    if !is_worker() {
        return;
    }
    let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Serialized).unwrap();
    let all = universe.world();
    let half = all.split_by_color(Color::with_value(all.rank() % 2)).unwrap();
    let mut world = World::from_communicator(&half).unwrap();
    assert_eq!((world.rank() as i32, world.size() as i32), (half.rank(), half.size()));
    for round in 0..20u64 {
        let mut theirs = 0;
        half.all_reduce_into(&(round + half.rank() as u64), &mut theirs, SystemOperation::sum());
        for len in [1, 1000, 200_000] {
            let mut table = Table::<u64, Sum>::new(Sum);
            table.add(round, vec![round + u64::from(world.rank()); len]).unwrap();
            let under_way = iallreduce(&world, table.clone()).unwrap();
            allreduce(&mut world, &mut table).unwrap();
            rotate(&mut world, &mut table, &Rotation::Ring).unwrap();
            assert!(table.get(round).unwrap().iter().all(|x| *x == theirs));
            assert!(under_way.wait().unwrap() == table);
            let mut slice = vec![round + u64::from(world.rank()); len];
            allreduce_slice(&mut world, &mut slice, Sum).unwrap();
            assert_eq!(slice, vec![theirs; len]);
        }
    }
    let wire = world.transport();
    world.finish().unwrap();
    all.barrier();
    println!("inside MPI over {wire}: right");
}

#[test]
fn collectives_beside_those_of_mpi() {
    // The feature links this program with the MPI of `mpicc`.
    let Some(site) = Site::openmpi().or_else(Site::mpich) else { return };
    for wire in ["shm", "mpi"] {
        let command = site.clone().with("AEOLIAN_TRANSPORT", wire).worker(5, "worker");
        let done = common::trial::run(command, Duration::from_secs(120));
        assert!(done.status.success(), "{done:?}");
        assert_eq!(done.out.matches(&format!("inside MPI over {wire}: right")).count(), 5, "{done:?}");
    }
}
