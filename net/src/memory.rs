//! The memory budget of a rank: how much it may use before operators spill.
//!
//! The smallest of everything that limits memory here. What limits the node's ranks together (physical memory, cgroup,
//! Slurm, `AEOLIAN_MEMORY`) is divided by the number of ranks on the node; what the system limits per process
//! (`ulimit -v`, `ulimit -d`) is not. The budget is an upper bound: code, stacks, MPI and the page cache need some too.

use crate::NetError;
use crate::bytes::{self, Bytes};
use aeolian_slurm::SlurmEnv;
use rustix::process::{Resource, getrlimit};
use std::path::Path;

/// The memory that one rank may use, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Budget {
    /// Bytes per rank.
    pub bytes: u64,
    /// The limit that decided: `physical memory (23.5 GiB / 4 ranks)`.
    pub source: String,
    /// Every limit that was found, as (source, bytes per rank), smallest first. Never empty.
    pub candidates: Vec<(String, u64)>,
}

impl Budget {
    /// The budget of a rank on this node, where `ranks_on_node` ranks run (0 counts as 1).
    ///
    /// # Errors
    /// [`NetError::Config`] if `AEOLIAN_MEMORY` is not a size or is zero.
    ///
    /// ```
    /// let budget = aeolian_net::memory::Budget::detect(2)?;
    /// assert!(budget.bytes > 0 && !budget.source.is_empty());
    /// # Ok::<(), aeolian_net::NetError>(())
    /// ```
    pub fn detect(ranks_on_node: usize) -> Result<Budget, NetError> {
        Budget::from_parts(Path::new("/"), &|name| std::env::var(name).ok(), process_limits(), ranks_on_node)
    }

    /// The same from given parts: the root of `/proc` and `/sys`, the environment, and the per-process limits.
    pub(crate) fn from_parts(
        root: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        per_process: Vec<(String, u64)>,
        ranks_on_node: usize,
    ) -> Result<Budget, NetError> {
        let ranks = ranks_on_node.max(1) as u64;
        let mut of_node: Vec<(String, u64)> = crate::cgroup::memory_limits(root);
        of_node.extend(slurm(env, ranks));
        if let Some(physical) = physical(root) {
            of_node.push(("physical memory".into(), physical));
        }
        if let Some(text) = env("AEOLIAN_MEMORY") {
            let bad = |why: String| NetError::Config {
                what: format!("AEOLIAN_MEMORY: {why}"),
                help: "set it to the memory that the job may use on each node, like 48GiB, or unset it"
                    .into(),
            };
            match bytes::parse(&text) {
                Ok(0) => return Err(bad("no rank can work with 0 bytes".into())),
                Ok(configured) => of_node.push(("AEOLIAN_MEMORY".into(), configured)),
                Err(why) => return Err(bad(why.to_string())),
            }
        }
        let mut candidates: Vec<(String, u64)> = of_node
            .into_iter()
            .map(|(source, all)| {
                let by = if ranks == 1 { String::new() } else { format!(" / {ranks} ranks") };
                (format!("{source} ({}{by})", Bytes(all)), all / ranks)
            })
            .chain(per_process)
            .collect();
        if candidates.is_empty() {
            // A system that tells nothing at all: small enough to work anywhere, and the source says what happened.
            candidates.push((
                "a guess, since the system names no limit: set AEOLIAN_MEMORY".into(),
                (1 << 30) / ranks,
            ));
        }
        candidates.sort_by_key(|c| c.1); // stable: of equal ones the first found is named
        let (source, bytes) = candidates[0].clone();
        Ok(Budget { bytes, source, candidates })
    }
}

