//! Two hosts with a slow link between them: what collectives send over it, by the counters of its interfaces.
//!
//! The hosts are network namespaces of this machine, with host names of their own and a pair of virtual interfaces between them, which
//! nothing outside can reach.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use aeolian::World;
use aeolian::harp::{HarpError, Result};
use aeolian::harp::{Modulo, Sum, Table, allgather, allreduce, barrier, broadcast, gather, reduce, regroup};
use aeolian::net::tuning::{Shape, Tuning};
use common::site::{clean, tested};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Of the worker: what makes it one.
const ROLE: &str = "RUN_NODES_WORKER";
/// The link's interface on either host.
const LINK: &str = "slow";
const TIMES: u64 = 3;
const MIB: u64 = 1 << 20;

/// One test at a time has hosts: they would have the same names.
static ONE: Mutex<()> = Mutex::new(());

/// Two hosts, gone when dropped.
struct Hosts {
    _one: MutexGuard<'static, ()>,
    dir: tempfile::TempDir,
    names: [String; 2],
}

fn tried(program: &str, args: &[&str]) -> bool {
    let done = Command::new(program).args(args).output();
    done.is_ok_and(|done| done.status.success())
}

impl Hosts {
    /// Makes them; `None` (with a word why) where that is not possible.
    fn start() -> Option<Hosts> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let names = ["a", "b"].map(|host| format!("aeolian{}{host}", std::process::id()));
        if !rustix::process::geteuid().is_root() || !tried("ip", &["netns", "add", &names[0]]) {
            common::site::skip("needs root and network namespaces (ip netns add)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let hosts = Hosts { _one: one, dir, names };
        let ip = |args: &str| {
            let args: Vec<_> = args.split(' ').collect();
            assert!(tried("ip", &args), "ip {args:?}");
        };
        let [a, b] = &hosts.names;
        ip(&format!("netns add {b}"));
        ip(&format!("link add {LINK} netns {a} type veth peer name {LINK} netns {b}"));
        for (name, address) in [(a, "10.213.7.1/24"), (b, "10.213.7.2/24")] {
            ip(&format!("-n {name} addr add {address} dev {LINK}"));
            ip(&format!("-n {name} link set {LINK} up"));
            ip(&format!("-n {name} link set lo up"));
            let cap = format!(
                "netns exec {name} tc qdisc add dev {LINK} root tbf rate 400mbit burst 64kb latency 200ms"
            );
            if !tried("ip", &cap.split(' ').collect::<Vec<_>>()) {
                println!("the link has no limit: this kernel has no token bucket filter (tc ... tbf)");
            }
        }
        Some(hosts)
    }

    /// A stand-in for ssh that runs a command on a host, which has its name to itself.
    fn ssh(&self) -> PathBuf {
        let text = "#!/bin/sh\nhost=$1\nshift\n\
                    exec ip netns exec \"$host\" unshare --uts --ipc sh -c \"hostname $host; exec $*\"\n";
        common::script(self.dir.path(), "on-host", text)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            tried("ip", &["netns", "del", name]);
        }
    }
}

/// Bytes that this host has sent and received over the link.
fn counted() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{LINK}:"))).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
    (numbers[8], numbers[0])
}

fn table(first: u64, ids: u64, bytes: u64) -> Table<u64, Sum> {
    let mut table = Table::<u64, Sum>::new(Sum);
    for id in first..first + ids {
        table.insert(id, vec![1; (bytes / ids / 8) as usize]);
    }
    table
}

/// Calls it some times and tells what went over the link, in and out of the host of rank 0.
fn series(world: &mut World, name: &str, mut call: impl FnMut(&mut World) -> Result<()>) -> Result<()> {
    call(world)?;
    barrier(world)?;
    let before = counted();
    // Nobody sends before all have looked.
    barrier(world)?;
    for _ in 0..TIMES {
        call(world)?;
    }
    barrier(world)?;
    let after = counted();
    if world.rank() == 0 {
        println!("link {name} {} {}", after.0 - before.0, after.1 - before.1);
    }
    Ok(())
}

