//! Starts this very test binary under a real launcher and waits for it, bounded in time.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Environment variable that makes the ignored test `worker` do something.
pub(crate) const ROLE: &str = "AEOLIAN_TEST_ROLE";

pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Run {
    /// How many lines contain `what`.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.text.lines().filter(|line| line.contains(what)).count()
    }

    #[track_caller]
    pub(crate) fn assert_all(&self, what: &str, ranks: usize) {
        assert_eq!(
            (self.code, self.count(what)),
            (Some(0), ranks),
            "wanted {ranks} x {what:?}\n{}",
            self.text
        );
    }
}

/// A launcher of some MPI, if it is here: `None` (having said so) where it is not, a panic where AEOLIAN_REQUIRE_ALL=1.
pub(crate) fn need(program: &str) -> Option<PathBuf> {
    let found = if program.contains('/') {
        Some(PathBuf::from(program)).filter(|p| p.exists())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.exists())
    };
    if found.is_none() {
        let required = std::env::var("AEOLIAN_REQUIRE_ALL").is_ok_and(|v| v == "1");
        assert!(!required, "{program} is not installed, and AEOLIAN_REQUIRE_ALL=1");
        println!("skipped: {program} is not installed");
    }
    found
}

/// Runs `launcher -n ranks <this binary> worker` in the given role.
pub(crate) fn launch(launcher: &Path, ranks: usize, role: &str, env: &[(&str, &str)], seconds: u64) -> Run {
    launch_with(launcher, &[], ranks, role, env, seconds)
}

/// [`launch`] with more arguments for the launcher.
pub(crate) fn launch_with(
    launcher: &Path,
    options: &[&str],
    ranks: usize,
    role: &str,
    env: &[(&str, &str)],
    seconds: u64,
) -> Run {
    let name = launcher.to_string_lossy();
    let mut command = Command::new(launcher);
    if name.contains("openmpi") {
        command.args(["--allow-run-as-root", "--oversubscribe"]);
    }
    command.args(options).args(["-n", &ranks.to_string()]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    // Launchers of other jobs around us must not be seen, and ranks outnumber cores here.
    for (key, _) in std::env::vars() {
        if ["OMPI_", "PMI_", "PMIX_", "AEOLIAN_MPI"].iter().any(|prefix| key.starts_with(prefix)) {
            command.env_remove(key);
        }
    }
    command.env("OMPI_MCA_mpi_yield_when_idle", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    command.env("PRTE_ALLOW_RUN_AS_ROOT", "1").env("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env(ROLE, role).envs(env.iter().copied());
    run(command, seconds)
}

/// Runs `command` in a process group of its own, for `seconds` at most. One at a time: ranks that spin would only take each
/// other's cores.
pub(crate) fn run(mut command: Command, seconds: u64) -> Run {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output");
    let out = File::create(&path).unwrap();
    let err = out.try_clone().unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut asked = false;
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break if asked { None } else { status.code() };
        }
        if Instant::now() > end {
            let signal = if asked { libc::SIGKILL } else { libc::SIGTERM };
            // SAFETY: the group is the child's own, and the child has not been waited for.
            unsafe { libc::kill(-(child.id() as i32), signal) };
            asked = true;
            std::thread::sleep(Duration::from_secs(2));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    if asked {
        text.push_str(&format!("\n(stopped after {seconds} s)\n"));
    }
    Run { code, text }
}
