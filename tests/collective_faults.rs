//! A rank that is lost inside each collective, among small calls and with large tables, on every wire: every job ends in
//! bounded time, with the documented code and one error that names the rank, and nothing is left.
//!
//! When the rank is lost is random. `COLLECTIVE_FAULTS_SEED` repeats what a failure tells of.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::Failure;
use aeolian::harp::{barrier, broadcast_slice};
use common::Done;
use common::calls::{self, CALLS, Call, Given};
use common::judge::{
    BOUND, CLOSED, Fault, check, errors, fault, judge_mpi, judge_run, mpich_codes, openmpi_codes,
    with_hang_timeout,
};
use common::site::{Site, is_worker};
use common::trial;
use rustix::process::{Signal, getpid, kill_process};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// For ranks to come to work, on cores that others use too.
const START: Duration = Duration::from_secs(30);
const RANKS: u32 = 3;
/// Of the worker: `call length fault victim microseconds`.
const ORDERS: &str = "COLLECTIVE_FAULTS_ORDERS";
/// Elements of a partition: on the board or in the head of a message; on its own, beyond the window.
const LENGTHS: [usize; 2] = [24, 1 << 17];

const KILLED: &Fault = &Fault { mpi_cause: CLOSED, ..fault("kill", 80, "killed by signal 9 (SIGKILL)") };
const STOPPED: &Fault = &fault("stop", 81, "gave no sign of life for 2 s");
const PANICKED: &Fault = &fault("panic", 83, "panicked: in the combiner");

/// What runs on the ranks: one collective, again and again, until the victim is lost in it.
#[test]
#[ignore = "runs on the ranks that the other tests start"]
fn worker() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<&str> = orders.split(' ').collect();
    let number = |at: usize| orders[at].parse::<u64>().unwrap();
    let call = CALLS.iter().find(|c| c.name == orders[0]).unwrap();
    let (len, victim, after) = (number(1) as usize, number(3) as u32, Duration::from_micros(number(4)));
    let fault = orders[2].to_string();
    let code = aeolian::run(|world| {
        let (mut ready, me) = (Some(fault), world.rank());
        for round in 0u32.. {
            let given = Given { len, root: round % RANKS, started: round % 2 == 1 };
            INSIDE.store(true, Ordering::SeqCst);
            (call.run)(world, given)?;
            INSIDE.store(false, Ordering::SeqCst);
            if round == RANKS {
                if me == 0 {
                    println!("ranks at work over {}", world.transport());
                }
                if let Some(fault) = ready.take().filter(|_| me == victim) {
                    std::thread::spawn(move || lose(&fault, after));
                }
            }
        }
        Ok(())
    });
    std::process::exit(code.into());
}

/// What runs on the ranks: while one reads the long slice of another, which waits for that, a third fails.
#[test]
#[ignore = "runs on the ranks that another test starts"]
fn early_leaver() {
    if !is_worker() {
        return;
    }
    let code = aeolian::run(|world| {
        let mut slice = vec![1.0f64; 1 << 25];
        barrier(world)?;
        if world.rank() == 2 {
            std::thread::sleep(Duration::from_millis(10));
            return Err(Failure::new(3, "it fails meanwhile"));
        }
        let outcome = broadcast_slice(world, &mut slice, 0);
        match (world.rank(), &outcome) {
            (0, _) => slice.iter_mut().rev().for_each(|x| *x = 666.0),
            (_, Ok(())) if slice.iter().any(|x| *x != 1.0) => println!("took garbage"),
            (_, Ok(())) => println!("was faster"),
            (_, Err(_)) => println!("was told"),
        }
        Ok(outcome?)
    });
    std::process::exit(code.into());
}

/// Whether this rank is in the collective.
static INSIDE: AtomicBool = AtomicBool::new(false);

/// After a while, and inside the collective.
fn lose(fault: &str, after: Duration) {
    std::thread::sleep(after);
    while !INSIDE.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    match fault {
        "kill" => kill_process(getpid(), Signal::KILL).unwrap(),
        "stop" => kill_process(getpid(), Signal::STOP).unwrap(),
        "panic" => calls::PANIC.store(true, Ordering::SeqCst),
        other => panic!("no fault {other}"),
    }
}

/// A random number below `n`, by splitmix64.
fn random(state: &mut u64, n: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut x = *state;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) % n
}

