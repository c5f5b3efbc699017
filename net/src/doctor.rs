//! What a job would find on this node: `aeolian doctor`.
//!
//! [`Report::gather`] looks at everything and never fails: what cannot be found out is a warning, and every warning says
//! what to do. [`render_text`] writes it for people, `serde` for programs.
//!
//! ```
//! use aeolian_net::doctor::{Report, render_text};
//! let report = Report::gather(Some(2));
//! assert!(render_text(&report).lines().all(|line| line.chars().count() <= 80));
//! let json = serde_json::to_string(&report).unwrap();
//! assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
//! ```

mod mpi;
mod page;
mod text;

pub use mpi::{Candidate, Choice, Loaded, Mpi, Outcome, Probe, load};
pub use text::render_text;

use crate::interfaces::{Interface, Reachable, interfaces, reachable};
use crate::launcher::{Launch, Launcher};
use crate::limits::{self, Limit};
use crate::memory::Budget;
use crate::mpi::find::Places;
use crate::node::{NodeId, host_name};
use crate::scratch::{self, Scratch};
use crate::topology::{BindPolicy, CpuSet, Topology, plan};
use crate::verdict::Verdict;
use crate::{NetError, bytes::Bytes};
use std::collections::BTreeMap;
use std::time::Duration;

/// File systems and name servers that do not answer within this time are reported instead of waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// A rank with less memory than this is worth a word.
const LITTLE_MEMORY: u64 = 256 << 20;

/// Something that may go wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Warning {
    /// What it is about: `limits`, `scratch`, ...
    pub about: String,
    /// What is wrong, as a phrase.
    pub problem: String,
    /// What to do, as an instruction; never empty.
    pub help: String,
}

impl Warning {
    fn new(about: &str, problem: impl Into<String>, help: impl Into<String>) -> Warning {
        Warning { about: about.into(), problem: problem.into(), help: help.into() }
    }

    fn of_error(about: &str, error: NetError) -> Warning {
        match error {
            NetError::Config { what, help } => Warning::new(about, what, help),
            other => Warning::new(about, other.to_string(), "ask the administrator of this node"),
        }
    }
}

/// How many ranks the report is about.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ranks {
    /// Ranks on this node; at least 1.
    pub here: usize,
    /// Ranks of the whole job, as far as is known.
    pub total: usize,
    /// Who said so, as a phrase.
    pub source: String,
}

impl Ranks {
    /// As asked for, else as the launcher says, else one for each core.
    fn find(asked: Option<usize>, launch: Option<&Launch>, cores: usize) -> Ranks {
        let launched = launch.filter(|l| l.launcher != Launcher::Nobody && l.size > 0);
        let total = launched.map_or(0, |l| l.size as usize);
        let (here, source) = match (asked, launched.map(|l| (l.local_size, l.size))) {
            (Some(asked), _) => (asked, "as asked with --ranks"),
            (None, Some((Some(local), _))) => (local as usize, "as the launcher says"),
            (None, Some((None, size))) => (size as usize, "all of the job; fewer if it has several nodes"),
            (None, None) => (cores, "one for each core; --ranks N for others"),
        };
        let here = here.max(1);
        Ranks { here, total: total.max(here), source: source.into() }
    }
}

