//! What goes wrong x on which rank x under which launcher and over which wire: every job ends in bounded time, with the
//! documented code and one error that says who, where and why, and nothing is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::judge::{
    BOUND, FAULTS, Fault, errors, judge_mpi, judge_run, mpich_codes, openmpi_codes, own_codes,
    with_hang_timeout,
};
use common::site::Site;
use common::trial::{self, Trial};
use rustix::process::Signal;
use std::time::Duration;

/// For ranks to come to work, on cores that others use too.
const START: Duration = Duration::from_secs(30);
const RANKS: u32 = 4;

/// Starts a drill and waits until its ranks work together (or the job is over already).
fn start(site: &Site, args: &[&str]) -> Trial {
    let args = [&["drill", "--seconds", "60"], args].concat();
    let mut trial = trial::start(with_hang_timeout(site.clone()).command(RANKS, &args), START);
    trial.wait_for_output("ranks at work");
    trial.note_shared_memory();
    trial.allow(BOUND);
    trial
}

/// The whole matrix under one launcher over one wire.
fn matrix(site: &Site, mpi_codes: fn(&Fault) -> &'static [i32]) {
    let mut wrong = Vec::new();
    for fault in &FAULTS {
        for victim in [0, RANKS / 2, RANKS - 1] {
            let mut trial = start(site, &["--fault", fault.name, "--rank", &victim.to_string()]);
            let done = trial.wait();
            let verdict = if site.ours {
                judge_run(fault, victim, &done)
            } else {
                judge_mpi(fault, victim, RANKS, &done, mpi_codes(fault))
            };
            if let Err(what) = verdict {
                wrong.push(format!("{} {} of rank {victim}: {what}\n{done:#?}", site.name, fault.name));
            }
            trial.assert_clean(&done);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn run_shm() {
    matrix(&Site::run(&["--transport", "shm"]), |_| &[]);
}

#[test]
fn run_tcp() {
    matrix(&Site::run(&["--transport", "tcp"]), |_| &[]);
}

#[test]
fn openmpi_shm() {
    if let Some(site) = Site::openmpi() {
        matrix(&site, own_codes);
    }
}

#[test]
fn openmpi_mpi() {
    if let Some(site) = Site::openmpi() {
        matrix(&site.with("AEOLIAN_TRANSPORT", "mpi"), openmpi_codes);
    }
}

#[test]
fn mpich_shm() {
    if let Some(site) = Site::mpich() {
        matrix(&site, own_codes);
    }
}

#[test]
fn mpich_mpi() {
    if let Some(site) = Site::mpich() {
        matrix(&site.with("AEOLIAN_TRANSPORT", "mpi"), mpich_codes);
    }
}

/// The launcher itself is killed: the ranks end.
#[test]
fn killed_launchers_leave_no_ranks() {
    for site in launchers() {
        let mut trial = start(&site, &["--fault", "none"]);
        trial.signal(Signal::KILL);
        trial.wait();
        trial.assert_gone_within(BOUND);
        let (own, theirs): (Vec<_>, Vec<_>) = trial
            .left_shared_memory()
            .into_iter()
            .partition(|f| !f.file_name().unwrap().to_string_lossy().starts_with("vader_segment."));
        assert!(own.is_empty(), "{own:?}");
        // Open MPI's segments are mpirun's to remove, which was killed.
        theirs.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
}

/// The launcher itself stands still: the ranks of `aeolian run` end, as nobody watches over them any more. (mpirun and
/// mpiexec only forward output; their ranks go on as long as nobody reads none of it.)
#[test]
fn stopped_launchers_end_the_ranks() {
    for site in [Site::run(&["--transport", "shm"]), Site::run(&["--transport", "tcp"])] {
        let mut trial = start(&site, &["--fault", "none"]);
        trial.signal(Signal::STOP);
        common::wait_for("the ranks to end", || {
            let ranks = trial.processes().iter().filter(|(_, line)| is_rank(line)).count();
            (ranks == 0).then_some(())
        });
        trial.allow(BOUND);
        trial.signal(Signal::CONT);
        let done = trial.wait();
        assert!(!done.status.success(), "{done:?}");
        // One of a rank, as the launcher could not speak; and the launcher's, when it can again.
        let errors = errors(&done);
        assert!(errors[0].contains("lost the job master") && errors.len() <= 2, "{done:?}");
        assert_eq!(done.code(), 86, "{done:?}");
        trial.assert_clean(&done);
    }
}

/// "R .../aeolian drill ..." and not the launcher, nor a zombie, which has no command line.
fn is_rank(line: &str) -> bool {
    line.split(' ').nth(1).is_some_and(|p| p.ends_with("aeolian")) && line.split(' ').nth(2) == Some("drill")
}

fn launchers() -> Vec<Site> {
    let ours = [Site::run(&["--transport", "shm"]), Site::run(&["--transport", "tcp"])];
    let mpis: Vec<_> = [Site::openmpi(), Site::mpich()].into_iter().flatten().collect();
    let over_mpi: Vec<_> = mpis.iter().map(|s| s.clone().with("AEOLIAN_TRANSPORT", "mpi")).collect();
    ours.into_iter().chain(mpis).chain(over_mpi).collect()
}

/// A program that listens ends in good order; one that does not is ended at once.
#[test]
fn stop_requests() {
    let site = Site::run(&["--transport", "shm"]);
    for (signal, in_order, at_once) in
        [(Signal::TERM, 75, 143), (Signal::INT, 75, 130), (Signal::USR1, 75, 143)]
    {
        let mut trial = start(&site, &["--fault", "none", "--listen"]);
        trial.signal(signal);
        let done = trial.wait();
        assert!(done.out.contains("drill: stopped in order after"), "{signal:?}: {done:?}");
        assert_eq!(done.code(), in_order, "{signal:?}: {done:?}");
        trial.assert_clean(&done);

        let mut trial = start(&site, &["--fault", "none"]);
        trial.signal(signal);
        let done = trial.wait();
        assert!(
            !done.out.contains("stopped in order") && !done.out.contains("over after"),
            "{signal:?}: {done:?}"
        );
        assert_eq!(done.code(), at_once, "{signal:?}: {done:?}");
        trial.assert_clean(&done);
    }
}
