//! What goes wrong x on which rank x under which launcher and over which wire: every job ends in bounded time, with the
//! documented code and one error that says who, where and why, and nothing is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use common::Done;
use common::site::Site;
use common::trial::{self, Trial};
use rustix::process::Signal;
use std::time::Duration;

/// The hang time-out of these jobs.
const HANG: Duration = Duration::from_secs(2);
/// No job takes longer than this from the fault on.
const BOUND: Duration = Duration::from_secs(2 + 8);
/// For ranks to come to work, on cores that others use too.
const START: Duration = Duration::from_secs(30);
const RANKS: u32 = 4;

/// A fault: its name for `aeolian drill`, the job's exit code, the phrase that names the cause.
struct Fault {
    name: &'static str,
    code: i32,
    cause: &'static str,
    /// What MPI launchers, which see no farewell but the end of a process, may make of it besides.
    mpi_cause: &'static str,
}

const fn fault(name: &'static str, code: i32, cause: &'static str) -> Fault {
    Fault { name, code, cause, mpi_cause: cause }
}

const CLOSED: &str = "its connection closed without a farewell";

const FAULTS: [Fault; 10] = [
    Fault { mpi_cause: CLOSED, ..fault("kill", 80, "killed by signal 9 (SIGKILL)") },
    fault("stop", 81, "gave no sign of life for 2 s"),
    fault("exit0", 82, "left with code 0 without having said FINISHED"),
    fault("exit3", 3, "ended with code 3 before the job was finished"),
    Fault { mpi_cause: CLOSED, ..fault("vanish", 82, "left with code 0 without having said FINISHED") },
    fault("panic", 83, "panicked: drill"),
    fault("error", 42, "the drill's own error"),
    fault("mismatch", 84, "is in barrier #"),
    fault("deadlock", 84, "all ranks wait for one another since 2 s"),
    fault("late", 7, "ended with code 7 after it had said FINISHED"),
];

fn with_hang_timeout(site: Site) -> Site {
    let mut site = site;
    let seconds = HANG.as_secs().to_string();
    if site.ours {
        site.launcher.extend(["--hang-timeout".into(), format!("{seconds}s")]);
    } else {
        site.env.push(("AEOLIAN_HANG_TIMEOUT".into(), seconds));
    }
    site
}

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
                judge_mpi(fault, victim, &done, mpi_codes(fault))
            };
            if let Err(what) = verdict {
                wrong.push(format!("{} {} of rank {victim}: {what}\n{done:#?}", site.name, fault.name));
            }
            trial.assert_clean(&done);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The lines of our own errors, each with its help and code lines.
fn errors(done: &Done) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in done.err.lines() {
        inside = line.starts_with("aeolian: error:") || (inside && line.starts_with("  "));
        if line.starts_with("aeolian: error:") {
            found.push(line.into());
        } else if inside {
            let last = found.last_mut().unwrap();
            last.push('\n');
            last.push_str(line);
        }
    }
    found
}

fn check(ok: bool, what: impl Into<String>) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.into()) }
}

/// The one error: rank, host, process, phase, cause, help, code.
fn judge_error(fault: &Fault, victim: u32, cause: &str, error: &str) -> Result<(), String> {
    check(error.contains(cause), format!("the error does not say {cause:?}"))?;
    match fault.name {
        // Whoever compares first speaks; both are named.
        "mismatch" => check(
            error.contains(&format!("rank {victim} is in barrier #51"))
                && error.contains("is in allreduce #51"),
            "the error does not name both sides",
        )?,
        // All are to blame.
        "deadlock" => check(
            error.contains(&format!("rank {victim} is in recv")) && error.contains("are in allreduce #51"),
            "the error does not say who waits where",
        )?,
        _ => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            let names = [host.trim(), "localhost"];
            let who = names
                .iter()
                .find_map(|h| error.strip_prefix(&format!("aeolian: error: rank {victim} on {h} (pid ")));
            let Some((pid, rest)) = who.and_then(|rest| rest.split_once(')')) else {
                return Err("the error does not name rank, host and process".into());
            };
            check(pid.parse::<u32>().is_ok_and(|pid| pid > 1), format!("process {pid:?}"))?;
            let phase = rest.strip_prefix(", in phase ").and_then(|r| r.split_once(": ")).map(|r| r.0);
            check(phase.is_some_and(|p| !p.is_empty()), "the error names no phase")?;
        }
    }
    check(error.contains("\n  help: "), "the error does not help")?;
    check(error.contains("\n  exit code: "), "the error does not tell the exit code")
}

