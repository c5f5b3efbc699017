//! Ranks that broadcast from different roots are named before an MPI is asked for its own broadcast, which would give them anything.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::World;
use aeolian::harp::{Sum, Table, broadcast};
use common::site::{Site, is_worker};
use common::trial;
use std::time::Duration;

/// What runs on the ranks: rank 0 means another root than the others.
#[test]
#[ignore = "runs on the ranks that the other test starts"]
fn worker() {
    if !is_worker() {
        return;
    }
    let mut world = World::init().unwrap();
    let root = u32::from(world.rank() > 0);
    let mut table = Table::<u8, Sum>::new(Sum);
    if world.rank() == root {
        table.insert(0, vec![root as u8; 1 << 20]);
    }
    let told = broadcast(&mut world, &mut table, root);
    println!("rank {} was told: {told:?}", world.rank());
    assert!(told.is_err(), "{:?}", table.get(0).map(|part| part[0]));
}

#[test]
fn other_roots_are_named() {
    for site in [Site::openmpi(), Site::mpich()].into_iter().flatten() {
        let command = site.with("AEOLIAN_TRANSPORT", "mpi").worker(4, "worker");
        let done = trial::run(command, Duration::from_secs(60));
        // (Who hears of it last may be ended before it says so.)
        assert!(done.out.contains("was told: Err") && !done.out.contains("was told: Ok"), "{done:?}");
        assert!(done.out.contains("with another element type, combiner, root or partitioner"), "{done:?}");
        assert!(done.err.contains("exit code: 84 (MISMATCH)"), "{done:?}");
    }
}
