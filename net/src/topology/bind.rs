//! Which rank of a node runs on which CPUs.

use super::{CpuSet, Topology};
use crate::NetError;

/// How tightly the ranks of a node are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BindPolicy {
    /// Each rank gets its own cores: its equal share of those allowed, near to each other. The default.
    #[default]
    Core,
    /// Each rank may use all allowed CPUs of its NUMA node (or of its several nodes, when ranks are fewer than nodes).
    Numa,
    /// No binding: every rank may use every allowed CPU.
    None,
}

impl std::str::FromStr for BindPolicy {
    type Err = NetError;

    fn from_str(text: &str) -> Result<BindPolicy, NetError> {
        match text {
            "core" => Ok(BindPolicy::Core),
            "numa" => Ok(BindPolicy::Numa),
            "none" => Ok(BindPolicy::None),
            _ => Err(NetError::Config {
                what: format!("`{text}` is not a binding"),
                help: "use core, numa or none".into(),
            }),
        }
    }
}

impl std::fmt::Display for BindPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            BindPolicy::Core => "core",
            BindPolicy::Numa => "numa",
            BindPolicy::None => "none",
        })
    }
}

/// The CPUs of each of the `ranks` ranks on this node: entry `i` is for the i-th rank of the node. Always `ranks` entries,
/// none of them empty, all inside `topology.allowed`.
///
/// With [`BindPolicy::Core`], neighbouring ranks get neighbouring cores, so that a rank's share lies inside one package and
/// NUMA node where the numbers allow it. SMT siblings stay together. Shares differ by at most one core and
/// are disjoint as long as there are no more ranks than cores. With more ranks than cores, neighbouring ranks share a core;
/// no core carries more than one rank more than another. With [`BindPolicy::Numa`], every node with allowed CPUs gets at
/// least one rank if there are enough, and ranks are dealt in proportion to cores.
///
/// ```
/// use aeolian_net::topology::{BindPolicy, Topology, plan};
/// let node = Topology::detect();
/// assert_eq!(plan(&node, 1, BindPolicy::Core), [node.allowed.clone()]);
/// ```
pub fn plan(topology: &Topology, ranks: usize, policy: BindPolicy) -> Vec<CpuSet> {
    // Cores as far as we may use them, in the order of nearness that Topology promises.
    let cores: Vec<(u32, CpuSet)> = topology
        .cores
        .iter()
        .map(|core| (core.numa, core.cpus.intersection(&topology.allowed)))
        .filter(|(_, cpus)| !cpus.is_empty())
        .collect();
    if policy == BindPolicy::None || cores.is_empty() {
        return vec![topology.allowed.clone(); ranks];
    }
    match policy {
        BindPolicy::None | BindPolicy::Core => {
            share(&cores.into_iter().map(|c| c.1).collect::<Vec<_>>(), ranks)
        }
        BindPolicy::Numa => {
            let mut nodes: Vec<(u32, usize, CpuSet)> = Vec::new();
            for (numa, cpus) in cores {
                match nodes.iter_mut().find(|n| n.0 == numa) {
                    Some(node) => {
                        node.1 += 1;
                        node.2 = node.2.union(&cpus);
                    }
                    None => nodes.push((numa, 1, cpus)),
                }
            }
            if ranks < nodes.len() {
                return share(&nodes.into_iter().map(|n| n.2).collect::<Vec<_>>(), ranks);
            }
            // One rank for each node, and each further one to where a rank would have the most cores.
            let mut dealt = vec![1; nodes.len()];
            for _ in nodes.len()..ranks {
                let better = |&a: &usize, &b: &usize| {
                    (nodes[a].1 * (dealt[b] + 1)).cmp(&(nodes[b].1 * (dealt[a] + 1)))
                };
                // `rev`: of equal ones max_by takes the last, so the first node comes first.
                if let Some(best) = (0..nodes.len()).rev().max_by(better) {
                    dealt[best] += 1;
                }
            }
            nodes.into_iter().zip(dealt).flat_map(|(node, n)| vec![node.2; n]).collect()
        }
    }
}

/// Deals `places` (at least one) to `ranks` in contiguous pieces that differ by at most one.
fn share(places: &[CpuSet], ranks: usize) -> Vec<CpuSet> {
    let n = places.len();
    (0..ranks)
        .map(|rank| {
            let first = rank * n / ranks;
            let end = ((rank + 1) * n / ranks).max(first + 1);
            places[first..end].iter().fold(CpuSet::new(), |all, place| all.union(place))
        })
        .collect()
}

/// Binds the calling thread, and with it all threads that it starts later; threads that run already are not moved. So a rank
/// calls this first of all.
///
/// # Errors
/// [`NetError::Usage`] for an empty set; [`NetError::Os`] if the system refuses (CPU offline or outside of the cpuset).
pub fn bind_self(cpus: &CpuSet) -> Result<(), NetError> {
    if cpus.is_empty() {
        return Err(NetError::Usage("cannot bind to an empty set of CPUs".into()));
    }
    let mut mask = rustix::thread::CpuSet::new();
    for cpu in cpus.iter().map(|c| c as usize) {
        if cpu >= rustix::thread::CpuSet::MAX_CPU {
            return Err(NetError::Config {
                what: format!("cannot bind to CPU {cpu}: only CPUs below {} can be bound to", mask_size()),
                help: "use --bind none".into(),
            });
        }
        mask.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &mask)
        .map_err(|e| NetError::Os { what: format!("binding to CPUs {cpus}"), source: e.into() })
}

