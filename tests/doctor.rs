//! `aeolian doctor`: as text, as JSON, as a rank, and where much is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should panic

mod common;

use aeolian_net::doctor::{Outcome, Report};
use common::{Done, aeolian, start};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `aeolian doctor` with these arguments and variables, started by nobody.
fn doctor(args: &[&str], env: &[(&str, &str)]) -> Done {
    let mut command = aeolian(&["doctor"]);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["SLURM", "PMI", "OMPI", "MPI_", "TMPDIR"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    start(command.args(args).envs(env.iter().copied())).finish()
}

fn report(done: &Done) -> Report {
    assert_eq!((done.code(), done.err.as_str()), (0, ""), "{done:?}");
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}", done.out))
}

fn assert_good_text(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80 && line == line.trim_end(), "{line:?} in\n{text}");
    }
    for section in ["Start", "MPI", "Cores", "Memory of a rank", "Limits", "Scratch directories", "Network"] {
        assert!(text.lines().any(|l| l == section), "no {section} in\n{text}");
    }
}

#[test]
fn text() {
    let done = doctor(&["--ranks", "3"], &[]);
    assert_eq!((done.code(), done.err.as_str()), (0, ""), "{done:?}");
    assert_good_text(&done.out);
    assert!(done.out.contains("started by  nobody"), "{}", done.out);
    assert!(done.out.contains("ranks here  3 (as asked with --ranks)"), "{}", done.out);
    assert_eq!(doctor(&["--ranks", "0"], &[]).code(), 64);
}

#[test]
fn json() {
    let report = report(&doctor(&["--json", "--ranks", "3"], &[("AEOLIAN_MEMORY", "3GiB")]));
    assert_eq!((report.ranks.here, report.binding.len()), (3, 3));
    let memory = report.memory.unwrap();
    assert!(memory.candidates.contains(&("AEOLIAN_MEMORY (3 GiB / 3 ranks)".into(), 1 << 30)), "{memory:?}");
    assert_eq!(report.settings.get("AEOLIAN_MEMORY").unwrap(), "3GiB");
    assert!(!report.limits.is_empty() && !report.scratch.is_empty() && !report.interfaces.is_empty());
}

#[test]
fn much_is_wrong_and_each_is_said_with_help() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("libaeolian-mpi-abi.so"), "damaged").unwrap();
    let gone = dir.path().join("gone");
    let env = [
        ("AEOLIAN_MPI_PATH", dir.path().to_str().unwrap()),
        ("AEOLIAN_SCRATCH", gone.to_str().unwrap()),
        ("AEOLIAN_INTERFACE", "no-such-0"),
        ("AEOLIAN_MEMORY", "lots"),
        ("PMI_RANK", "0"),
        ("PMI_SIZE", "none"),
        ("SLURM_JOB_ID", "7"),
        ("SLURM_JWT", "a-token"),
    ];
    let found = doctor(&["--json", "--ranks", "5000"], &env);
    assert!(!found.out.contains("a-token"), "a token of Slurm's is shown");
    let found = report(&found);
    let about = |what: &str| found.warnings.iter().filter(|w| w.about == what).count();
    for (what, least) in
        [("launcher", 1), ("MPI", 1), ("cores", 1), ("memory", 1), ("scratch", 1), ("network", 1)]
    {
        assert!(about(what) >= least, "{what}: {:#?}", found.warnings);
    }
    assert!(found.warnings.iter().all(|w| !w.help.is_empty()));
    assert!(found.mpi.candidates.iter().any(|c| matches!(c.outcome, Outcome::Refused { .. })));
    assert_eq!(found.slurm.get("SLURM_JOB_ID").unwrap(), "7");

    let text = doctor(&["--ranks", "5000"], &env);
    assert_good_text(&text.out);
    let helps = text.out.lines().filter(|l| l.starts_with("     help ")).count();
    assert_eq!(helps, found.warnings.len(), "{}", text.out);
}

