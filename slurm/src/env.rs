//! What Slurm says in the environment of a process.
//!
//! Two kinds of processes see `SLURM_` variables: the tasks of a *step* (started by `srun`), and the batch script or
//! `salloc` shell of an *allocation*, with all that they start by themselves. The second kind has `SLURM_PROCID=0` and
//! `SLURM_NTASKS=4` as well, but nobody has started the other three: only [`SlurmEnv::step`] says that there are peers.
//! (`mpirun` inside an allocation starts its daemons by `srun`, and ranks inherit the daemons' variables: so look for
//! an MPI launcher first.)

use std::collections::HashMap;

use crate::error::{SlurmError, shorten};
use crate::layout::{Distribution, tasks_per_node};
use crate::{WallTime, hostlist};

/// A Slurm job as one of its processes sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlurmEnv {
    /// `SLURM_CLUSTER_NAME`, if said.
    pub cluster: Option<String>,
    /// `SLURM_JOB_ID`.
    pub job_id: u64,
    /// The step that this process is a task of; `None` in a batch script or an `salloc` shell.
    pub step: Option<Step>,
    /// How often the job was requeued (`SLURM_RESTART_COUNT`; 0 if never).
    pub restart_count: u32,
    /// Names of the allocation's nodes (`SLURM_JOB_NODELIST`), if said.
    pub job_nodes: Option<Vec<String>>,
    /// Cores for each task (`--cpus-per-task`), if the user asked for some.
    pub cpus_per_task: Option<u32>,
    /// Cores of this job on this node.
    pub cpus_on_node: Option<u32>,
    /// Memory for the job on each node, in bytes (`--mem`); Slurm's 0, all of the node, is `None`.
    pub mem_per_node: Option<u64>,
    /// Memory for each core, in bytes (`--mem-per-cpu`); never together with `mem_per_node`.
    pub mem_per_cpu: Option<u64>,
    /// The UNIX time at which the job will be stopped (`SLURM_JOB_END_TIME`: Slurm 22.05 does not say it).
    pub end_time: Option<u64>,
    /// The array that this job is an element of.
    pub array: Option<ArrayJob>,
    /// The heterogeneous job (`srun ... : ...`) that this is a part of.
    pub het: Option<HetJob>,
}

/// The `srun` that started this process, and this process's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `SLURM_STEP_ID`: numbers from 0 within the job.
    pub id: u64,
    /// `SLURM_PROCID`: this process's rank.
    pub rank: u32,
    /// Number of ranks.
    pub size: u32,
    /// `SLURM_LOCALID`: rank among those on this node.
    pub local_rank: u32,
    /// `SLURM_NODEID`: this node's place in `nodes`.
    pub node: u32,
    /// Names of the step's nodes.
    pub nodes: Vec<String>,
    /// Number of ranks on each of `nodes`.
    pub tasks_per_node: Vec<u32>,
    /// `SLURM_GTIDS`: all ranks on this node, ascending, if said.
    pub ranks_here: Option<Vec<u32>>,
    /// How ranks were dealt to nodes, if said and known.
    pub distribution: Option<Distribution>,
    /// Address of the node where `srun` runs.
    pub launch_address: Option<std::net::IpAddr>,
    /// Which plugin serves MPI (`srun --mpi=...`).
    pub mpi: MpiPlugin,
}

/// How a step's tasks can find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MpiPlugin {
    /// PMIx: Open MPI.
    Pmix,
    /// PMI-2 over the inherited descriptor `PMI_FD`: MPICH and its kin.
    Pmi2,
    /// Nothing but the environment.
    None,
}

/// A job array's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayJob {
    /// `SLURM_ARRAY_JOB_ID`: the job id of the array.
    pub job_id: u64,
    /// `SLURM_ARRAY_TASK_ID`: the index of this element.
    pub task_id: u32,
}

/// A heterogeneous job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HetJob {
    /// `SLURM_HET_SIZE`: number of components.
    pub size: u32,
}

