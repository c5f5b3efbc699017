//! A rank that is killed inside an operator that has hardly any memory: while it inserts, in the middle of the shuffle, while it spills,
//! while parts come back from disk. Every job ends in bounded time, with the documented code and one error that names the rank, and no
//! process, no file and no shared memory is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::net::World;
use aeolian::ops::{
    Ascending, Batch, Dataflow, Insert, Join, JoinAlgorithm, JoinKind, KeyedReduce, LogicalPlan, OpsError,
    Options, Side, Sort, drive, spill, taking,
};
use common::Done;
use common::judge::{
    BOUND, CLOSED, Fault, check, errors, fault, judge_mpi, judge_run, mpich_codes, openmpi_codes,
    with_hang_timeout,
};
use common::site::Site;
use common::trial;
use rustix::process::{Signal, getpid, kill_process};
use std::time::Duration;

/// For ranks to come to work, on cores that others use too.
const START: Duration = Duration::from_secs(30);
const RANKS: u32 = 3;
/// Of the worker: `operator point victim`.
const ORDERS: &str = "OPS_FAULTS_ORDERS";

const KILLED: &Fault = &Fault { mpi_cause: CLOSED, ..fault("kill", 80, "killed by signal 9 (SIGKILL)") };
const OPERATORS: [&str; 3] = ["keyed_reduce", "sort", "join"];
/// As the system calls a full disk.
const ENOSPC: i32 = 28;
/// Where the victim ends.
const POINTS: [&str; 4] = ["insert", "shuffle", "spill", "back"];

/// Records are inserted in so many portions,
const PORTIONS: u64 = 40;
/// of so many each.
const PORTION: u64 = 500;

/// When the victim ends, by what it has counted so far.
struct Victim {
    point: String,
    flow: Dataflow,
    steps: u32,
}

impl Victim {
    fn ends_if(&self, is_due: bool) {
        if is_due {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    }

    /// After a portion, or a step of an operator that all was inserted into.
    fn look(&mut self, portion: Option<u64>) {
        let report = self.flow.spill().report();
        self.steps += u32::from(portion.is_none());
        match self.point.as_str() {
            "insert" => self.ends_if(portion == Some(PORTIONS / 2)),
            "shuffle" => self.ends_if(self.steps == 2),
            "spill" => self.ends_if(report.blocks_written >= 3),
            "back" => self.ends_if(report.blocks_read >= 2),
            // What is written next finds no room, in none of the directories.
            "full" if portion == Some(0) => {
                self.flow.spill().write_faults([Some(spill::Fault::Errno(ENOSPC)); 64])
            }
            "full" => {}
            "" => {}
            other => panic!("no point {other}"),
        }
    }
}

/// What runs on the ranks: one operator, until the victim ends in it.
#[test]
#[ignore = "runs on the ranks that the other tests start"]
fn worker() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Vec<&str> = orders.split(' ').collect();
    let victim: u32 = orders[2].parse().unwrap();
    let code = aeolian::run(|world| {
        if world.rank() == 0 {
            println!("ranks at work over {}", world.transport());
        }
        let options = Options::detect(world.layout(), world.rank())?;
        let flow = Dataflow::with(world, Options { memory: 64 << 10, batch: 4 << 10, ..options });
        let point = if world.rank() == victim { orders[1] } else { "" };
        Ok(work(world, orders[0], Victim { point: point.into(), flow: flow.clone(), steps: 0 }, &flow)?)
    });
    std::process::exit(code.into());
}

fn work(world: &World, operator: &str, victim: Victim, flow: &Dataflow) -> Result<(), OpsError> {
    let plan = LogicalPlan::each_rank(world);
    let take = taking(|_, batch: Batch<(u64, u64)>| drop(batch));
    let pair = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i);
    match operator {
        "keyed_reduce" => {
            through(KeyedReduce::new(flow, &plan, |a: &mut u64, b| *a += b, take)?, victim, pair)
        }
        "sort" => through(Sort::new(flow, &plan, Ascending, take)?, victim, pair),
        "join" => {
            let row = |key: &u64, l: Option<&u64>, r: Option<&u64>| (*key, l.or(r).copied().unwrap_or(0));
            let join = Join::new(flow, &plan, JoinKind::Full, JoinAlgorithm::Hash, row, take)?;
            through(join, victim, |i| if i % 2 == 0 { Side::Left(pair(i)) } else { Side::Right(pair(i)) })
        }
        other => panic!("no operator {other}"),
    }
}

