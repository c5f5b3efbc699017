//! Which MPI would be used, and what became of every candidate.

use super::Warning;
use crate::launcher::{Launch, Launcher};
use crate::mpi::Prefer;
use crate::mpi::find::{self, Places};
use std::path::Path;

/// An MPI that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Loaded {
    /// Whose `mpi.h`: `openmpi`, `mpich`, `abi`, `other`.
    pub flavor: String,
    /// `Open MPI v4.1.4, ...`
    pub version: String,
}

impl Loaded {
    /// `Open MPI v4.1.4` of `Open MPI v4.1.4, package: Debian OpenMPI, ident: ...`.
    pub fn short_version(&self) -> &str {
        self.version.split(',').next().unwrap_or_default()
    }
}

/// Loads a candidate into this process, without initialising it.
///
/// # Errors
/// Why it cannot be used, as a phrase.
pub fn load(candidate: &Path) -> Result<Loaded, String> {
    find::load(candidate).map(|l| Loaded { flavor: l.flavor.name().into(), version: l.version })
}

/// Tries a candidate: [`load`], or better the same in a process of its own, because a process can hold only one MPI.
pub type Probe<'a> = &'a dyn Fn(&Path) -> Result<Loaded, String>;

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Outcome {
    /// It can be loaded.
    Works(Loaded),
    /// It is there, but cannot be used.
    Refused {
        /// Why not.
        reason: String,
    },
    /// It is not there.
    Missing,
    /// It is there, but an earlier one was loaded into this process.
    Untried,
}

/// A place where an MPI was looked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Candidate {
    /// A shim, an MPI library, or a name for the dynamic linker.
    pub path: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a launcher's ranks would use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Choice {
    /// Under whom: `Open MPI's mpirun`.
    pub launcher: String,
    /// The candidate; `None`: Aeolian's own wires.
    pub path: Option<String>,
    /// Whether it knows the launcher. One that does not takes every rank for a world of one.
    pub fits: bool,
}

/// All about MPI.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mpi {
    /// `AEOLIAN_MPI`, if set.
    pub setting: Option<String>,
    /// Every candidate, in the order in which they are tried.
    pub candidates: Vec<Candidate>,
    /// What would be used: under our launcher, or if nobody launched us under those that there may be.
    pub choices: Vec<Choice>,
    /// Version of the PMIx library, by which ranks meet where there is no MPI.
    pub pmix: Option<String>,
    /// Why there is none.
    pub pmix_missing: Option<String>,
}

impl Mpi {
    /// Tries every candidate; with `one` only until the first that works.
    pub(super) fn gather(launch: Option<&Launch>, places: &Places, probe: Probe<'_>, one: bool) -> Mpi {
        let setting = places.forced.as_ref().map(|s| s.to_string_lossy().into_owned());
        let off = matches!(setting.as_deref(), Some("none" | "off"));
        let launcher = launch.map_or(Launcher::Nobody, |l| l.launcher);
        let mut candidates = Vec::new();
        let tried = if off { Vec::new() } else { places.candidates(Prefer::of(launcher)) };
        for path in tried {
            let missing = path.components().count() > 1 && !path.exists();
            let loaded = candidates.iter().any(|c: &Candidate| matches!(c.outcome, Outcome::Works(_)));
            let outcome = if missing {
                Outcome::Missing
            } else if one && loaded {
                Outcome::Untried
            } else {
                match probe(&path) {
                    Ok(loaded) => Outcome::Works(loaded),
                    // The linker's name for it, and it has none: nothing is broken.
                    Err(why) if why.starts_with("the dynamic linker does not find") => Outcome::Missing,
                    // It begins with the path, most often, which is said already.
                    Err(reason) => {
                        let path = format!("{}: ", path.display());
                        Outcome::Refused { reason: reason.strip_prefix(&path).unwrap_or(&reason).to_owned() }
                    }
                }
            };
            candidates.push(Candidate { path: path.to_string_lossy().into_owned(), outcome });
        }
        let first = |launcher: Launcher| {
            let order = places.candidates(Prefer::of(launcher));
            let works = |path: &String| {
                let found = candidates.iter().find(|c| c.path == *path);
                found.is_some_and(|c| matches!(c.outcome, Outcome::Works(_) | Outcome::Untried))
            };
            let path = order.iter().map(|p| p.to_string_lossy().into_owned()).find(works);
            let version = candidates.iter().find_map(|c| match &c.outcome {
                Outcome::Works(loaded) if Some(&c.path) == path.as_ref() => Some(loaded.version.as_str()),
                _ => None,
            });
            let fits = version.is_none_or(|version| foreign_to(launcher, version).is_none());
            Choice { launcher: launcher.to_string(), path, fits }
        };
        let choices = match launcher {
            Launcher::Nobody => vec![first(Launcher::OpenMpi), first(Launcher::Hydra)],
            // They have a job master of their own, and MPI is not asked.
            Launcher::Aeolian | Launcher::Slurm => {
                vec![Choice { launcher: launcher.to_string(), path: None, fits: true }]
            }
            other => vec![first(other)],
        };
        let pmix = crate::pmi::pmix::version();
        Mpi { setting, candidates, choices, pmix_missing: pmix.as_ref().err().cloned(), pmix: pmix.ok() }
    }

