//! Compiles the shim with the site's `mpicc`: what `aeolian mpi build` does. Its C source is part of this library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::find::Flavor;
use super::ops::{ABI, MpiOps};
use crate::{NetError, Result};

const HEADER: &str = include_str!("aeolian_mpi.h");
const SHIM: &str = include_str!("shim.c");
const CHECK: &str = include_str!("check.c");

/// A compiler or a check that takes longer than this is stopped (it takes well under a second where nothing is wrong).
const PATIENCE: Duration = Duration::from_secs(120);

/// A shim that was compiled and seen to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltShim {
    /// Where it is.
    pub path: PathBuf,
    /// Which MPI it is for.
    pub flavor: Flavor,
    /// First line of that MPI's `MPI_Get_library_version`.
    pub version: String,
}

/// Compiles the shim with `mpicc` (default: `$MPICC`, else `mpicc` of the `PATH`) into `out_dir`, which is made if missing.
///
/// The file gets the name that the search looks for (`libaeolian-mpi-openmpi.so`, ...), by what the compiled shim says of
/// itself, or `name` if given. It appears there only when it has been loaded by a process of its own and has answered.
///
/// # Errors
/// [`NetError::Config`] when there is no such compiler, when it fails (with what it said) or when the shim does not load;
/// [`NetError::Os`] when `out_dir` cannot be written.
pub fn build_shim(mpicc: Option<&str>, out_dir: &Path, name: Option<&str>) -> Result<BuiltShim> {
    let mpicc = match mpicc {
        Some(given) => given.to_string(),
        None => std::env::var("MPICC").ok().filter(|v| !v.is_empty()).unwrap_or_else(|| "mpicc".into()),
    };
    fs::create_dir_all(out_dir)
        .map_err(NetError::os(format!("making the directory {}", out_dir.display())))?;
    let work = Work::new(out_dir)?;
    for (file, text) in [("aeolian_mpi.h", HEADER), ("shim.c", SHIM), ("check.c", CHECK)] {
        let path = work.0.join(file);
        fs::write(&path, text).map_err(NetError::os(format!("writing {}", path.display())))?;
    }
    let shim = work.0.join("shim.so");
    compile(&mpicc, &work.0, &["-shared", "-fPIC", "-O2", "-o", "shim.so", "shim.c"])?;
    compile(&mpicc, &work.0, &["-O1", "-o", "check", "check.c", "-ldl"])?;

    let mut check = Command::new(work.0.join("check"));
    check.arg(&shim);
    let (ok, said, errors) = run(check, &work.0, "the check of the shim")?;
    let mut lines = said.lines();
    let mut first = lines.next().unwrap_or("").split_whitespace();
    let (abi, size, flavor) = (first.next(), first.next(), first.next());
    let (Some(flavor), true) = (flavor, ok) else {
        return Err(NetError::Config {
            what: format!("the shim compiled by {mpicc} cannot be loaded: {}", tail(&errors, 5)),
            help: "the MPI's library must be found at run time: load its module, or add its lib directory to LD_LIBRARY_PATH"
                .into(),
        });
    };
    if abi != Some(&ABI.to_string()) || size != Some(&size_of::<MpiOps>().to_string()) {
        return Err(NetError::Config {
            what: format!("the shim compiled by {mpicc} has another table than this program ({said})"),
            help: "this compiler makes code for another machine type: name one for this machine with --mpicc"
                .into(),
        });
    }
    let flavor = Flavor::from_name(flavor);
    let version = lines.next().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ");
    let path = out_dir.join(name.map_or_else(|| flavor.shim_name(), str::to_string));
    fs::rename(&shim, &path).map_err(NetError::os(format!("moving the shim to {}", path.display())))?;
    Ok(BuiltShim { path, flavor, version: version.replace("Version: ", "") })
}

/// A directory that is removed when the build ends, however it ends.
struct Work(PathBuf);

impl Work {
    fn new(out_dir: &Path) -> Result<Work> {
        let out_dir = fs::canonicalize(out_dir)
            .map_err(NetError::os(format!("finding the directory {}", out_dir.display())))?;
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = out_dir.join(format!(".aeolian-mpi-build-{}-{count}", std::process::id()));
        fs::create_dir(&dir).map_err(NetError::os(format!("making the directory {}", dir.display())))?;
        Ok(Work(dir))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // nothing that matters is in it
    }
}

fn compile(mpicc: &str, dir: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new(mpicc);
    command.args(args).current_dir(dir);
    let (ok, _, errors) = run(command, dir, mpicc)?;
    if ok {
        return Ok(());
    }
    let help = if errors.contains("mpi.h") && errors.contains("No such file") {
        "this is not an MPI compiler wrapper, or the MPI's headers are not installed (libopenmpi-dev, libmpich-dev)"
    } else {
        "try the same command by hand; another compiler can be named with --mpicc or MPICC"
    };
    let what = format!("`{mpicc} {}` failed:\n{}", args.join(" "), tail(&errors, 12));
    Err(NetError::Config { what, help: help.into() })
}

/// Runs `command` to its end or for [`PATIENCE`]; gives (success, stdout, stderr).
fn run(mut command: Command, dir: &Path, name: &str) -> Result<(bool, String, String)> {
    let (out, err) = (dir.join("stdout"), dir.join("stderr"));
    let file =
        |path: &Path| fs::File::create(path).map_err(NetError::os(format!("writing {}", path.display())));
    command.stdin(Stdio::null()).stdout(file(&out)?).stderr(file(&err)?);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => NetError::Config {
            what: format!("there is no MPI compiler here: {name} was not found"),
            help: "load the site's MPI module (module load openmpi), or install libopenmpi-dev or libmpich-dev, \
                   or name the compiler with --mpicc or MPICC"
                .into(),
        },
        _ => NetError::Os { what: format!("starting {name}"), source },
    })?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(NetError::os(format!("waiting for {name}")))? {
            Some(status) => break status,
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(NetError::TimedOut {
                    what: format!("the end of {name}"),
                    seconds: PATIENCE.as_secs(),
                    help: "is the file system slow? try the same command by hand".into(),
                });
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let text =
        |path: &Path| fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    Ok((status.success(), text(&out), text(&err)))
}

/// The last `n` lines, indented.
fn tail(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(n);
    lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_compiler_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = build_shim(Some("no-such-mpicc"), dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("no-such-mpicc was not found") && error.contains("libopenmpi-dev"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the work directory is still there");
    }

    #[test]
    fn a_plain_compiler_is_recognised_as_no_mpicc() {
        if Command::new("cc").arg("--version").output().is_err() {
            println!("skipped: no cc here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let error = build_shim(Some("cc"), dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("not an MPI compiler wrapper"), "{error}");
    }
}
