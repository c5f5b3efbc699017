//! Who started this process, as the environment tells.
//!
//! | launcher | told by | rank, size |
//! |---|---|---|
//! | `aeolian run` | `AEOLIAN_MASTER` | `AEOLIAN_RANK`, `AEOLIAN_SIZE` |
//! | Open MPI `mpirun` | `OMPI_COMM_WORLD_SIZE` | `OMPI_COMM_WORLD_RANK`, `_SIZE` |
//! | `srun --mpi=pmix` | a Slurm step and `PMIX_RANK` | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS` |
//! | `srun --mpi=pmi2` | a Slurm step and `PMI_FD` or `PMI2_SRUN_PORT` | same |
//! | `srun` without MPI | a Slurm step | same |
//! | MPICH `mpiexec` (Hydra) | `PMI_SIZE` | `PMI_RANK`, `PMI_SIZE` |
//! | another PMIx launcher | `PMIX_RANK` | asked of PMIx |
//! | nobody | nothing of these | 0 of 1 |
//!
//! A batch script (`sbatch`) sets `SLURM_JOB_ID` without a step of its own for the shell: a program started there without
//! `srun` runs alone, as one process, which is what happened.

use crate::error::{NetError, Result};

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

/// What the launcher said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Launch {
    /// Who.
    pub launcher: Launcher,
    /// This process's rank, as the launcher says (0 where only PMIx knows).
    pub rank: u32,
    /// How many ranks it says there are (0 where only PMIx knows).
    pub size: u32,
    /// How many of them are on this node, where it says so.
    pub local_size: Option<u32>,
}

impl Launch {
    /// Reads this process's environment.
    pub fn detect() -> Result<Launch> {
        Launch::from_env(|name| std::env::var(name).ok())
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
        // The step of a batch script's own shell is "batch": SLURM_STEP_ID is then unset or 4294967291.
        let step = number("SLURM_STEP_ID")?.filter(|&id| id < 0xffff_fff0);
        if step.is_some() && env("SLURM_PROCID").is_some() {
            let size =
                if env("SLURM_STEP_NUM_TASKS").is_some() { "SLURM_STEP_NUM_TASKS" } else { "SLURM_NTASKS" };
            let launcher = if env("PMIX_RANK").is_some() {
                Launcher::SlurmPmix
            } else if env("PMI_FD").is_some() || env("PMI2_SRUN_PORT").is_some() {
                Launcher::SlurmPmi2
            } else {
                Launcher::Slurm
            };
            let one_node =
                env("SLURM_STEP_NUM_NODES").or_else(|| env("SLURM_NNODES")).as_deref() == Some("1");
            let mut launch = both(launcher, "SLURM_PROCID", size, None)?;
            launch.local_size = one_node.then_some(launch.size);
            return Ok(launch);
        }
        if env("PMI_SIZE").is_some() {
            return both(Launcher::Hydra, "PMI_RANK", "PMI_SIZE", number("MPI_LOCALNRANKS")?);
        }
        if env("PMIX_RANK").is_some() {
            return Ok(Launch {
                launcher: Launcher::Pmix,
                rank: number("PMIX_RANK")?.unwrap_or(0),
                size: 0,
                local_size: None,
            });
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
        let slurm = [("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "4")];
        let with = |more: &[(&'static str, &'static str)]| of(&[&slurm[..], more].concat()).unwrap();
        assert_eq!(with(&[]).launcher, Launcher::Slurm);
        assert_eq!(with(&[("PMIX_RANK", "1")]).launcher, Launcher::SlurmPmix);
        assert_eq!(
            with(&[("PMI_FD", "9"), ("PMI_RANK", "1"), ("PMI_SIZE", "4")]).launcher,
            Launcher::SlurmPmi2
        );
        // mpirun inside a Slurm step.
        let ompi = with(&[("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "8"), ("PMIX_RANK", "3")]);
        assert_eq!((ompi.launcher, ompi.rank, ompi.size), (Launcher::OpenMpi, 3, 8));
        let own = with(&[("AEOLIAN_MASTER", "127.0.0.1:1"), ("AEOLIAN_RANK", "0"), ("AEOLIAN_SIZE", "2")]);
        assert_eq!(own.launcher, Launcher::Aeolian);
        assert_eq!(of(&[]).unwrap().launcher, Launcher::Nobody);
        // A batch script's shell, without srun.
        let batch = of(&[("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]).unwrap();
        assert_eq!((batch.launcher, batch.size), (Launcher::Nobody, 1));
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
