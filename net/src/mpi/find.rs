//! Where an MPI is looked for. The first that loads is taken:
//!
//! 1. `AEOLIAN_MPI`: the path of a shim or of a `libmpi_abi.so`, or the word `abi`. Nothing else is tried then.
//! 2. the shim of the MPI that launched us, `libaeolian-mpi-openmpi.so` or `libaeolian-mpi-mpich.so`, or one for any MPI of the
//!    standard ABI, `libaeolian-mpi-abi.so`: beside the executable, in the directories of `AEOLIAN_MPI_PATH` (separated by colons),
//!    in `~/.local/lib/aeolian`, in `/usr/local/lib/aeolian`;
//! 3. `libmpi_abi.so.1`, the MPI-5 standard ABI, wherever the dynamic linker finds it;
//! 4. the shim of the other MPI, in the same places (an MPI that did not launch us most often says that there is one rank; the caller
//!    compares).

use std::ffi::{CStr, OsString};
use std::path::{Path, PathBuf};

use super::ops::MpiOps;
use super::{abi, shim};
use crate::launcher::Launcher;

/// Which MPI's launcher started us, as far as is known: its shim is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefer {
    /// Open MPI's `mpirun`, or PMIx.
    OpenMpi,
    /// Hydra's `mpiexec` (MPICH, Intel MPI), or PMI-1 / PMI-2.
    Mpich,
    /// Not known: Open MPI's shim is tried first, then MPICH's, then the standard ABI.
    Either,
}

impl Prefer {
    /// The one that a launcher belongs to.
    pub fn of(launcher: Launcher) -> Prefer {
        match launcher {
            Launcher::OpenMpi | Launcher::SlurmPmix | Launcher::Pmix => Prefer::OpenMpi,
            Launcher::Hydra | Launcher::SlurmPmi2 => Prefer::Mpich,
            Launcher::Nobody | Launcher::Aeolian | Launcher::Slurm => Prefer::Either,
        }
    }
}

/// Which `mpi.h` a table was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// Open MPI and kin.
    OpenMpi,
    /// MPICH and kin (Intel, Cray, MVAPICH).
    Mpich,
    /// The MPI-5 standard ABI.
    Abi,
    /// Something else.
    Other,
}

impl Flavor {
    /// From its name in the table.
    pub fn from_name(name: &str) -> Flavor {
        match name {
            "openmpi" => Flavor::OpenMpi,
            "mpich" => Flavor::Mpich,
            "abi" => Flavor::Abi,
            _ => Flavor::Other,
        }
    }

    /// As in names of shims: `openmpi`, `mpich`, `abi`, `other`.
    pub fn name(self) -> &'static str {
        match self {
            Flavor::OpenMpi => "openmpi",
            Flavor::Mpich => "mpich",
            Flavor::Abi => "abi",
            Flavor::Other => "other",
        }
    }

    /// File name of its shim: `libaeolian-mpi-openmpi.so`.
    pub fn shim_name(self) -> String {
        format!("libaeolian-mpi-{}.so", self.name())
    }
}

/// An MPI that is loaded but not initialised.
#[derive(Debug, Clone)]
pub struct MpiLibrary {
    pub(super) ops: &'static MpiOps,
    /// What was loaded: a path, or `libmpi_abi.so.1`.
    pub origin: String,
    /// Whose `mpi.h` the table was made with.
    pub flavor: Flavor,
    /// First line of `MPI_Get_library_version`.
    pub version: String,
}

impl std::fmt::Debug for MpiOps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MpiOps")
            .field("abi", &self.abi)
            .field("ops_size", &self.ops_size)
            .finish_non_exhaustive()
    }
}

impl MpiLibrary {
    pub(super) fn new(ops: &'static MpiOps, origin: String) -> MpiLibrary {
        // SAFETY: the table's flavor is a constant string.
        let flavor = unsafe { CStr::from_ptr(ops.flavor) }.to_string_lossy();
        let mut text = [0; 1024];
        // SAFETY: allowed before MPI_Init; the capacity is that of the buffer, and the text is NUL-terminated.
        let version = unsafe {
            (ops.library_version)(text.as_mut_ptr(), text.len() as u64);
            CStr::from_ptr(text.as_ptr()).to_string_lossy()
        };
        // MPICH's text is a table of configure options: its first line is "MPICH Version:      4.0.2".
        let line = version.lines().next().unwrap_or("").trim();
        let version = line.split_whitespace().collect::<Vec<_>>().join(" ").replace("Version: ", "");
        MpiLibrary { ops, origin, flavor: Flavor::from_name(&flavor), version }
    }
}

/// A candidate that was not taken, and why: for `aeolian doctor` and for the error when there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// A path, or a library name.
    pub candidate: String,
    /// Why not.
    pub reason: String,
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.candidate, self.reason)
    }
}