fn through<T, O: Insert<T>>(
    mut op: O,
    mut victim: Victim,
    record: impl Fn(u64) -> T,
) -> Result<(), OpsError> {
    let me = op.world().rank();
    for portion in 0..PORTIONS {
        let first = (u64::from(me) * PORTIONS + portion) * PORTION;
        op.insert_all(me, (first..first + PORTION).map(&record))?;
        victim.look(Some(portion));
    }
    op.finish(me)?;
    drive(&mut op, |op| {
        victim.look(None);
        Ok(op.is_complete().then_some(()))
    })
}

/// UCX, which carries Debian's MPICH, aborts a rank that is copying out of the killed one's memory: then there are two lost ranks, and either
/// may be told first.
fn ucx_aborted(done: &Done) -> bool {
    done.err.contains("libucs.so") && done.err.contains("process_vm_readv")
}

fn judge_aborted(done: &Done) -> Result<(), String> {
    check(!done.status.success(), "success")?;
    check(errors(done).iter().all(|e| e.contains("exit code: 80 ")), "an error that is not RANK_LOST")
}

/// A rank that ends at each point of each operator: what was wrong with the ends of the jobs.
fn each(site: &Site, points: &[&str], codes: Option<fn(&Fault) -> &'static [i32]>) {
    let mut wrong = Vec::new();
    for (operator, turn) in OPERATORS.into_iter().zip(0..) {
        for (point, victim) in points.iter().zip(turn..) {
            // Rank 0, which speaks for the job, is one of them.
            let victim = victim % RANKS;
            let mut command = with_hang_timeout(site.clone()).worker(RANKS, "worker");
            command.env(ORDERS, format!("{operator} {point} {victim}"));
            let mut trial = trial::start(command, START);
            trial.wait_for_output("ranks at work");
            trial.note_shared_memory();
            trial.allow(BOUND);
            let done = trial.wait();
            trial.assert_clean(&done);
            let verdict = match codes {
                _ if ucx_aborted(&done) => judge_aborted(&done),
                None => judge_run(KILLED, victim, &done),
                Some(codes) => judge_mpi(KILLED, victim, RANKS, &done, codes(KILLED)),
            };
            wrong.extend(verdict.err().map(|what| {
                format!("rank {victim} in {operator}, at {point}, over {}: {what}\n{done:#?}", site.name)
            }));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// One rank's disk is full: the job ends with the code for that, and one error that says which operator, rank and directory.
#[test]
fn a_full_disk_ends_the_job() {
    for operator in OPERATORS {
        let mut command = Site::run(&["--transport", "shm"]).worker(RANKS, "worker");
        command.env(ORDERS, format!("{operator} full 1"));
        let done = trial::run(command, START);
        assert_eq!(done.code(), i32::from(aeolian::net::exit::CANNOT_WRITE), "{operator}: {done:#?}");
        let errors = errors(&done);
        assert_eq!(errors.len(), 1, "{done:#?}");
        for word in [&*format!("`{operator} #"), "rank 1", "No space left on device", "TMPDIR", "help: set"] {
            assert!(errors[0].contains(word), "{operator}: no {word:?} in {done:#?}");
        }
    }
}

/// Without a victim: the work comes to its end, so it is the kill that ends the others.
#[test]
fn nobody_is_killed() {
    for operator in OPERATORS {
        let mut command = Site::run(&["--transport", "shm"]).worker(RANKS, "worker");
        command.env(ORDERS, format!("{operator} insert {RANKS}"));
        let done = trial::run(command, START);
        assert!(done.status.success(), "{operator}: {done:#?}");
    }
}

#[test]
fn killed_shm() {
    each(&Site::run(&["--transport", "shm"]), &POINTS, None);
}

#[test]
fn killed_tcp() {
    each(&Site::run(&["--transport", "tcp"]), &POINTS, None);
}

#[test]
fn killed_openmpi() {
    if let Some(site) = Site::openmpi() {
        each(&site.with("AEOLIAN_TRANSPORT", "mpi"), &POINTS, Some(openmpi_codes));
    }
}

#[test]
fn killed_mpich() {
    if let Some(site) = Site::mpich() {
        each(&site.with("AEOLIAN_TRANSPORT", "mpi"), &POINTS, Some(mpich_codes));
    }
}