#[test]
fn what_an_mpi_leaves_running_holds_nothing_up() {
    let Some(cc) = need("cc") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (source, pids) = (dir.path().join("daemon.c"), dir.path().join("pids"));
    // When it is loaded it starts a process that keeps standard output open, and writes what is no UTF-8.
    let text = r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        __attribute__((constructor)) static void start(void) {
            if (fork() == 0) {
                FILE *pids = fopen(getenv("DAEMON_PIDS"), "a");
                fprintf(pids, "%d\n", (int)getpid());
                fclose(pids);
                sleep(50);
                _exit(0);
            }
            write(1, "\xff\xfe\n", 3);
        }
    "#;
    std::fs::write(&source, text).unwrap();
    let library = dir.path().join("libaeolian-mpi-abi.so");
    let built = Command::new(cc).args(["-shared", "-fPIC", "-w", "-o"]).args([&library, &source]).status();
    assert!(built.unwrap().success());
    let begin = std::time::Instant::now();
    let path = [("AEOLIAN_MPI_PATH", dir.path().to_str().unwrap()), ("DAEMON_PIDS", pids.to_str().unwrap())];
    let done = doctor(&["--json"], &path);
    let took = begin.elapsed();
    for pid in common::wait_for_lines(&pids, 1) {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap_or_default();
    }
    assert!(took < std::time::Duration::from_secs(15), "{took:?}");
    let found = report(&done);
    let tried = found.mpi.candidates.iter().find(|c| Path::new(&c.path) == library).unwrap();
    assert!(
        matches!(&tried.outcome, Outcome::Refused { reason } if !reason.contains("tried") && !reason.contains("ends the process")),
        "{tried:?}"
    );
}

#[test]
fn few_open_files_are_noticed() {
    let mut command = Command::new("sh");
    let line = format!("ulimit -n 100 && exec {} doctor --json --ranks 50", env!("CARGO_BIN_EXE_aeolian"));
    command.args(["-c", &line]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let found = report(&start(&mut command).finish());
    assert!(found.warnings.iter().any(|w| w.problem.contains("may open 100 files")), "{:?}", found.warnings);
}

#[test]
fn under_aeolian_run_rank_0_speaks() {
    let done = common::run(&["run", "-n", "3", env!("CARGO_BIN_EXE_aeolian"), "doctor", "--json"]);
    let found = report(&done);
    let launch = found.launch.unwrap();
    assert_eq!((launch.rank, launch.size, found.ranks.here), (0, 3, 3));
    assert!(!done.out.contains("SECRET"), "{}", done.out);
}

#[test]
fn in_a_slurm_step_of_two_nodes() {
    // What srun sets, without it: no cluster is needed to read variables.
    let step = |rank| {
        [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", rank),
            ("SLURM_LOCALID", rank),
            ("SLURM_STEP_NODELIST", "n[1-2]"),
            ("SLURM_STEP_NUM_TASKS", "6"),
            ("SLURM_STEP_NUM_NODES", "2"),
            ("SLURM_NODEID", "0"),
            ("SLURM_STEP_TASKS_PER_NODE", "4,2"),
        ]
    };
    let found = report(&doctor(&["--json"], &step("0")));
    assert_eq!((found.ranks.here, found.ranks.total), (4, 6));
    assert_eq!(found.mpi.choices[0].path, None, "srun without MPI uses none");
    let silent = doctor(&[], &step("1"));
    assert_eq!((silent.code(), silent.out.as_str(), silent.err.as_str()), (0, "", ""));
}

/// The program in PATH; says so where it is not there, and fails where AEOLIAN_REQUIRE_ALL=1.
fn need(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.exists());
    if found.is_none() {
        assert_ne!(std::env::var("AEOLIAN_REQUIRE_ALL").as_deref(), Ok("1"), "{program} is not installed");
        println!("skipped: {program} is not installed");
    }
    found
}