/// What [`find`] found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The MPI to use.
    pub library: MpiLibrary,
    /// What was tried before it.
    pub rejected: Vec<Rejected>,
}

/// The settings that the search depends on.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// `AEOLIAN_MPI`.
    pub forced: Option<OsString>,
    /// Directory of the executable.
    pub beside: Option<PathBuf>,
    /// `AEOLIAN_MPI_PATH`.
    pub path: Option<OsString>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

impl Places {
    /// As the environment of this process says.
    pub fn from_env() -> Places {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        Places {
            forced: set("AEOLIAN_MPI"),
            beside: std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)),
            path: set("AEOLIAN_MPI_PATH"),
            home: set("HOME").map(PathBuf::from),
        }
    }

    /// Directories in which shims are looked for, in order.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = self.beside.iter().cloned().collect();
        // An empty entry would mean the working directory: never load code from there.
        dirs.extend(
            self.path.iter().flat_map(std::env::split_paths).filter(|dir| !dir.as_os_str().is_empty()),
        );
        dirs.extend(self.home.iter().map(|home| home.join(".local/lib/aeolian")));
        dirs.push("/usr/local/lib/aeolian".into());
        dirs
    }

    /// What is tried, in order.
    pub fn candidates(&self, prefer: Prefer) -> Vec<PathBuf> {
        if let Some(forced) = &self.forced {
            return vec![if forced == "abi" { abi::LIBRARY.into() } else { forced.into() }];
        }
        let dirs = self.directories();
        let shims = |flavor: Flavor| dirs.iter().map(move |dir| dir.join(flavor.shim_name()));
        let standard = || shims(Flavor::Abi).chain([PathBuf::from(abi::LIBRARY)]);
        let (open, mpich) = (Flavor::OpenMpi, Flavor::Mpich);
        match prefer {
            Prefer::OpenMpi => shims(open).chain(standard()).chain(shims(mpich)).collect(),
            Prefer::Mpich => shims(mpich).chain(standard()).chain(shims(open)).collect(),
            Prefer::Either => shims(open).chain(shims(mpich)).chain(standard()).collect(),
        }
    }
}

/// Loads the first MPI that works (see the head of this file), or says of each candidate why not.
///
/// It does not initialise MPI and can be called by anyone, but only once to good effect: libraries stay loaded.
pub fn find(prefer: Prefer) -> Result<Found, Vec<Rejected>> {
    find_in(&Places::from_env(), prefer)
}

/// [`find`] with settings other than the environment's.
pub fn find_in(places: &Places, prefer: Prefer) -> Result<Found, Vec<Rejected>> {
    let mut rejected = Vec::new();
    for candidate in places.candidates(prefer) {
        match load(&candidate) {
            Ok(library) => return Ok(Found { library, rejected }),
            Err(reason) => {
                rejected.push(Rejected { candidate: candidate.to_string_lossy().into_owned(), reason });
            }
        }
    }
    Err(rejected)
}

/// Loads one candidate: a shim, an MPI of the standard ABI, or a bare library name for the dynamic linker.
pub fn load(candidate: &Path) -> Result<MpiLibrary, String> {
    let origin = candidate.to_string_lossy().into_owned();
    let file_name = candidate.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if candidate.components().count() > 1 && !candidate.exists() {
        return Err("no such file".into());
    }
    let here = already_here();
    let ops = if file_name.starts_with("libmpi") {
        abi::load(candidate)?
    } else {
        match shim::load(candidate) {
            // Not named like one, but it may still be an MPI.
            Err(reason) if reason.starts_with("it is not a shim") => abi::load(candidate)?,
            other => other?,
        }
    };
    let library = MpiLibrary::new(ops, origin);
    // Symbols of an MPI that is in the process already come first: calls of another would end there, with handles that mean something else.
    let is_open = library.version.starts_with("Open MPI");
    let mixed = match library.flavor {
        Flavor::OpenMpi => !is_open,
        Flavor::Mpich => is_open,
        Flavor::Abi => here.is_some_and(|standard| !standard),
        Flavor::Other => false,
    };
    if mixed {
        let (flavor, version) = (library.flavor.name(), library.version);
        return Err(format!(
            "it is for {flavor}, but this process has another MPI in it already ({version}): \
             a program linked with an MPI can use that one only"
        ));
    }
    Ok(library)
}

/// Whether an MPI is in this process (linked, or loaded by someone else), and if so whether it has the standard ABI.
fn already_here() -> Option<bool> {
    let this = libloading::os::unix::Library::this();
    // SAFETY: the symbols are looked up, not used.
    let has = |name: &str| unsafe { this.get::<*const ()>(name).is_ok() };
    has("MPI_Init\0").then(|| has("MPI_Abi_get_version\0"))
}