    /// The candidate that our launcher's ranks would use.
    fn chosen(&self) -> Option<&Candidate> {
        let [Choice { path: Some(path), .. }] = self.choices.as_slice() else { return None };
        self.candidates.iter().find(|c| c.path == *path)
    }

    /// What is wrong with it.
    pub(super) fn warnings(&self, launch: Option<&Launch>) -> Vec<Warning> {
        let mut all = Vec::new();
        let launcher = launch.map_or(Launcher::Nobody, |l| l.launcher);
        for candidate in &self.candidates {
            let forced = self.setting.is_some();
            match &candidate.outcome {
                Outcome::Refused { reason } => {
                    let help = if forced {
                        "name another library in AEOLIAN_MPI, or unset it".to_owned()
                    } else if reason.contains("load the module") {
                        "load the module of that MPI, or delete the file if that MPI is not used any more"
                            .into()
                    } else {
                        "build it again with: aeolian mpi build --mpicc MPICC (or delete the file)".into()
                    };
                    all.push(Warning::new("MPI", format!("{}: {reason}", candidate.path), help));
                }
                Outcome::Missing if forced => all.push(Warning::new(
                    "MPI",
                    format!("AEOLIAN_MPI names {}, which is not there", candidate.path),
                    "correct AEOLIAN_MPI, or unset it",
                )),
                _ => {}
            }
        }
        let by_mpi = matches!(
            launcher,
            Launcher::OpenMpi | Launcher::Hydra | Launcher::SlurmPmix | Launcher::SlurmPmi2 | Launcher::Pmix
        );
        let off = matches!(self.setting.as_deref(), Some("none" | "off"));
        let pmix_only = matches!(launcher, Launcher::OpenMpi | Launcher::SlurmPmix | Launcher::Pmix);
        match self.chosen().map(|c| &c.outcome) {
            Some(Outcome::Works(loaded)) => {
                if let Some(wants) = foreign_to(launcher, &loaded.version) {
                    all.push(Warning::new(
                        "MPI",
                        format!(
                            "{launcher} started this, but the only MPI that can be loaded is {}, which takes each \
                             of its ranks for a world of one: programs end with an error (CONFIG)",
                            loaded.short_version()
                        ),
                        format!(
                            "aeolian mpi build --mpicc mpicc.{wants} (the mpicc beside the launcher), or \
                             AEOLIAN_MPI=none"
                        ),
                    ));
                }
            }
            None if by_mpi && pmix_only && self.pmix.is_none() => all.push(Warning::new(
                "MPI",
                format!(
                    "{launcher} started this, but neither an MPI nor the PMIx library can be loaded: the ranks \
                     cannot meet"
                ),
                format!(
                    "aeolian mpi build, or install {} (or give its path in AEOLIAN_PMIX)",
                    crate::pmi::pmix::LIBRARY
                ),
            )),
            None if by_mpi && !off => all.push(Warning::new(
                "MPI",
                format!("{launcher} started this, but no MPI can be loaded: Aeolian's own wires will be used"),
                "to use the site's MPI between nodes: aeolian mpi build; if own wires are wanted: AEOLIAN_MPI=none",
            )),
            _ => {}
        }
        all
    }
}

