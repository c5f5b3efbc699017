//! Who started this process, as the environment tells.
//!
//! | launcher | told by | rank, size |
//! |---|---|---|
//! | `aeolian run` | `AEOLIAN_MASTER` | `AEOLIAN_RANK`, `AEOLIAN_SIZE` |
//! | Open MPI `mpirun` | `OMPI_COMM_WORLD_SIZE` | `OMPI_COMM_WORLD_RANK`, `_SIZE` |
//! | MPICH `mpiexec` (Hydra) | `MPI_LOCALNRANKS`, `PMI_SIZE` | `PMI_RANK`, `PMI_SIZE` |
//! | the same with `-pmi-port` | `PMI_PORT` | `PMI_ID`, the size asked of PMI |
//! | another PMIx launcher | `PMIX_RANK`, in no namespace of Slurm's | `PMIX_RANK`, the size asked of PMIx |
//! | `srun --mpi=pmix` | a Slurm step and PMIx of Slurm's | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS` |
//! | `srun --mpi=pmi2` | a Slurm step and `PMI_FD` | same |
//! | `srun` without MPI | a Slurm step | same |
//! | another PMI-1 launcher | `PMI_SIZE` | `PMI_RANK`, `PMI_SIZE` |
//! | nobody | nothing of these | 0 of 1 |
//!
//! In this order: a rank of `mpiexec` inside a Slurm step has that step's variables too.
//!
//! A batch script (`sbatch`) sets `SLURM_JOB_ID` without a step of its own for the shell: a program started there without
//! `srun` runs alone, as one process, which is what happened.

use crate::error::{NetError, Result};
use aeolian_slurm::{MpiPlugin, SlurmEnv, SlurmError};

/// Who started this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launcher {
    /// Nobody: a world of one.
    Nobody,
    /// `aeolian run`.
    Aeolian,
    /// Open MPI's `mpirun`, `mpiexec` or `prterun`.
    OpenMpi,
    /// MPICH's `mpiexec` (Hydra), or another launcher that speaks PMI-1.
    Hydra,
    /// `srun --mpi=pmix`.
    SlurmPmix,
    /// `srun --mpi=pmi2`.
    SlurmPmi2,
    /// `srun` with no MPI plug-in.
    Slurm,
    /// Another launcher with a PMIx server.
    Pmix,
}

impl std::fmt::Display for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Launcher::Nobody => "nobody (one process)",
            Launcher::Aeolian => "aeolian run",
            Launcher::OpenMpi => "Open MPI's mpirun",
            Launcher::Hydra => "MPICH's mpiexec",
            Launcher::SlurmPmix => "srun with PMIx",
            Launcher::SlurmPmi2 => "srun with PMI-2",
            Launcher::Slurm => "srun without MPI",
            Launcher::Pmix => "a PMIx launcher",
        })
    }
}

/// Slurm's variables make no sense.
pub(crate) fn misread(e: SlurmError) -> NetError {
    NetError::Config {
        what: e.to_string(),
        help: "start the program through its launcher, with an environment that nobody edited".into(),
    }
}

/// What the launcher said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Launch {
    /// Who.
    pub launcher: Launcher,
    /// This process's rank, as the launcher says.
    pub rank: u32,
    /// How many ranks it says there are (0 where only its PMI or PMIx service knows).
    pub size: u32,
    /// How many of them are on this node, where it says so.
    pub local_size: Option<u32>,
}

impl Launch {
    /// Reads this process's environment.
    pub fn detect() -> Result<Launch> {
        let is_socket = |fd: &str| {
            use std::os::unix::fs::FileTypeExt;
            std::fs::metadata(format!("/proc/self/fd/{}", fd.trim())).is_ok_and(|m| m.file_type().is_socket())
        };
        Launch::from_parts(|name| std::env::var(name).ok(), is_socket)
    }

    /// True if another source's word on this process's place cannot be: then N lonely jobs would be next.
    pub(crate) fn denies(&self, rank: u32, size: u32) -> bool {
        rank != self.rank
            || (self.size != 0 && size != self.size)
            || self.local_size.is_some_and(|here| here > size)
    }

    /// This process's place, for messages.
    pub(crate) fn place(&self) -> String {
        match (self.size, self.local_size) {
            (0, None) => format!("rank {} of several", self.rank),
            (0, Some(here)) => format!("rank {} of at least {here}", self.rank),
            (size, _) => format!("rank {} of {size}", self.rank),
        }
    }

