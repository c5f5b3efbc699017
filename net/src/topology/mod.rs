//! What the node is made of: packages, NUMA nodes, cores, caches, and which CPUs we may use.
//!
//! [`Topology::detect`] reads `/sys` by default, or asks libhwloc with the cargo feature `hwloc`. Both give the same
//! picture; hwloc also knows platforms whose `/sys` is wrong or missing. Nothing here fails: where the system does not say,
//! the picture gets simpler and [`Topology::notes`] say so.

mod bind;
mod cpuset;
#[cfg(feature = "hwloc")]
mod hwloc;
mod sysfs;

pub use bind::{BindPolicy, bind_self, plan};
pub use cpuset::CpuSet;

use std::path::Path;

/// A processor package (socket).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Package {
    /// The system's number of it.
    pub id: u32,
    /// Its online CPUs.
    pub cpus: CpuSet,
}

/// A NUMA node: CPUs and the memory near to them. A node may have memory but no CPUs (CXL, high-bandwidth memory).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NumaNode {
    /// The system's number of it.
    pub id: u32,
    /// Its online CPUs.
    pub cpus: CpuSet,
    /// Its memory in bytes; 0 if the system does not say.
    pub memory_bytes: u64,
}

/// A core: one or more hardware threads.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Core {
    /// Position in [`Topology::cores`], 0..: ascending by package, NUMA node and first CPU, so that neighbours are near.
    pub id: u32,
    /// Id of its [`Package`].
    pub package: u32,
    /// Id of its [`NumaNode`].
    pub numa: u32,
    /// Its online hardware threads (SMT siblings).
    pub cpus: CpuSet,
}

/// A level-2 or level-3 data cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Cache {
    /// 2 or 3.
    pub level: u8,
    /// The CPUs that share it.
    pub cpus: CpuSet,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The node's processors and memory. Lists hold everything that is online, also what this process may not use: that is
/// [`Topology::allowed`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Topology {
    /// Sockets, ascending by id.
    pub packages: Vec<Package>,
    /// NUMA nodes, ascending by id; at least one.
    pub numa_nodes: Vec<NumaNode>,
    /// Cores, near ones next to each other; at least one.
    pub cores: Vec<Core>,
    /// Level-2 and level-3 caches, by level and CPUs; empty if the system does not say (many ARM machines, some VMs).
    pub caches: Vec<Cache>,
    /// The CPUs that the calling thread may run on (affinity, which includes the cgroup's cpuset); never empty.
    pub allowed: CpuSet,
    /// Who was asked: `/sys` or `hwloc 2.9`.
    pub source: String,
    /// What could not be found out, or limits what is shown: whole sentences for the user.
    pub notes: Vec<String>,
}

impl Topology {
    /// Looks at this node as the calling thread sees it. Never fails; takes about a millisecond per ten CPUs.
    ///
    /// ```
    /// let node = aeolian_net::topology::Topology::detect();
    /// assert!(!node.allowed.is_empty() && node.allowed_cores() >= 1);
    /// ```
    pub fn detect() -> Topology {
        let mut topology = Topology::read();
        // A CPU quota (docker --cpus, Kubernetes limits) does not show in the mask: all CPUs, but not all of the time.
        if let Ok(usable) = std::thread::available_parallelism()
            && usable.get() < topology.allowed.len()
        {
            topology.notes.push(format!(
                "A CPU quota of the cgroup allows about {usable} of the {} CPUs at a time.",
                topology.allowed.len()
            ));
        }
        topology
    }

    #[cfg(feature = "hwloc")]
    fn read() -> Topology {
        hwloc::read(CpuSet::of_this_thread()).unwrap_or_else(|why| {
            let mut topology = Topology::of_sys();
            topology.notes.push(format!("hwloc could not be used ({why}); /sys was read instead."));
            topology
        })
    }

    #[cfg(not(feature = "hwloc"))]
    fn read() -> Topology {
        Topology::of_sys()
    }

    /// What `/sys` alone says, also where hwloc is built in: to compare the two.
    pub fn of_sys() -> Topology {
        sysfs::read(Path::new("/"), CpuSet::of_this_thread())
    }

    /// The number of cores with at least one allowed CPU; at least 1.
    pub fn allowed_cores(&self) -> usize {
        self.cores.iter().filter(|c| !c.cpus.intersection(&self.allowed).is_empty()).count().max(1)
    }

    /// Size in bytes of the largest cache of a level (2 or 3), if known.
    pub fn cache_bytes(&self, level: u8) -> Option<u64> {
        self.caches.iter().filter(|c| c.level == level).map(|c| c.bytes).max()
    }

    /// Puts the parts into the order that is promised, from what is known of each CPU.
    fn assemble(mut cpus: Vec<Cpu>, mut numa_nodes: Vec<NumaNode>, mut caches: Vec<Cache>) -> Topology {
        cpus.sort_by_key(|c| c.cpu);
        numa_nodes.sort_by_key(|n| n.id);
        caches.sort();
        caches.dedup();
        let mut packages: std::collections::BTreeMap<u32, CpuSet> = Default::default();
        let mut cores: Vec<Core> = Vec::new();
        for cpu in &cpus {
            packages.entry(cpu.package).or_default().insert(cpu.cpu);
            let numa = numa_nodes.iter().find(|n| n.cpus.contains(cpu.cpu)).map_or(0, |n| n.id);
            match cores.iter_mut().find(|c| c.cpus.first() == Some(cpu.core)) {
                Some(core) => core.cpus.insert(cpu.cpu),
                None => {
                    cores.push(Core { id: 0, package: cpu.package, numa, cpus: CpuSet::from_iter([cpu.cpu]) })
                }
            }
        }
        cores.sort_by_key(|c| (c.package, c.numa, c.cpus.first()));
        (0..).zip(&mut cores).for_each(|(id, core)| core.id = id);
        let packages = packages.into_iter().map(|(id, cpus)| Package { id, cpus }).collect();
        let allowed = cpus.iter().map(|c| c.cpu).collect();
        Topology { packages, numa_nodes, cores, caches, allowed, source: String::new(), notes: Vec::new() }
    }

    /// Sets the allowed CPUs: those of the mask that are known to be online.
    fn allow(&mut self, mask: Option<CpuSet>) {
        let Some(mask) = mask else {
            self.notes
                .push("The system does not say which CPUs may be used; all of them are assumed.".into());
            return;
        };
        let both = self.allowed.intersection(&mask);
        if both.is_empty() {
            self.notes
                .push(format!("The allowed CPUs {mask} are not among the online CPUs {}.", self.allowed));
        } else {
            self.allowed = both;
        }
    }
}

/// What a reader knows of one CPU.
struct Cpu {
    cpu: u32,
    package: u32,
    /// The lowest CPU of its core.
    core: u32,
}