/// Whose MPI it would take, if one of this version does not know the launcher.
fn foreign_to(launcher: Launcher, version: &str) -> Option<&'static str> {
    let open = version.starts_with("Open MPI");
    match launcher {
        Launcher::OpenMpi | Launcher::SlurmPmix if !open => Some("openmpi"),
        Launcher::Hydra | Launcher::SlurmPmi2 if open => Some("mpich"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with the shims of `there`, of which `works` can be loaded.
    fn mpi(
        launcher: Launcher,
        there: &[&str],
        works: &[(&str, &str)],
        forced: Option<&str>,
    ) -> (Mpi, Launch) {
        let dir = tempfile::tempdir().unwrap();
        for name in there {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let places =
            Places { forced: forced.map(Into::into), beside: Some(dir.path().into()), ..Places::default() };
        let probe = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match works.iter().find(|w| w.0 == name) {
                Some((_, version)) => Ok(Loaded { flavor: "x".into(), version: version.to_string() }),
                None if name == "libmpi_abi.so.1" => {
                    Err("the dynamic linker does not find libmpi_abi.so.1".into())
                }
                None => Err("it is damaged".into()),
            }
        };
        let launch = Launch { launcher, rank: 0, size: 2, local_size: Some(2) };
        (Mpi::gather(Some(&launch), &places, &probe, false), launch)
    }

    const OPEN: (&str, &str) = ("libaeolian-mpi-openmpi.so", "Open MPI v4.1.4");
    const MPICH: (&str, &str) = ("libaeolian-mpi-mpich.so", "MPICH 4.0.2");

    #[test]
    fn each_launcher_gets_its_own() {
        let (found, launch) = mpi(Launcher::Nobody, &[OPEN.0, MPICH.0], &[OPEN, MPICH], None);
        let paths: Vec<_> = found.choices.iter().map(|c| c.path.as_deref().unwrap()).collect();
        assert!(paths[0].ends_with(OPEN.0) && paths[1].ends_with(MPICH.0), "{paths:?}");
        assert_eq!(found.warnings(Some(&launch)), []);
        let (found, launch) = mpi(Launcher::Hydra, &[OPEN.0, MPICH.0], &[OPEN, MPICH], None);
        assert!(found.choices[0].path.as_ref().unwrap().ends_with(MPICH.0));
        assert_eq!(found.warnings(Some(&launch)), []);
        let (found, _) = mpi(Launcher::Aeolian, &[OPEN.0], &[OPEN], None);
        assert_eq!(found.choices[0].path, None);
        // Only one for either: it is found, and does not fit one of them.
        let (found, _) = mpi(Launcher::Nobody, &[OPEN.0], &[OPEN], None);
        assert_eq!(found.choices.iter().map(|c| c.fits).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_is_wrong_is_said_with_help() {
        let says = |launcher, there: &[&str], works: &[(&str, &str)], forced| {
            let (found, launch) = mpi(launcher, there, works, forced);
            let all = found.warnings(Some(&launch));
            assert!(all.iter().all(|w| !w.help.is_empty()));
            all.into_iter().map(|w| w.problem).collect::<Vec<_>>().join("; ")
        };
        assert!(says(Launcher::Nobody, &[OPEN.0], &[], None).contains("it is damaged"));
        assert_eq!(says(Launcher::Nobody, &[], &[], None), "", "nobody needs an MPI there");
        assert!(says(Launcher::OpenMpi, &[MPICH.0], &[MPICH], None).contains("a world of one"));
        assert!(says(Launcher::Hydra, &[], &[], None).contains("own wires"));
        assert_eq!(says(Launcher::Hydra, &[], &[], Some("none")), "");
        assert!(says(Launcher::Nobody, &[], &[], Some("/gone/lib.so")).contains("not there"));
    }
}