fn mask_size() -> usize {
    rustix::thread::CpuSet::MAX_CPU
}

#[cfg(test)]
mod tests {
    use super::super::{Cpu, NumaNode};
    use super::*;
    use proptest::prelude::*;

    /// A machine of equal nodes; the siblings of a core are `cores` apart, as x86 numbers them.
    fn machine(nodes: u32, cores_per_node: u32, threads: u32) -> Topology {
        let cores = nodes * cores_per_node;
        let cpus = (0..cores * threads).map(|cpu| {
            let core = cpu % cores;
            Cpu { cpu, package: core / cores_per_node, core }
        });
        let numa = (0..nodes).map(|id| NumaNode {
            id,
            cpus: (0..cores * threads).filter(|c| c % cores / cores_per_node == id).collect(),
            memory_bytes: 0,
        });
        Topology::assemble(cpus.collect(), numa.collect(), Vec::new())
    }

    fn lists(plan: &[CpuSet]) -> Vec<String> {
        plan.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn by_hand() {
        let t = machine(2, 4, 2);
        assert_eq!(lists(&plan(&t, 2, BindPolicy::Core)), ["0-3,8-11", "4-7,12-15"]);
        assert_eq!(lists(&plan(&t, 4, BindPolicy::Core)), ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]);
        assert_eq!(lists(&plan(&t, 3, BindPolicy::Numa)), ["0-3,8-11", "0-3,8-11", "4-7,12-15"]);
        assert_eq!(lists(&plan(&t, 1, BindPolicy::Numa)), ["0-15"]);
        assert_eq!(lists(&plan(&t, 2, BindPolicy::None)), ["0-15", "0-15"]);
        assert_eq!(plan(&t, 0, BindPolicy::Core), []);
        let mut t = machine(1, 2, 1);
        assert_eq!(lists(&plan(&t, 5, BindPolicy::Core)), ["0", "0", "0", "1", "1"]);
        t.allowed = "1".parse().unwrap();
        assert_eq!(lists(&plan(&t, 2, BindPolicy::Core)), ["1", "1"]);
    }

    #[test]
    fn binding_is_seen_by_the_system() {
        std::thread::spawn(|| {
            let one = CpuSet::from_iter(CpuSet::of_this_thread().unwrap().first());
            bind_self(&one).unwrap();
            assert_eq!(CpuSet::of_this_thread().unwrap(), one);
            assert!(matches!(bind_self(&CpuSet::new()), Err(NetError::Usage(_))));
            assert!(matches!(bind_self(&CpuSet::from_iter([60_000])), Err(NetError::Config { .. })));
        })
        .join()
        .unwrap();
    }

    proptest! {
        #[test]
        fn covers_is_disjoint_and_balanced(
            nodes in 1u32..5, per_node in 1u32..9, threads in 1u32..4, ranks in 1usize..80, holes in any::<u64>(),
        ) {
            let mut t = machine(nodes, per_node, threads);
            let some: CpuSet = t.allowed.iter().filter(|c| holes >> (c % 64) & 1 == 1).collect();
            if !some.is_empty() { t.allowed = some; }
            let cores = t.allowed_cores();
            for policy in [BindPolicy::Core, BindPolicy::Numa, BindPolicy::None] {
                let plan = plan(&t, ranks, policy);
                prop_assert_eq!(plan.len(), ranks);
                prop_assert!(plan.iter().all(|p| !p.is_empty() && p.difference(&t.allowed).is_empty()));
                let all = plan.iter().fold(CpuSet::new(), |a, p| a.union(p));
                prop_assert_eq!(&all, &t.allowed, "{} does not use everything", policy);
                for core in &t.cores {
                    let ours = core.cpus.intersection(&t.allowed);
                    for p in &plan {
                        let part = p.intersection(&core.cpus);
                        prop_assert!(part.is_empty() || part == ours, "siblings are apart");
                    }
                }
                if policy == BindPolicy::Core {
                    let share = |p: &CpuSet| t.cores.iter().filter(|c| !c.cpus.intersection(p).is_empty()).count();
                    let (low, high) = (plan.iter().map(share).min().unwrap(), plan.iter().map(share).max().unwrap());
                    prop_assert!(high - low <= 1);
                    if ranks <= cores {
                        prop_assert_eq!(plan.iter().map(CpuSet::len).sum::<usize>(), all.len(), "not disjoint");
                    }
                    let load = |c: &super::super::Core| plan.iter().filter(|p| !p.intersection(&c.cpus).is_empty()).count();
                    let loads: Vec<usize> = t.cores.iter().map(load).filter(|&l| l > 0).collect();
                    prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
                }
            }
        }
    }
}
