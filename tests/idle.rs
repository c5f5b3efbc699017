//! Ranks that wait in a collective take no processor time, also where there are more of them than cores.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::World;
use aeolian::harp::{Sum, allreduce_slice};
use common::site::{Site, is_worker};
use common::trial;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// How long rank 0 keeps the others waiting.
const LATE: Duration = Duration::from_secs(3);
/// Of that time, what the others may compute at most: it begins with some spinning, and MPI is asked a thousand times a second.
const BUSY: f64 = 0.1;

fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// What runs on the ranks.
#[test]
#[ignore = "runs on the ranks that the other tests start"]
fn worker() {
    if !is_worker() {
        return;
    }
    let mut world = World::init().unwrap();
    let mut sum = [1.0];
    allreduce_slice(&mut world, &mut sum, Sum).unwrap();
    let (began, busy) = (Instant::now(), cpu_time());
    if world.rank() == 0 {
        std::thread::sleep(LATE);
    }
    allreduce_slice(&mut world, &mut sum, Sum).unwrap();
    let (waited, busy) = (began.elapsed(), cpu_time() - busy);
    let part = busy.as_secs_f64() / waited.as_secs_f64();
    println!(
        "rank {} waited over {}: busy {:.2} % of {waited:.1?}",
        world.rank(),
        world.transport(),
        100.0 * part
    );
    assert!(waited >= LATE / 2 && part <= BUSY, "busy {busy:?} of {waited:?}");
    world.finish().unwrap();
}

fn idle(site: &Site) {
    let command = site.worker(4, "worker");
    let done = trial::run(command, Duration::from_secs(60));
    assert!(done.status.success(), "{done:?}");
    assert_eq!(done.out.matches("waited over").count(), 4, "{done:?}");
    done.out.lines().filter(|line| line.contains("waited over")).for_each(|line| println!("{line}"));
}

#[test]
fn idle_over_shm() {
    idle(&Site::run(&["--transport", "shm"]));
}

#[test]
fn idle_over_tcp() {
    idle(&Site::run(&["--transport", "tcp"]));
}

#[test]
fn idle_over_an_mpi() {
    for site in [Site::openmpi(), Site::mpich()].into_iter().flatten() {
        idle(&site.with("AEOLIAN_TRANSPORT", "mpi"));
    }
}