impl SlurmEnv {
    /// From this process's environment; `None` outside Slurm.
    ///
    /// # Errors
    /// If a variable is malformed, missing, or contradicts another.
    pub fn from_env() -> Result<Option<Self>, SlurmError> {
        // Variables that are not UTF-8 are none of Slurm's.
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Whether `srun` has started this process as a task of a step, as far as can be told without reading everything.
    pub fn is_task(env: impl Fn(&str) -> Option<String>) -> bool {
        let step = env("SLURM_STEP_ID").or_else(|| env("SLURM_STEPID"));
        // What is no number was meant to be one.
        let step = step.is_some_and(|id| id.trim().parse().map_or(true, |id: u64| id < FIRST_OWN_STEP));
        step && env("SLURM_PROCID").is_some()
    }

    /// The same by asking for one variable after the other.
    ///
    /// # Errors
    /// As [`SlurmEnv::from_env`].
    pub fn from_lookup(env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SlurmError> {
        Self::from_pairs(VARIABLES.iter().filter_map(|name| Some((*name, env(name)?))))
    }

    /// The same from any pairs of name and value.
    ///
    /// # Errors
    /// As [`SlurmEnv::from_env`].
    pub fn from_pairs<I, K, V>(pairs: I) -> Result<Option<Self>, SlurmError>
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<String>,
    {
        let relevant = |(k, v): (K, V)| {
            let (k, v) = (k.into(), v.into());
            (k.starts_with("SLURM") || k.starts_with("PMI")).then_some((k, v))
        };
        Vars(pairs.into_iter().filter_map(relevant).collect()).job()
    }

    /// Time left of the job, where Slurm says when it ends.
    pub fn wall_time(&self) -> Option<WallTime> {
        self.end_time.map(WallTime::ending_at)
    }

    /// Memory that the job may use on this node, in bytes, where it has a limit.
    pub fn memory_on_node(&self) -> Option<u64> {
        self.mem_per_node.or_else(|| self.mem_per_cpu?.checked_mul(u64::from(self.cpus_on_node?)))
    }
}

impl Step {
    /// Name of this process's node.
    pub fn node_name(&self) -> &str {
        // Checked when this was made; never out of range.
        self.nodes.get(self.node as usize).map_or("", String::as_str)
    }

    /// Number of ranks on this node.
    pub fn local_size(&self) -> u32 {
        self.tasks_per_node.get(self.node as usize).copied().unwrap_or(1)
    }

    /// The node of each rank, as an index into `nodes`: from the distribution that Slurm names, or where this node's
    /// ranks leave only one possibility. `None` if they do not (and then this rank must ask the others).
    pub fn rank_nodes(&self) -> Option<Vec<u32>> {
        let fits = |map: &Vec<u32>| match &self.ranks_here {
            Some(here) => {
                let mine = (0u32..).zip(map).filter(|(_, node)| **node == self.node).map(|(rank, _)| rank);
                mine.eq(here.iter().copied())
            }
            None => map.get(self.rank as usize) == Some(&self.node),
        };
        if let Some(d) = self.distribution {
            return Some(d.nodes(&self.tasks_per_node)).filter(fits);
        }
        let sure = self.nodes.len() == 1 || self.tasks_per_node.iter().all(|&n| n <= 1);
        sure.then(|| Distribution::Block.nodes(&self.tasks_per_node)).filter(fits)
    }
}

/// A batch script's own shell, and an interactive one, are steps with numbers from here on: nobody has started peers.
const FIRST_OWN_STEP: u64 = 0xffff_fff0;

/// All that is read here.
const VARIABLES: &[&str] = &[
    "PMIX_NAMESPACE",
    "PMI_FD",
    "PMI_RANK",
    "PMI_SIZE",
    "SLURMD_NODENAME",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_ON_NODE",
    "SLURM_CPUS_PER_TASK",
    "SLURM_DISTRIBUTION",
    "SLURM_DIST_PLANESIZE",
    "SLURM_GTIDS",
    "SLURM_HET_SIZE",
    "SLURM_JOBID",
    "SLURM_JOB_END_TIME",
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_LAUNCH_NODE_IPADDR",
    "SLURM_LOCALID",
    "SLURM_MEM_PER_CPU",
    "SLURM_MEM_PER_NODE",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "SLURM_STEPID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_NUM_NODES",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_TASKS_PER_NODE",
];

/// The variables that matter here.
struct Vars(HashMap<String, String>);

impl Vars {
    /// Slurm writes `(null)` for some that it does not know.
    fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(VARIABLES.contains(&name), "{name} is missing in VARIABLES");
        self.0.get(name).map(|v| v.trim()).filter(|v| !v.is_empty() && *v != "(null)")
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, SlurmError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        parsed.map(Some).ok_or_else(|| self.malformed(name, "a number"))
    }

    fn malformed(&self, name: &str, expected: &'static str) -> SlurmError {
        let value = shorten(self.0.get(name).map_or("", String::as_str));
        SlurmError::Malformed { name: name.to_owned(), value, expected }
    }

    /// The first that is set; two spellings of one thing must agree.
    fn either<T>(&self, name: &'static str, other: &'static str) -> Result<Option<T>, SlurmError>
    where
        T: std::str::FromStr + PartialEq + std::fmt::Display,
    {
        match (self.number::<T>(name)?, self.number::<T>(other)?) {
            (Some(a), Some(b)) if a != b => Err(contradiction(format!("{name}={a}, but {other}={b}"))),
            (a, b) => Ok(a.or(b)),
        }
    }

    fn nodes(&self, name: &str) -> Result<Option<Vec<String>>, SlurmError> {
        self.text(name).map(hostlist::expand).transpose()
    }

    /// Memory in MiB, or with a suffix.
    fn memory(&self, name: &'static str) -> Result<Option<u64>, SlurmError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let (digits, shift) = match text.char_indices().last() {
            Some((i, 'K' | 'k')) => (&text[..i], 10),
            Some((i, 'M' | 'm')) => (&text[..i], 20),
            Some((i, 'G' | 'g')) => (&text[..i], 30),
            Some((i, 'T' | 't')) => (&text[..i], 40),
            _ => (text, 20),
        };
        let parsed = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        let bytes = parsed.and_then(|n| n.checked_mul(1 << shift));
        // 0 means all memory of the node
        bytes.map(|n| Some(n).filter(|&n| n > 0)).ok_or_else(|| self.malformed(name, "memory in MiB"))
    }

