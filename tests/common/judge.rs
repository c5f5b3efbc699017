//! How a job must end that something went wrong in: its exit code, and the one error that says who, where and why.

use super::Done;
use super::site::Site;
use std::time::Duration;

/// A fault: its name, the job's exit code, the phrase that names the cause.
pub struct Fault {
    pub name: &'static str,
    pub code: i32,
    pub cause: &'static str,
    /// What MPI launchers, which see no farewell but the end of a process, may make of it besides.
    pub mpi_cause: &'static str,
}

/// A fault that all launchers see alike.
pub const fn fault(name: &'static str, code: i32, cause: &'static str) -> Fault {
    Fault { name, code, cause, mpi_cause: cause }
}

pub const CLOSED: &str = "its connection closed without a farewell";

/// What can go wrong.
pub const FAULTS: [Fault; 10] = [
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

/// The hang time-out of these jobs.
pub const HANG: Duration = Duration::from_secs(2);
/// No job takes longer than this from the fault on.
pub const BOUND: Duration = Duration::from_secs(2 + 8);

/// A site whose jobs have [`HANG`] for a hang time-out.
pub fn with_hang_timeout(site: Site) -> Site {
    let mut site = site;
    let seconds = HANG.as_secs().to_string();
    if site.ours {
        site.launcher.extend(["--hang-timeout".into(), format!("{seconds}s")]);
    } else {
        site.env.push(("AEOLIAN_HANG_TIMEOUT".into(), seconds));
    }
    site
}

/// The lines of our own errors, each with its help and code lines.
pub fn errors(done: &Done) -> Vec<String> {
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

/// An error unless `ok`.
pub fn check(ok: bool, what: impl Into<String>) -> Result<(), String> {
    if ok { Ok(()) } else { Err(what.into()) }
}

/// The one error: rank, host, process, phase, cause, help, code.
pub fn judge_error(fault: &Fault, victim: u32, cause: &str, error: &str) -> Result<(), String> {
    check(error.contains(cause), format!("the error does not say {cause:?}"))?;
    match fault.name {
        // Whoever compares first speaks; both are named.
        "mismatch" => check(
            error.contains(&format!("rank {victim} is in barrier #51"))
                && error.contains("is in allreduce_slice #51"),
            "the error does not name both sides",
        )?,
        // All are to blame.
        "deadlock" => check(
            error.contains(&format!("rank {victim} is in recv"))
                && error.contains("are in allreduce_slice #51"),
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

/// Under `aeolian run`.
pub fn judge_run(fault: &Fault, victim: u32, done: &Done) -> Result<(), String> {
    check(
        done.status.code() == Some(fault.code),
        format!("exit code {:?}, not {}", done.status.code(), fault.code),
    )?;
    let errors = errors(done);
    check(errors.len() == 1, format!("{} errors", errors.len()))?;
    judge_error(fault, victim, fault.cause, &errors[0])?;
    check(errors[0].contains(&format!("exit code: {} ", fault.code)), "another code in the error")
}

/// Under a launcher of an MPI, whose exit code is one of `codes`.
pub fn judge_mpi(fault: &Fault, victim: u32, ranks: u32, done: &Done, codes: &[i32]) -> Result<(), String> {
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
    let most = if victim == 0 || hydra_spoke { ranks as usize - 1 } else { 1 };
    check((1..=most).contains(&errors.len()), format!("{} errors", errors.len()))?;
    let of_master = errors.iter().skip(1).all(|error| error.contains("it hosted the job master"));
    check(victim == 0 || of_master, format!("{} errors", errors.len()))?;
    // On a busy machine rank 0 may be gone before it could say anything, and another rank lives to tell of that.
    if hydra_spoke && errors[0].contains("it hosted the job master") {
        return judge_error(fault, 0, CLOSED, &errors[0]);
    }
    let cause = if errors[0].contains(fault.mpi_cause) { fault.mpi_cause } else { fault.cause };
    // Who is silent and hosted the job master may have been ended, by a node-mate or the launcher, before its silence is told.
    let cause =
        if fault.name == "stop" && victim == 0 && errors[0].contains(CLOSED) { CLOSED } else { cause };
    judge_error(fault, victim, cause, &errors[0])
}

/// Where our own wires carry the data, MPI is over when the work begins, and the code is ours: but that launchers tell a
/// kill by their own code.
pub fn own_codes(fault: &Fault) -> &'static [i32] {
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
pub fn openmpi_codes(fault: &Fault) -> &'static [i32] {
    match fault.name {
        "exit0" => &[82, 1],
        "vanish" => &[80, 1],
        _ => own_codes(fault),
    }
}

/// Hydra kills all (9) when one leaves without MPI_Finalize; on a busy machine it may notice that one's closed PMI
/// connection before its end, and then says 1 (and "Hangup") of it; and when that one's code was 0, MPICH 4.0's Hydra may
/// call the whole a success, whatever the others' codes are. Only `_exit(0)` gets so far: `exit(0)` becomes 82.
pub fn mpich_codes(fault: &Fault) -> &'static [i32] {
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
