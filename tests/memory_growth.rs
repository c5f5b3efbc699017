//! A long run takes no more memory than a short one: after a tenth of the supersteps and at the end, each rank compares its
//! resident memory, the pages of its shared segments, its mappings and its descriptors.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::harp::{Result, Sum, allreduce_slice, split};
use aeolian::net::{NetError, exit};
use aeolian::{Failure, World};
use common::calls::{CALLS, Given};
use common::site::{Site, clean};
use common::trial;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

/// Of the worker: how many supersteps.
const ORDERS: &str = "MEMORY_GROWTH_SUPERSTEPS";
/// Of the worker: the ranks are threads of this process.
const THREADS: &str = "MEMORY_GROWTH_THREADS";

/// Elements of a partition of a small call, of 64 KiB, of 1 MiB.
const LENGTHS: [usize; 3] = [24, 8 << 10, 128 << 10];
/// Every so many supersteps have partitions of 64 KiB, of 1 MiB.
const MIDDLE: u64 = 33;
const LARGE: u64 = 1000;
/// Every so many supersteps make a world of all ranks, work in it and drop it.
const PARTING: u64 = 1000;

/// What may come on top, in bytes: the allocator's unevenness; what dropped worlds leave is allowed besides, so over shared memory
/// the bound is 27 MiB in all.
const RESIDENT: u64 = 4 << 20;
const SHARED: u64 = 2 << 20;
/// A dropped world leaves its board, which others may still look at, and a mapping of its mate's: in a block of this length.
const BOARD: u64 = 128 << 10;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Holdings {
    resident: u64,
    /// Pages of its `memfd`s.
    shared: u64,
    mappings: usize,
    descriptors: usize,
}

impl Holdings {
    fn now() -> Holdings {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        let resident: u64 = resident.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        let (mut shared, mut descriptors) = (0, 0);
        for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
            descriptors += 1;
            if std::fs::read_link(entry.path())
                .is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:aeolian"))
            {
                shared += std::fs::metadata(entry.path()).unwrap().blocks() * 512;
            }
        }
        let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        Holdings { resident: resident << 10, shared, mappings, descriptors }
    }

    /// What is wrong with the holdings of the end, `worlds` having been made since.
    fn excess(&self, end: &Holdings, worlds: u64) -> Option<&'static str> {
        let boards = worlds * BOARD;
        // Each rank maps those of both.
        if end.resident > self.resident + RESIDENT + 2 * boards {
            Some("resident memory")
        } else if end.shared > self.shared + SHARED + boards {
            Some("shared segments")
        } else if end.mappings > self.mappings + 8 + worlds as usize {
            Some("mappings")
        // (Two ranks that are threads count the directory that the other one reads at that moment.)
        } else if end.descriptors > self.descriptors + 1 {
            Some("descriptors")
        } else {
            None
        }
    }
}

fn superstep(world: &mut World, step: u64) -> Result<()> {
    let kinds = CALLS.len() as u64;
    let call = &CALLS[(step % kinds) as usize];
    let len = match step {
        _ if step.is_multiple_of(LARGE) => LENGTHS[2],
        _ if step.is_multiple_of(MIDDLE) => LENGTHS[1],
        _ => LENGTHS[0],
    };
    let root = (step / kinds % u64::from(world.size())) as u32;
    (call.run)(world, Given { len, root, started: step / kinds % 2 == 1 })?;
    if step.is_multiple_of(PARTING)
        && let Some(mut part) = split(world, Some(0), 0)?
    {
        allreduce_slice(&mut part, &mut [step], Sum)?;
    }
    Ok(())
}

/// Holdings after a tenth of the supersteps and at the end.
fn work(world: &mut World, supersteps: u64) -> Result<(Holdings, Holdings)> {
    // All that there is, so that the tenth has seen it.
    for call in &CALLS {
        for len in LENGTHS {
            for started in [false, true] {
                (call.run)(world, Given { len, root: 0, started })?;
            }
        }
    }
    for step in 0..supersteps / 10 {
        superstep(world, step)?;
    }
    let early = Holdings::now();
    for step in supersteps / 10..supersteps {
        superstep(world, step)?;
    }
    Ok((early, Holdings::now()))
}

fn judged(world: &mut World, supersteps: u64) -> std::result::Result<(), Failure> {
    let (early, end) = work(world, supersteps)?;
    let rank = world.rank();
    println!("rank {rank} over {}, {supersteps} supersteps: {early:?} became {end:?}", world.transport());
    match early.excess(&end, supersteps / PARTING * 9 / 10) {
        None => Ok(()),
        Some(what) => Err(Failure::new(exit::INTERNAL, format!("{what} grew: {early:?} became {end:?}"))),
    }
}

/// What runs on the ranks.
#[test]
#[ignore = "runs on the ranks that the other tests start"]
fn worker() {
    let Ok(supersteps) = std::env::var(ORDERS) else { return };
    let supersteps = supersteps.parse().unwrap();
    if std::env::var_os(THREADS).is_none() {
        std::process::exit(aeolian::run(|world| judged(world, supersteps)).into());
    }
    World::local(2, |mut world| {
        judged(&mut world, supersteps).map_err(|f| NetError::Usage(f.to_string()))?;
        world.finish()
    })
    .unwrap();
}

fn no_growth(mut command: Command, supersteps: u64) {
    command.env(ORDERS, supersteps.to_string());
    let done = trial::run(command, Duration::from_secs(300));
    let reports = done.out.lines().filter(|l| l.contains("became")).count();
    assert!(done.status.success() && reports == 2, "{done:#?}");
    println!("{}", done.out);
}

#[test]
fn of_100_000_supersteps_shm() {
    let site = Site::run(&["--transport", "shm"]);
    no_growth(site.worker(2, "worker"), 100_000);
}

#[test]
fn of_20_000_supersteps_tcp() {
    let site = Site::run(&["--transport", "tcp"]);
    no_growth(site.worker(2, "worker"), 20_000);
}

#[test]
fn of_20_000_supersteps_in_threads() {
    let mut command = clean(Command::new(std::env::current_exe().unwrap()));
    command.args(["worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(THREADS, "1");
    no_growth(command, 20_000);
}