fn judge_run(fault: &Fault, victim: u32, done: &Done) -> Result<(), String> {
    check(
        done.status.code() == Some(fault.code),
        format!("exit code {:?}, not {}", done.status.code(), fault.code),
    )?;
    let errors = errors(done);
    check(errors.len() == 1, format!("{} errors", errors.len()))?;
    judge_error(fault, victim, fault.cause, &errors[0])?;
    check(errors[0].contains(&format!("exit code: {} ", fault.code)), "another code in the error")
}

fn judge_mpi(fault: &Fault, victim: u32, done: &Done, codes: &[i32]) -> Result<(), String> {
    let code = done.status.code().unwrap_or(-1);
    check(codes.contains(&code), format!("exit code {code}, not one of {codes:?}"))?;
    let errors = errors(done);
    if fault.name == "late" {
        // All have said FINISHED: what comes after is between the process and its launcher, which tells by the code.
        return check(errors.len() <= 1, "more than one error");
    }
    // Hydra kills all when one is killed or vanishes, at once: rank 0 may not live to speak.
    let hydra_spoke = done.out.contains("BAD TERMINATION") && done.out.contains("EXIT CODE: 9");
    if errors.is_empty() && (fault.name == "vanish" || fault.name == "kill" && hydra_spoke) {
        return Ok(());
    }
    // One error; but where rank 0 takes the job master with it, another rank may speak before the launcher ends it. (Hydra
    // kills rank 0 with the others, perhaps before all have heard the verdict: what they say then is of rank 0.)
    let most = if victim == 0 || hydra_spoke { RANKS as usize - 1 } else { 1 };
    check((1..=most).contains(&errors.len()), format!("{} errors", errors.len()))?;
    let of_master = errors.iter().skip(1).all(|error| error.contains("it hosted the job master"));
    check(victim == 0 || of_master, format!("{} errors", errors.len()))?;
    let cause = if errors[0].contains(fault.mpi_cause) { fault.mpi_cause } else { fault.cause };
    // Who is silent and hosted the job master may have been ended, by a node-mate or the launcher, before its silence is told.
    let cause =
        if fault.name == "stop" && victim == 0 && errors[0].contains(CLOSED) { CLOSED } else { cause };
    judge_error(fault, victim, cause, &errors[0])
}

#[test]
fn run_shm() {
    matrix(&Site::run(&["--transport", "shm"]), |_| &[]);
}

#[test]
fn run_tcp() {
    matrix(&Site::run(&["--transport", "tcp"]), |_| &[]);
}

/// Where our own wires carry the data, MPI is over when the work begins, and the code is ours: but that launchers tell a
/// kill by their own code.
fn own_codes(fault: &Fault) -> &'static [i32] {
    match fault.name {
        "kill" => &[80, 137, 9],
        "stop" => &[81, 137, 9],
        "exit0" => &[82],
        "vanish" => &[80],
        "exit3" => &[3],
        "panic" => &[83],
        "error" => &[42],
        "late" => &[7],
        _ => &[84],
    }
}

/// mpirun may end with 1 where one has left without MPI_Finalize.
fn openmpi_codes(fault: &Fault) -> &'static [i32] {
    match fault.name {
        "exit0" => &[82, 1],
        "vanish" => &[80, 1],
        _ => own_codes(fault),
    }
}

/// Hydra kills all (9) when one leaves without MPI_Finalize; on a busy machine it may notice that one's closed PMI
/// connection before its end, and then says 1 (and "Hangup") of it; and when that one's code was 0, MPICH 4.0's Hydra may
/// call the whole a success, whatever the others' codes are. Only `_exit(0)` gets so far: `exit(0)` becomes 82.
fn mpich_codes(fault: &Fault) -> &'static [i32] {
    match fault.name {
        "exit0" => &[82, 9, 1],
        "vanish" => &[80, 9, 1, 0],
        "exit3" => &[3, 9, 1],
        "panic" => &[83, 9, 1],
        "error" => &[42, 9, 1],
        "late" => &[7, 9, 1],
        "kill" => &[80, 137, 9, 1],
        "stop" => &[81, 137, 9, 1],
        _ => &[84, 9, 1],
    }
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