/// Why the dynamic linker refused, in words that help: most often the MPI that a shim was compiled for is not there.
pub(super) fn explain(error: &libloading::Error, shim: Option<&Path>) -> String {
    let text = crate::dl::says(error);
    let before = text.split_once(": cannot open shared object file").map(|(before, _)| before);
    let missing = before.and_then(|before| before.split_whitespace().next_back());
    match (shim, missing) {
        (Some(shim), Some(library)) => {
            let name = shim.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let of = match () {
                () if name.contains("openmpi") => "Open MPI",
                () if name.contains("mpich") => "MPICH",
                () => "an MPI",
            };
            format!(
                "it was compiled for {of}, whose library {library} is not found here \
                 (load the module of that MPI, or add its directory to LD_LIBRARY_PATH)"
            )
        }
        (None, Some(library)) => format!("the dynamic linker does not find {library}"),
        (_, None) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            forced: None,
            beside: Some("/exe".into()),
            path: Some("/a::/b".into()),
            home: Some("/home/u".into()),
        }
    }

    #[test]
    fn order_follows_the_launcher() {
        let names = |prefer| -> Vec<String> {
            let all = places().candidates(prefer);
            all.iter().map(|p| p.to_string_lossy().into_owned()).collect()
        };
        let open = names(Prefer::OpenMpi);
        assert_eq!(
            open[..5],
            [
                "/exe/libaeolian-mpi-openmpi.so",
                "/a/libaeolian-mpi-openmpi.so",
                "/b/libaeolian-mpi-openmpi.so",
                "/home/u/.local/lib/aeolian/libaeolian-mpi-openmpi.so",
                "/usr/local/lib/aeolian/libaeolian-mpi-openmpi.so"
            ]
        );
        let at = |list: &[String], what: &str| list.iter().position(|c| c.contains(what)).unwrap();
        assert!(at(&open, "libmpi_abi.so.1") < at(&open, "-mpich.so"));
        let mpich = names(Prefer::Mpich);
        assert_eq!(mpich[0], "/exe/libaeolian-mpi-mpich.so");
        assert!(at(&mpich, "libmpi_abi.so.1") < at(&mpich, "-openmpi.so"));
        let either = names(Prefer::Either);
        assert!(at(&either, "-openmpi.so") < at(&either, "-mpich.so"));
        assert_eq!(either.last().map(String::as_str), Some("libmpi_abi.so.1"));
    }

    #[test]
    fn forced_is_the_only_candidate() {
        let forced =
            |value: &str| Places { forced: Some(value.into()), ..places() }.candidates(Prefer::OpenMpi);
        assert_eq!(forced("abi"), [PathBuf::from("libmpi_abi.so.1")]);
        assert_eq!(forced("/opt/x.so"), [PathBuf::from("/opt/x.so")]);
    }

    #[test]
    fn reasons_are_given_for_each() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("libaeolian-mpi-openmpi.so");
        std::fs::write(&text, "not a library").unwrap();
        let places = Places { forced: None, beside: Some(dir.path().into()), path: None, home: None };
        let mut reasons = Vec::new();
        for candidate in places.candidates(Prefer::OpenMpi).into_iter().take(2) {
            reasons.push(load(&candidate).map(|l| l.origin).unwrap_err());
        }
        assert!(!reasons[0].contains("no such file") && !reasons[0].is_empty(), "{reasons:?}");
        assert_eq!(reasons[1], "no such file");
    }

    #[test]
    fn a_shim_without_its_mpi_says_which_library_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let cc = |args: &[&str]| {
            let run = std::process::Command::new("cc").args(args).current_dir(dir.path()).output();
            run.is_ok_and(|out| out.status.success())
        };
        std::fs::write(dir.path().join("mpi.c"), "int MPI_Barrier(void *c) { return c != 0; }").unwrap();
        std::fs::write(
            dir.path().join("s.c"),
            "int MPI_Barrier(void *); int f(void) { return MPI_Barrier(0); }",
        )
        .unwrap();
        if !cc(&["-shared", "-fPIC", "-Wl,-soname,libmpi.so.4711", "-o", "libmpi.so.4711", "mpi.c"]) {
            println!("skipped: no cc here");
            return;
        }
        assert!(cc(&["-shared", "-fPIC", "-o", "libaeolian-mpi-openmpi.so", "s.c", "libmpi.so.4711"]));
        std::fs::remove_file(dir.path().join("libmpi.so.4711")).unwrap();
        let reason = load(&dir.path().join("libaeolian-mpi-openmpi.so")).unwrap_err();
        assert!(
            reason.starts_with("it was compiled for Open MPI, whose library libmpi.so.4711 is not found"),
            "{reason}"
        );
        let reason = load(Path::new("libmpi_abi.so.4711")).unwrap_err();
        assert_eq!(reason, "the dynamic linker does not find libmpi_abi.so.4711");
    }
}