    fn job(&self) -> Result<Option<SlurmEnv>, SlurmError> {
        let Some(job_id) = self.either("SLURM_JOB_ID", "SLURM_JOBID")? else {
            return match self.text("SLURM_STEP_ID") {
                Some(_) => Err(SlurmError::Missing { name: "SLURM_JOB_ID", because: "SLURM_STEP_ID" }),
                None => Ok(None),
            };
        };
        let (mem_per_node, mem_per_cpu) =
            (self.memory("SLURM_MEM_PER_NODE")?, self.memory("SLURM_MEM_PER_CPU")?);
        if mem_per_node.is_some() && mem_per_cpu.is_some() {
            return Err(contradiction("SLURM_MEM_PER_NODE and SLURM_MEM_PER_CPU are both set".to_owned()));
        }
        let array = match (self.number("SLURM_ARRAY_JOB_ID")?, self.number("SLURM_ARRAY_TASK_ID")?) {
            (Some(job_id), Some(task_id)) => Some(ArrayJob { job_id, task_id }),
            _ => None,
        };
        Ok(Some(SlurmEnv {
            cluster: self.text("SLURM_CLUSTER_NAME").map(str::to_owned),
            job_id,
            step: self.step()?,
            restart_count: self.number("SLURM_RESTART_COUNT")?.unwrap_or(0),
            job_nodes: self.nodes("SLURM_JOB_NODELIST")?,
            cpus_per_task: self.number("SLURM_CPUS_PER_TASK")?,
            cpus_on_node: self.number("SLURM_CPUS_ON_NODE")?,
            mem_per_node,
            mem_per_cpu,
            end_time: self.number("SLURM_JOB_END_TIME")?,
            array,
            het: self.number("SLURM_HET_SIZE")?.map(|size| HetJob { size }),
        }))
    }

    fn step(&self) -> Result<Option<Step>, SlurmError> {
        let id = self.either::<u64>("SLURM_STEP_ID", "SLURM_STEPID")?.filter(|id| *id < FIRST_OWN_STEP);
        let Some(id) = id else { return Ok(None) };
        let missing = |name| SlurmError::Missing { name, because: "SLURM_STEP_ID" };
        let tasks = "SLURM_STEP_TASKS_PER_NODE";
        let ranks_here = self.text("SLURM_GTIDS").map(|t| self.ranks("SLURM_GTIDS", t)).transpose()?;
        let step = Step {
            id,
            rank: self.number("SLURM_PROCID")?.ok_or_else(|| missing("SLURM_PROCID"))?,
            size: self
                .either("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")?
                .ok_or_else(|| missing("SLURM_NTASKS"))?,
            local_rank: self.number("SLURM_LOCALID")?.ok_or_else(|| missing("SLURM_LOCALID"))?,
            node: self.number("SLURM_NODEID")?.ok_or_else(|| missing("SLURM_NODEID"))?,
            nodes: self.nodes("SLURM_STEP_NODELIST")?.ok_or_else(|| missing("SLURM_STEP_NODELIST"))?,
            tasks_per_node: tasks_per_node(tasks, self.text(tasks).ok_or_else(|| missing(tasks))?)?,
            ranks_here,
            distribution: self
                .text("SLURM_DISTRIBUTION")
                .and_then(|t| Some((t, self.number("SLURM_DIST_PLANESIZE").ok()?)))
                .and_then(|(t, plane)| Distribution::parse(t, plane)),
            launch_address: self
                .text("SLURM_LAUNCH_NODE_IPADDR")
                .map(|t| t.parse().map_err(|_| self.malformed("SLURM_LAUNCH_NODE_IPADDR", "an IP address")))
                .transpose()?,
            mpi: MpiPlugin::None,
        };
        let step = Step { mpi: self.mpi(&step)?, ..step };
        self.check(&step)?;
        Ok(Some(step))
    }