fn collectives(mut world: World) -> Result<()> {
    let w = &mut world;
    if w.layout().node_of != [0, 0, 1, 1] {
        return Err(HarpError::Usage(format!("not two hosts of two ranks: {:?}", w.layout())));
    }
    let me = u64::from(w.rank());
    series(w, "allreduce", |w| allreduce(w, &mut table(0, 4, 4 * MIB)))?;
    series(w, "broadcast", |w| {
        let mut model = if me == 0 { table(0, 4, 4 * MIB) } else { Table::new(Sum) };
        broadcast(w, &mut model, 0)
    })?;
    series(w, "reduce", |w| reduce(w, &mut table(0, 4, 4 * MIB), 0))?;
    series(w, "gather", |w| gather(w, &mut table(me, 1, MIB), 0))?;
    series(w, "allgather", |w| allgather(w, &mut table(me, 1, MIB)))?;
    series(w, "regroup", |w| regroup(w, &mut table(0, 64, 4 * MIB), &Modulo))?;
    Ok(world.finish()?)
}

/// What runs on the ranks.
#[test]
#[ignore = "runs on the ranks that the other test starts"]
fn worker() {
    if std::env::var_os(ROLE).is_some() {
        collectives(World::init().unwrap()).unwrap();
    }
}

#[test]
fn over_a_slow_link_collectives_send_the_least() {
    let Some(hosts) = Hosts::start() else { return };
    let [a, b] = &hosts.names;
    let mut command = clean(Command::new("ip"));
    let ssh = format!("--ssh={}", hosts.ssh().display());
    command.args(["netns", "exec", a, tested(), "run", &ssh, "--host", &format!("{a}:2,{b}:2"), "-x", ROLE]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, "1");
    let done = common::trial::run(command, Duration::from_secs(180));
    assert!(done.status.success(), "{done:?}");
    // MiB out of the host of rank 0, and into it.
    for (name, out, into) in [
        ("allreduce", 4, 4),
        ("broadcast", 4, 0),
        ("reduce", 0, 4),
        ("gather", 0, 2),
        ("allgather", 2, 2),
        ("regroup", 2, 2),
    ] {
        let line = done.out.lines().find_map(|line| line.split_once(&format!("link {name} "))).unwrap().1;
        let bytes: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        println!(
            "{name}: {} and {} bytes, the least are {out} and {into} MiB",
            bytes[0] / TIMES,
            bytes[1] / TIMES
        );
        for (bytes, (least, against)) in bytes.iter().zip([(out, into), (into, out)]) {
            let (least, against) = (TIMES * least * MIB, TIMES * against * MIB);
            // Headers, and acknowledgements of what goes the other way: on a busy machine of each segment, some of them twice.
            let most = least + least / 10 + against / 8 + TIMES * MIB / 5;
            assert!(*bytes >= least && *bytes <= most, "{name}: {done:?}");
        }
    }
}

/// Ranks of a host share memory; what is measured, by one of each, is the link. The next job between the hosts takes it.
#[test]
fn tuning_between_hosts_measures_the_link() {
    let Some(hosts) = Hosts::start() else { return };
    let [a, b] = &hosts.names;
    let (ssh, file) = (hosts.ssh(), hosts.dir.path().join("cache/tune.txt"));
    let on_a = |words: &[&str]| {
        let mut command = clean(Command::new("ip"));
        command.args(["netns", "exec", a, tested()]).args(words);
        command.env("AEOLIAN_SSH", &ssh).env("AEOLIAN_TUNE", &file);
        let done = common::trial::run(command, Duration::from_secs(120));
        assert!(done.status.success() && done.err.is_empty(), "{done:?}");
        done.out
    };
    let places = format!("{a}:2,{b}:2");
    let begin = Instant::now();
    let out = on_a(&["tune", "--quick", "--host", &places]);
    println!("{out}\nafter {:.1} s", begin.elapsed().as_secs_f64());
    assert!(out.contains("aeolian tune: 4 ranks on 2 nodes over tcp+encrypted, about 5 s\n"), "{out}");
    let tuning = Tuning::read(&file).unwrap().unwrap();
    let shape = Shape { wire: "tcp+encrypted".into(), nodes: 2, ranks: 4 };
    let [row] = tuning.rows.as_slice() else { panic!("{tuning:?}") };
    assert!(row.shape == shape && row.values.keys().eq(["eager", "piece", "sparse"]), "{row:?}");
    let out = on_a(&["run", "--host", &places, tested(), "selftest"]);
    assert!(out.contains(&format!("  tuned: eager {}, piece", row.values["eager"])), "{out}");
}