/// Everything the doctor finds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Version of Aeolian.
    pub version: String,
    /// Host name.
    pub host: String,
    /// Kernel and machine: `Linux 6.1.0, x86_64`.
    pub system: String,
    /// Which ranks count as ranks of this node: those with the same id.
    pub node: NodeId,
    /// What the launcher said; `None` if it contradicts itself.
    pub launch: Option<Launch>,
    /// For how many ranks the rest is judged.
    pub ranks: Ranks,
    /// The settings in force: variables `AEOLIAN_*`, without those by which `aeolian run` tells a rank who it is.
    pub settings: BTreeMap<String, String>,
    /// Slurm's variables of this job, if this is one.
    pub slurm: BTreeMap<String, String>,
    /// MPI and PMIx.
    pub mpi: Mpi,
    /// Processors.
    pub topology: Topology,
    /// The CPUs of each rank with `aeolian run --bind core`; empty where a launcher has bound this process already.
    pub binding: Vec<CpuSet>,
    /// Memory of a rank; `None` if a setting makes no sense.
    pub memory: Option<Budget>,
    /// Limits of the system.
    pub limits: Vec<Limit>,
    /// Directories for temporary files.
    pub scratch: Vec<Scratch>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// The address that other hosts would use; `None` if there is none.
    pub reachable: Option<Reachable>,
    /// What may go wrong.
    pub warnings: Vec<Warning>,
}

impl Report {
    /// Looks at this node for `ranks` ranks on it (`None`: as many as the launcher says, else one for each core).
    ///
    /// MPIs are loaded into this process, not initialised, until one works. A program that can start itself uses
    /// [`Report::gather_with`].
    pub fn gather(ranks: Option<usize>) -> Report {
        Report::look(ranks, &load, true)
    }

    /// The same, where `probe` tries each MPI in a process of its own: then all of them are tried.
    pub fn gather_with(ranks: Option<usize>, probe: Probe<'_>) -> Report {
        Report::look(ranks, probe, false)
    }

    fn look(ranks: Option<usize>, probe: Probe<'_>, one: bool) -> Report {
        let mut warnings = Vec::new();
        let launch = Launch::detect().map_err(|e| warnings.push(Warning::of_error("launcher", e))).ok();
        let topology = Topology::detect();
        let cores = topology.allowed_cores();
        let launched_here = Ranks::find(None, launch.as_ref(), cores).here;
        let ranks = Ranks::find(ranks, launch.as_ref(), cores);

        let mpi = Mpi::gather(launch.as_ref(), &Places::from_env(), probe, one);
        warnings.extend(mpi.warnings(launch.as_ref()));

        let alone = launch.as_ref().is_none_or(|l| l.launcher == Launcher::Nobody);
        let binding = if alone { plan(&topology, ranks.here, BindPolicy::Core) } else { Vec::new() };
        if alone && ranks.here > cores {
            warnings.push(Warning::new(
                "cores",
                format!("{} ranks would share {}", ranks.here, count(cores, "core")),
                "use fewer ranks, or more hosts (aeolian run --host a:4,b:4)",
            ));
        }

        let memory =
            Budget::detect(ranks.here).map_err(|e| warnings.push(Warning::of_error("memory", e))).ok();
        warnings.extend(memory.as_ref().and_then(little_memory));

        let raw = limits::read();
        let limits = limits::judge(&raw, ranks.here, ranks.total);
        warnings.extend(limits.iter().filter_map(|l| of_verdict("limits", &l.verdict)));

        let scratch = look_at_scratch();
        warnings.extend(scratch_warnings(&scratch));

        let mut unlisted = |e| warnings.push(Warning::of_error("network", e));
        let interfaces = interfaces().map_err(&mut unlisted).unwrap_or_default();
        let several_nodes = launch
            .as_ref()
            .is_some_and(|l| l.launcher != Launcher::Nobody && launched_here < l.size as usize);
        let reachable = match within(PATIENCE, reachable) {
            Some(Ok(found)) => Some(found),
            // No network is no problem for a job on one node; a wrong setting is.
            Some(Err(e)) => {
                if several_nodes || std::env::var_os("AEOLIAN_INTERFACE").is_some_and(|v| !v.is_empty()) {
                    warnings.push(Warning::of_error("network", e));
                }
                None
            }
            None => {
                warnings.push(Warning::new(
                    "network",
                    format!("the host's own name is not resolved within {} s", PATIENCE.as_secs()),
                    "put the host into /etc/hosts, or name the interface with AEOLIAN_INTERFACE",
                ));
                None
            }
        };

        let system = rustix::system::uname();
        Report {
            version: env!("CARGO_PKG_VERSION").into(),
            host: host_name(),
            system: format!(
                "{} {}, {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy(),
                system.machine().to_string_lossy()
            ),
            node: NodeId::of_this_process(),
            launch,
            ranks,
            settings: variables(|name| name.starts_with("AEOLIAN_") && !OF_RUN.contains(&name)),
            slurm: variables(|name| SLURM.contains(&name)),
            mpi,
            topology,
            binding,
            memory,
            limits,
            scratch,
            interfaces,
            reachable,
            warnings,
        }
    }
}