    fn ranks(&self, name: &str, text: &str) -> Result<Vec<u32>, SlurmError> {
        let mut ranks = Vec::new();
        for t in text.split(',') {
            ranks.push(t.parse().map_err(|_| self.malformed(name, "a list of ranks such as 0,1,2"))?);
        }
        ranks.sort_unstable();
        Ok(ranks)
    }

    /// What was handed to us decides, not what srun's user asked for.
    fn mpi(&self, step: &Step) -> Result<MpiPlugin, SlurmError> {
        let pmix = self.text("PMIX_NAMESPACE").is_some_and(|ns| ns.starts_with("slurm.pmix."));
        // Another launcher inside the step may serve PMI, to other ranks.
        let pmi2 = self.text("PMI_FD").is_some()
            && self.number("PMI_RANK")? == Some(step.rank)
            && self.number("PMI_SIZE")?.is_none_or(|size: u32| size == step.size);
        match (pmix, pmi2) {
            (true, true) => Err(contradiction("both PMIX_NAMESPACE and PMI_FD are set".to_owned())),
            (true, false) => Ok(MpiPlugin::Pmix),
            (false, true) => Ok(MpiPlugin::Pmi2),
            (false, false) => Ok(MpiPlugin::None),
        }
    }

    fn check(&self, s: &Step) -> Result<(), SlurmError> {
        let below = |name: &str, n: u32, what: &str, limit: usize| {
            if (n as usize) < limit {
                Ok(())
            } else {
                Err(contradiction(format!("{name}={n}, but there are {limit} {what}")))
            }
        };
        let same = |a: &str, n: usize, b: &str, m: usize| {
            if n == m { Ok(()) } else { Err(contradiction(format!("{a} gives {n}, but {b} gives {m}"))) }
        };
        let nodes = s.nodes.len();
        below("SLURM_PROCID", s.rank, "tasks", s.size as usize)?;
        below("SLURM_NODEID", s.node, "nodes in SLURM_STEP_NODELIST", nodes)?;
        same("SLURM_STEP_TASKS_PER_NODE", s.tasks_per_node.len(), "SLURM_STEP_NODELIST", nodes)?;
        let sum = s.tasks_per_node.iter().map(|&n| n as usize).sum();
        same("SLURM_STEP_TASKS_PER_NODE", sum, "SLURM_STEP_NUM_TASKS", s.size as usize)?;
        if let Some(n) = self.number::<usize>("SLURM_STEP_NUM_NODES")? {
            same("SLURM_STEP_NUM_NODES", n, "SLURM_STEP_NODELIST", nodes)?;
        }
        below("SLURM_LOCALID", s.local_rank, "tasks on this node", s.local_size() as usize)?;
        if let Some(name) = self.text("SLURMD_NODENAME")
            && name != s.node_name()
        {
            let listed = s.node_name();
            return Err(contradiction(format!(
                "SLURMD_NODENAME={name}, but node {} of the step is {listed}",
                s.node
            )));
        }
        if let Some(here) = &s.ranks_here {
            same(
                "SLURM_GTIDS",
                here.len(),
                "SLURM_STEP_TASKS_PER_NODE for this node",
                s.local_size() as usize,
            )?;
            if here.binary_search(&s.rank).is_err() {
                return Err(contradiction(format!("SLURM_PROCID={} is not in SLURM_GTIDS={here:?}", s.rank)));
            }
        }
        Ok(())
    }
}

fn contradiction(what: String) -> SlurmError {
    SlurmError::Contradiction { what }
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