/// `launcher -n 2 aeolian doctor` with the shims that are in `shims`.
fn launched(launcher: &Path, shims: &Path, args: &[&str]) -> Done {
    let mut command = Command::new(launcher);
    if launcher.ends_with("mpirun.openmpi") {
        command.args(["--allow-run-as-root", "--oversubscribe"]);
    }
    command.args(["-n", "2", env!("CARGO_BIN_EXE_aeolian"), "doctor"]).args(args);
    command.env("AEOLIAN_MPI_PATH", shims).env_remove("AEOLIAN_MPI").stdin(Stdio::null());
    start(command.stdout(Stdio::piped()).stderr(Stdio::piped())).finish()
}

/// Under an MPI's launcher, with shims for both MPIs beside each other: once, for rank 0, and nothing is joined (the launchers
/// would complain of a rank that ends without `MPI_Finalize`).
fn as_a_rank(launcher: &str, mpicc: &[&str], version: &str) {
    let Some(launcher) = need(launcher) else { return };
    let shims = tempfile::tempdir().unwrap();
    for mpicc in mpicc {
        if need(mpicc).is_none() {
            return;
        }
        let built =
            common::run(&["mpi", "build", "--mpicc", mpicc, "--output", shims.path().to_str().unwrap()]);
        assert_eq!(built.code(), 0, "{built:?}");
    }
    let found = report(&launched(&launcher, shims.path(), &["--json"]));
    let launch = found.launch.as_ref().unwrap();
    assert_eq!((launch.rank, launch.size, found.ranks.here), (0, 2, 2));
    let [choice] = found.mpi.choices.as_slice() else { panic!("{:?}", found.mpi.choices) };
    let chosen = found.mpi.candidates.iter().find(|c| Some(&c.path) == choice.path.as_ref()).unwrap();
    assert!(matches!(&chosen.outcome, Outcome::Works(l) if l.version.starts_with(version)), "{chosen:?}");
    let working = found.mpi.candidates.iter().filter(|c| matches!(c.outcome, Outcome::Works(_))).count();
    assert!(working >= mpicc.len(), "each is tried by itself: {:#?}", found.mpi.candidates);
    assert!(found.warnings.iter().all(|w| w.about != "MPI"), "{:?}", found.warnings);

    let text = launched(&launcher, shims.path(), &[]);
    assert_eq!((text.code(), text.out.matches("Scratch directories").count()), (0, 1), "{text:?}");
    assert_good_text(&text.out);
}

#[test]
fn under_open_mpi() {
    as_a_rank("mpirun.openmpi", &["mpicc.openmpi", "mpicc.mpich"], "Open MPI");
}

#[test]
fn under_mpich() {
    as_a_rank("mpiexec.mpich", &["mpicc.openmpi", "mpicc.mpich"], "MPICH");
}

#[test]
fn the_wrong_mpi_is_noticed() {
    let (Some(launcher), Some(_)) = (need("mpiexec.mpich"), need("mpicc.openmpi")) else { return };
    let shims = tempfile::tempdir().unwrap();
    let dir = shims.path().to_str().unwrap();
    assert_eq!(common::run(&["mpi", "build", "--mpicc", "mpicc.openmpi", "--output", dir]).code(), 0);
    // The only shim in reach: where a user's own or the system's is installed, there may be another.
    let found = report(&launched(&launcher, shims.path(), &["--json"]));
    let others = found.mpi.candidates.iter().filter(|c| !c.path.starts_with(dir));
    if others.clone().any(|c| matches!(c.outcome, Outcome::Works(_))) {
        println!("skipped: an MPI is installed for this user");
        return;
    }
    assert!(!found.mpi.choices[0].fits);
    let said = found.warnings.iter().find(|w| w.problem.contains("a world of one")).unwrap();
    assert!(said.help.contains("mpicc.mpich"), "{said:?}");
}