/// What `aeolian run` tells each rank: no settings.
const OF_RUN: &[&str] =
    &["AEOLIAN_EPOCH", "AEOLIAN_JOB", "AEOLIAN_MASTER", "AEOLIAN_RANK", "AEOLIAN_SECRET_FD", "AEOLIAN_SIZE"];

/// What of Slurm's environment says something about a job. (Not all of it: there may be a token in it.)
const SLURM: &[&str] = &[
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_ON_NODE",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_END_TIME",
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NUM_NODES",
    "SLURM_JOB_PARTITION",
    "SLURM_MEM_PER_CPU",
    "SLURM_MEM_PER_NODE",
    "SLURM_MPI_TYPE",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "SLURM_STEP_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE",
];

fn variables(wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    std::env::vars_os().filter_map(text).filter(|(name, _)| wanted(name)).collect()
}

fn of_verdict(about: &str, verdict: &Verdict) -> Option<Warning> {
    match verdict {
        Verdict::Ok => None,
        Verdict::Warn { problem, help } => Some(Warning::new(about, problem, help)),
    }
}

fn little_memory(budget: &Budget) -> Option<Warning> {
    (budget.bytes < LITTLE_MEMORY).then(|| {
        Warning::new(
            "memory",
            format!("a rank may use only {}: {}", Bytes(budget.bytes), budget.source),
            "use fewer ranks on the node, or ask for more memory (sbatch --mem, container limit, ulimit -v)",
        )
    })
}

/// All directories at once, each with the same patience.
fn look_at_scratch() -> Vec<Scratch> {
    let started: Vec<_> = scratch::directories(|name| std::env::var_os(name))
        .into_iter()
        .map(|(source, path)| {
            let (s, p) = (source.clone(), path.clone());
            (start(move || scratch::look(&s, &p)), source, path)
        })
        .collect();
    let until = std::time::Instant::now() + PATIENCE;
    let answer = |(waiting, source, path): (Waiting<Scratch>, String, std::path::PathBuf)| {
        let left = until.saturating_duration_since(std::time::Instant::now());
        waiting
            .and_then(|w| w.recv_timeout(left).ok())
            .unwrap_or_else(|| scratch::silent(&source, &path, PATIENCE.as_secs()))
    };
    started.into_iter().map(answer).collect()
}

/// Those that somebody named, and if there is no good one at all, that.
fn scratch_warnings(all: &[Scratch]) -> Vec<Warning> {
    let named = all.iter().filter(|s| s.source != "default");
    let mut warnings: Vec<_> = named.filter_map(|s| of_verdict("scratch", &s.verdict)).collect();
    if warnings.is_empty() && !all.iter().any(|s| s.verdict.is_ok()) {
        warnings.extend(all.iter().filter_map(|s| of_verdict("scratch", &s.verdict)));
    }
    warnings
}

/// An answer on its way; `None` if nobody could be sent for it.
type Waiting<T> = Option<std::sync::mpsc::Receiver<T>>;

/// Runs `f` in a thread that nobody waits for: it may hang in the kernel.
fn start<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Waiting<T> {
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("doctor".into());
    thread.spawn(move || drop(send.send(f()))).ok().map(|_| receive)
}

fn within<T: Send + 'static>(limit: Duration, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    start(f)?.recv_timeout(limit).ok()
}

/// `1 core`, `2 cores`.
fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests;