/// A fault in one collective; what was wrong with the end of the job.
fn lost(
    site: &Site,
    fault: &Fault,
    call: &Call,
    len: usize,
    seed: u64,
    codes: Option<fn(&Fault) -> &'static [i32]>,
) -> Result<(), String> {
    let which = CALLS.iter().position(|c| c.name == call.name).unwrap() * LENGTHS[1] + len;
    let mut state = seed ^ (which as u64) << 20;
    let (victim, after) = (random(&mut state, RANKS.into()) as u32, random(&mut state, 20_000));
    // Of a scan only the last rank combines with all others.
    let victim = if fault.name == "panic" { RANKS - 1 } else { victim };
    let mut command = with_hang_timeout(site.clone()).worker(RANKS, "worker");
    let orders = format!("{} {len} {} {victim} {after}", call.name, fault.name);
    println!("{orders}, seed {seed}");
    command.env(ORDERS, orders);
    let mut trial = trial::start(command, START);
    trial.wait_for_output("ranks at work");
    trial.note_shared_memory();
    trial.allow(BOUND);
    let done = trial.wait();
    trial.assert_clean(&done);
    let verdict = match codes {
        _ if ucx_aborted(&done) => judge_aborted(&done),
        None => judge_run(fault, victim, &done),
        Some(codes) => judge_mpi(fault, victim, RANKS, &done, codes(fault)),
    };
    verdict.map_err(|what| {
        format!(
            "{} of rank {victim} in {} with {len} elements over {}, seed {seed}: {what}\n{done:#?}",
            fault.name, call.name, site.name
        )
    })
}

/// UCX, which carries Debian's MPICH, aborts a rank that is copying out of the killed one's memory. Then there are two lost ranks,
/// either may be told first, or mpiexec ends all before any can speak.
fn ucx_aborted(done: &Done) -> bool {
    done.err.contains("libucs.so") && done.err.contains("process_vm_readv")
}

fn judge_aborted(done: &Done) -> Result<(), String> {
    check(!done.status.success(), "success")?;
    check(errors(done).iter().all(|e| e.contains("exit code: 80 ")), "an error that is not RANK_LOST")
}

/// The fault in each of the collectives.
fn each(
    site: &Site,
    fault: &Fault,
    calls: impl Iterator<Item = &'static Call>,
    lengths: &[usize],
    codes: Option<fn(&Fault) -> &'static [i32]>,
) {
    let given = std::env::var("COLLECTIVE_FAULTS_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| std::process::id().into());
    let mut wrong = Vec::new();
    for call in calls {
        for &len in lengths {
            wrong.extend(lost(site, fault, call, len, seed, codes).err());
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn all_collectives_are_here() {
    calls::assert_all_are_here();
}

#[test]
fn killed_shm() {
    each(&Site::run(&["--transport", "shm"]), KILLED, CALLS.iter(), &LENGTHS, None);
}

#[test]
fn killed_tcp() {
    each(&Site::run(&["--transport", "tcp"]), KILLED, CALLS.iter(), &LENGTHS, None);
}

#[test]
fn killed_openmpi() {
    if let Some(site) = Site::openmpi() {
        let site = site.with("AEOLIAN_TRANSPORT", "mpi");
        each(&site, KILLED, CALLS.iter(), &LENGTHS, Some(openmpi_codes));
    }
}

#[test]
fn killed_mpich() {
    if let Some(site) = Site::mpich() {
        each(&site.with("AEOLIAN_TRANSPORT", "mpi"), KILLED, CALLS.iter(), &LENGTHS, Some(mpich_codes));
    }
}

/// A slice is its owner's again when that has left, but not its former content for who still reads it.
#[test]
fn what_a_rank_has_left_early_is_not_taken() {
    let command = Site::run(&["--transport", "shm"]).worker(RANKS, "early_leaver");
    let done = trial::run(command, START);
    assert!(done.status.code() == Some(3) && !done.out.contains("took garbage"), "{done:#?}");
    // (On a busy machine the copy may be complete before the third has failed.)
    assert!(done.out.contains("was told") || done.out.contains("was faster"), "{done:#?}");
}

/// Small calls and large tables by turns, as each job lasts for the hang time-out.
#[test]
fn stopped_shm() {
    let site = Site::run(&["--transport", "shm"]);
    each(&site, STOPPED, CALLS.iter().step_by(2), &LENGTHS[..1], None);
    each(&site, STOPPED, CALLS.iter().skip(1).step_by(2), &LENGTHS[1..], None);
}

#[test]
fn panicked_in_the_combiner_shm() {
    let site = Site::run(&["--transport", "shm"]);
    each(&site, PANICKED, CALLS.iter().filter(|c| c.combines), &LENGTHS, None);
}