/// What Slurm granted the job on this node. Asked for one by one: what is wrong in Slurm's other variables stops tasks at
/// their start, but does not lift a limit of those that somebody else has started.
fn slurm(env: &dyn Fn(&str) -> Option<String>, ranks: u64) -> Vec<(String, u64)> {
    let job =
        |wanted: &[&str]| SlurmEnv::from_lookup(|name| wanted.contains(&name).then(|| env(name))?).ok()?;
    let node =
        || Some(("Slurm's SLURM_MEM_PER_NODE".into(), job(&[JOB, "SLURM_MEM_PER_NODE"])?.mem_per_node?));
    let cpus = || {
        let per_cpu = job(&[JOB, "SLURM_MEM_PER_CPU"])?.mem_per_cpu?;
        let cpus = job(&[JOB, "SLURM_CPUS_ON_NODE"]).and_then(|job| job.cpus_on_node).map(u64::from);
        let cpus = cpus.unwrap_or_else(|| {
            let of_task = job(&[JOB, "SLURM_CPUS_PER_TASK"]).and_then(|job| job.cpus_per_task);
            u64::from(of_task.unwrap_or(1)).saturating_mul(ranks)
        });
        Some((format!("Slurm's SLURM_MEM_PER_CPU x {cpus} CPUs"), per_cpu.checked_mul(cpus)?))
    };
    node().into_iter().chain(cpus()).collect()
}

const JOB: &str = "SLURM_JOB_ID";

/// `MemTotal` in bytes.
fn physical(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    bytes::parse(total).ok().filter(|&b| b > 0)
}

/// `ulimit -v` and `ulimit -d`, where set.
fn process_limits() -> Vec<(String, u64)> {
    [(Resource::As, "RLIMIT_AS (ulimit -v)"), (Resource::Data, "RLIMIT_DATA (ulimit -d)")]
        .into_iter()
        .filter_map(|(resource, name)| Some((name.to_owned(), getrlimit(resource).current?)))
        .collect()
}

/// The most memory that this process has had resident so far, in bytes (`VmHWM`); `None` if the system does not say.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    bytes::parse(status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(env: &[(&str, &str)], per_process: &[(&str, u64)], ranks: usize) -> Result<Budget, NetError> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/meminfo"), "MemTotal:       16777216 kB\n").unwrap();
        let env = |name: &str| env.iter().find(|e| e.0 == name).map(|e| e.1.to_owned());
        let per_process = per_process.iter().map(|&(n, b)| (n.to_owned(), b)).collect();
        Budget::from_parts(root.path(), &env, per_process, ranks)
    }

    #[test]
    fn smallest_wins_and_only_shared_limits_are_divided() {
        let b = budget(&[], &[], 4).unwrap();
        assert_eq!((b.bytes, b.source.as_str()), (4 << 30, "physical memory (16 GiB / 4 ranks)"));
        let b = budget(&[("SLURM_JOB_ID", "7"), ("SLURM_MEM_PER_NODE", "8192")], &[], 2).unwrap();
        assert_eq!((b.bytes, b.candidates.len()), (4 << 30, 2));
        let job = [("SLURM_JOB_ID", "7"), ("SLURM_MEM_PER_CPU", "1024"), ("SLURM_CPUS_ON_NODE", "6")];
        let b = budget(&job, &[], 3).unwrap();
        assert_eq!(
            (b.bytes, b.source.as_str()),
            (2 << 30, "Slurm's SLURM_MEM_PER_CPU x 6 CPUs (6 GiB / 3 ranks)")
        );
        let b = budget(&[("AEOLIAN_MEMORY", "1.5GiB")], &[("RLIMIT_AS", 1 << 30)], 1).unwrap();
        assert_eq!((b.bytes, b.source.as_str()), (1 << 30, "RLIMIT_AS"));
        assert!(b.candidates.is_sorted_by_key(|c| c.1));
        assert_eq!(
            budget(&[("SLURM_JOB_ID", "7"), ("SLURM_MEM_PER_NODE", "0")], &[], 0).unwrap().bytes,
            16 << 30
        );
    }

    #[test]
    fn a_bad_setting_is_named() {
        for bad in ["0", "lots", "-4G"] {
            let error = budget(&[("AEOLIAN_MEMORY", bad)], &[], 1).unwrap_err();
            assert!(error.to_string().contains("AEOLIAN_MEMORY"), "{error}");
            assert_eq!(error.exit_code(), crate::exit::CONFIG);
        }
    }

    #[test]
    fn peak_follows_what_is_touched() {
        let before = peak_rss_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_rss_bytes().unwrap() >= before.max(block.len() as u64));
    }
}