    /// Reads an environment.
    ///
    /// ```
    /// use aeolian_net::launcher::{Launch, Launcher};
    /// let env = |name: &str| match name {
    ///     "PMI_RANK" => Some("2".to_string()),
    ///     "PMI_SIZE" => Some("4".to_string()),
    ///     _ => None,
    /// };
    /// let launch = Launch::from_env(env)?;
    /// assert_eq!((launch.launcher, launch.rank, launch.size), (Launcher::Hydra, 2, 4));
    /// # Ok::<(), aeolian_net::NetError>(())
    /// ```
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Launch> {
        Launch::from_parts(env, |_| true)
    }

    /// The same, with what tells whether a descriptor is a socket that is open here.
    fn from_parts(env: impl Fn(&str) -> Option<String>, is_socket: impl Fn(&str) -> bool) -> Result<Launch> {
        let number = |name: &str| -> Result<Option<u32>> {
            env(name)
                .map(|v| {
                    v.trim().parse().map_err(|_| NetError::Config {
                        what: format!("the launcher's environment variable {name} is {v:?}, not a number"),
                        help:
                            "start the program through its launcher, with an environment that nobody edited"
                                .into(),
                    })
                })
                .transpose()
        };
        let both = |launcher, rank: &str, size: &str, local: Option<u32>| -> Result<Launch> {
            match (number(rank)?, number(size)?) {
                (Some(rank), Some(size)) if rank < size => {
                    Ok(Launch { launcher, rank, size, local_size: local })
                }
                (r, s) => Err(NetError::Config {
                    what: format!(
                        "{launcher} gives {rank}={} and {size}={}, which is no rank of a world",
                        r.map_or_else(|| "(unset)".into(), |r| r.to_string()),
                        s.map_or_else(|| "(unset)".into(), |s| s.to_string())
                    ),
                    help: "start the program through its launcher, with an environment that nobody edited"
                        .into(),
                }),
            }
        };
        if env("AEOLIAN_MASTER").is_some() {
            return both(Launcher::Aeolian, "AEOLIAN_RANK", "AEOLIAN_SIZE", None);
        }
        if env("OMPI_COMM_WORLD_SIZE").is_some() {
            let local = number("OMPI_COMM_WORLD_LOCAL_SIZE")?;
            return both(Launcher::OpenMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", local);
        }
        // MPI launchers first: inside a Slurm step their ranks inherit the variables of whatever Slurm has started.
        let local = number("MPI_LOCALNRANKS")?;
        if local.is_some() && env("PMI_SIZE").is_some() {
            return both(Launcher::Hydra, "PMI_RANK", "PMI_SIZE", local);
        }
        if env("PMI_PORT").is_some()
            && let Some(rank) = number("PMI_ID")?
        {
            return Ok(Launch { launcher: Launcher::Hydra, rank, size: 0, local_size: local });
        }
        if let Some(rank) = number("PMIX_RANK")?
            && env("PMIX_NAMESPACE").is_none_or(|space| !space.starts_with("slurm.pmix."))
        {
            return Ok(Launch { launcher: Launcher::Pmix, rank, size: 0, local_size: None });
        }
        let slurm = match SlurmEnv::from_lookup(&env) {
            Ok(job) => job,
            Err(e) if SlurmEnv::is_task(&env) => return Err(misread(e)),
            // Nobody has started peers: what is wrong there does not matter for this process alone.
            Err(_) => None,
        };
        if let Some(SlurmEnv { step: Some(step), .. }) = slurm {
            // The variables of PMI pass through `srun` to a step within a step, its descriptor does not.
            let served = env("PMI_FD").is_some_and(|fd| is_socket(&fd));
            let launcher = match step.mpi {
                MpiPlugin::Pmix => Launcher::SlurmPmix,
                MpiPlugin::Pmi2 if served => Launcher::SlurmPmi2,
                // It says something else than the step: another launcher inside the step serves it.
                MpiPlugin::None if served && env("PMI_RANK").is_some() && env("PMI_SIZE").is_some() => {
                    return both(Launcher::Hydra, "PMI_RANK", "PMI_SIZE", None);
                }
                MpiPlugin::Pmi2 | MpiPlugin::None => Launcher::Slurm,
            };
            let local_size = Some(step.local_size());
            return Ok(Launch { launcher, rank: step.rank, size: step.size, local_size });
        }
        if env("PMI_SIZE").is_some() {
            return both(Launcher::Hydra, "PMI_RANK", "PMI_SIZE", None);
        }
        Ok(Launch { launcher: Launcher::Nobody, rank: 0, size: 1, local_size: Some(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Launch> {
        Launch::from_env(|name| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_string()))
    }

    #[test]
    fn each_launcher_by_what_it_sets() {
        let slurm = [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "1"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_NODEID", "0"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_STEP_NODELIST", "n[1-2]"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
        ];
        let with = |more: &[(&'static str, &'static str)]| of(&[&slurm[..], more].concat()).unwrap();
        assert_eq!((with(&[]).launcher, with(&[]).local_size), (Launcher::Slurm, Some(2)));
        let pmix = [("PMIX_RANK", "1"), ("PMIX_NAMESPACE", "slurm.pmix.7.0")];
        assert_eq!(with(&pmix).launcher, Launcher::SlurmPmix);
        let pmi2 = [("PMI_FD", "9"), ("PMI_RANK", "1"), ("PMI_SIZE", "4")];
        assert_eq!(with(&pmi2).launcher, Launcher::SlurmPmi2);
        // MPI launchers inside a Slurm step.
        let ompi = with(&[("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "8"), ("PMIX_RANK", "3")]);
        assert_eq!((ompi.launcher, ompi.rank, ompi.size), (Launcher::OpenMpi, 3, 8));
        let hydra = with(&[("PMI_FD", "9"), ("PMI_RANK", "5"), ("PMI_SIZE", "6"), ("MPI_LOCALNRANKS", "6")]);
        assert_eq!((hydra.launcher, hydra.rank, hydra.size), (Launcher::Hydra, 5, 6));
        let inner = with(&[("PMI_FD", "9"), ("PMI_RANK", "5"), ("PMI_SIZE", "6")]);
        assert_eq!((inner.launcher, inner.rank, inner.size), (Launcher::Hydra, 5, 6));
        // srun --mpi=none in a step that srun --mpi=pmi2 has started: that one's variables, but not its descriptor.
        for (rank, size) in [("0", "1"), ("1", "4")] {
            let outer = [&slurm[..], &[("PMI_FD", "9"), ("PMI_RANK", rank), ("PMI_SIZE", size)]].concat();
            let env = |name: &str| outer.iter().find(|p| p.0 == name).map(|p| p.1.to_string());
            let nested = Launch::from_parts(env, |fd| fd != "9").unwrap();
            assert_eq!((nested.launcher, nested.rank, nested.size), (Launcher::Slurm, 1, 4));
        }
        let prte = with(&[("PMIX_RANK", "2"), ("PMIX_NAMESPACE", "prterun-n1-9@1")]);
        assert_eq!((prte.launcher, prte.rank, prte.size), (Launcher::Pmix, 2, 0));
        let port = of(&[("PMI_PORT", "n1:4711"), ("PMI_ID", "3"), ("MPI_LOCALNRANKS", "4")]).unwrap();
        assert_eq!((port.launcher, port.rank, port.size), (Launcher::Hydra, 3, 0));
        assert!(port.denies(0, 1) && port.denies(3, 3) && !port.denies(3, 4));
        let own = with(&[("AEOLIAN_MASTER", "127.0.0.1:1"), ("AEOLIAN_RANK", "0"), ("AEOLIAN_SIZE", "2")]);
        assert_eq!(own.launcher, Launcher::Aeolian);
        assert_eq!(of(&[]).unwrap().launcher, Launcher::Nobody);
        // A batch script's shell, without srun.
        let batch = of(&[("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]).unwrap();
        assert_eq!((batch.launcher, batch.size), (Launcher::Nobody, 1));
        // What is wrong there is nothing to a process that is alone, but stops a task.
        let both = [("SLURM_MEM_PER_NODE", "1"), ("SLURM_MEM_PER_CPU", "1")];
        assert_eq!(of(&[&both[..], &[("SLURM_JOB_ID", "7")]].concat()).unwrap().launcher, Launcher::Nobody);
        assert_eq!(of(&[("SLURM_STEP_ID", "0")]).unwrap().launcher, Launcher::Nobody);
        assert!(of(&[&slurm[..], &both].concat()).is_err());
    }

    #[test]
    fn nonsense_is_named() {
        for bad in [
            &[("PMI_SIZE", "x"), ("PMI_RANK", "0")][..],
            &[("PMI_SIZE", "2"), ("PMI_RANK", "2")],
            &[("AEOLIAN_MASTER", "a"), ("AEOLIAN_SIZE", "2")],
        ] {
            let err = of(bad).unwrap_err();
            assert_eq!(err.exit_code(), crate::exit::CONFIG);
            assert!(err.to_string().contains(bad.last().unwrap().0.split('_').next().unwrap()), "{err}");
        }
    }
}
