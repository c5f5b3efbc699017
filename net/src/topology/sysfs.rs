//! Reads the topology from `/sys/devices/system/{cpu,node}`.

use super::{Cache, Cpu, CpuSet, NumaNode, Topology};
use std::path::Path;

/// Reads the tree under `root` (`/`; tests give recorded ones). `mask`: the CPUs that the thread may use.
pub(super) fn read(root: &Path, mask: Option<CpuSet>) -> Topology {
    let system = root.join("sys/devices/system");
    let mut notes = Vec::new();
    let online = set(&system.join("cpu/online")).or_else(|| {
        notes.push("/sys does not list the online CPUs; only the number of usable CPUs is known.".to_owned());
        mask.clone()
    });
    let online = online.unwrap_or_else(|| {
        let usable = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        (0..usable).collect()
    });

    let (mut cpus, mut caches, mut without_topology) = (Vec::new(), Vec::new(), 0);
    for cpu in online.iter() {
        let dir = system.join(format!("cpu/cpu{cpu}"));
        let topology = dir.join("topology");
        // `core_cpus_list` is the newer name of `thread_siblings_list`. Siblings that are offline do not count.
        let siblings = set(&topology.join("core_cpus_list"))
            .or_else(|| set(&topology.join("thread_siblings_list")))
            .map(|s| s.intersection(&online))
            .filter(|s| s.contains(cpu));
        without_topology += usize::from(siblings.is_none());
        // Some firmware gives -1: then there is one package as far as anybody knows.
        let package = number(&topology.join("physical_package_id")).unwrap_or(0) as u32;
        cpus.push(Cpu { cpu, package, core: siblings.and_then(|s| s.first()).unwrap_or(cpu) });
        read_caches(&dir.join("cache"), &online, &mut caches);
    }
    if without_topology > 0 {
        notes.push(format!(
            "/sys does not say which core {without_topology} of the {} CPUs belong to; each counts as a core.",
            online.len()
        ));
    }
    let numa = read_numa(root, &system.join("node"), &online);
    let mut topology = Topology::assemble(cpus, numa, caches);
    topology.source = "/sys".into();
    topology.notes = notes;
    topology.allow(mask);
    topology
}

/// Level-2 and level-3 caches of one CPU.
fn read_caches(dir: &Path, online: &CpuSet, caches: &mut Vec<Cache>) {
    for index in 0.. {
        let dir = dir.join(format!("index{index}"));
        let Some(level) = number(&dir.join("level")) else { return };
        let kind = text(&dir.join("type")).unwrap_or_default();
        let size = text(&dir.join("size")).and_then(|s| crate::bytes::parse(&s).ok());
        let sharers = set(&dir.join("shared_cpu_list")).map(|s| s.intersection(online));
        if let (2 | 3, true, Some(bytes), Some(cpus)) = (level, kind != "Instruction", size, sharers) {
            caches.push(Cache { level: level as u8, bytes, cpus });
        }
    }
}

/// NUMA nodes; where there is no such directory (kernel without NUMA, some containers), one node with everything.
fn read_numa(root: &Path, dir: &Path, online: &CpuSet) -> Vec<NumaNode> {
    let nodes: Vec<NumaNode> = set(&dir.join("online"))
        .unwrap_or_default()
        .iter()
        .filter_map(|id| {
            let dir = dir.join(format!("node{id}"));
            let cpus = set(&dir.join("cpulist"))?.intersection(online);
            // "Node 0 MemTotal:        4679896 kB"
            let meminfo = text(&dir.join("meminfo")).unwrap_or_default();
            let total = meminfo.lines().find_map(|l| l.split_once("MemTotal:")).map_or("0", |l| l.1);
            Some(NumaNode { id, cpus, memory_bytes: crate::bytes::parse(total).unwrap_or(0) })
        })
        .collect();
    if nodes.iter().any(|n| !n.cpus.is_empty()) {
        return nodes;
    }
    let meminfo = text(&root.join("proc/meminfo")).unwrap_or_default();
    let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or("0");
    vec![NumaNode { id: 0, cpus: online.clone(), memory_bytes: crate::bytes::parse(total).unwrap_or(0) }]
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

fn set(path: &Path) -> Option<CpuSet> {
    text(path)?.parse().ok().filter(|s: &CpuSet| !s.is_empty())
}

#[cfg(test)]
mod tests;
