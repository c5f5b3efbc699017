//! Reads the topology through libhwloc (cargo feature `hwloc`).

use super::{Cache, Cpu, CpuSet, NumaNode, Topology};
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::BuildFlags;

/// Asks hwloc; `mask`: the CPUs that the thread may use. The error says why hwloc could not answer.
pub(super) fn read(mask: Option<CpuSet>) -> Result<Topology, String> {
    // By default hwloc leaves out what a cpuset disallows; our picture shows it and keeps `allowed` apart.
    let hwloc = hwlocality::Topology::builder()
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .map_err(|e| e.to_string())?
        .build()
        .map_err(|e| e.to_string())?;

    let cpus: Vec<Cpu> = hwloc
        .objects_with_type(ObjectType::PU)
        .filter_map(|pu| {
            let cpu = pu.os_index()? as u32;
            let above = |kind| pu.ancestors().find(|a| a.object_type() == kind);
            let package = above(ObjectType::Package).and_then(TopologyObject::os_index).unwrap_or(0) as u32;
            let core = above(ObjectType::Core).and_then(|c| set(c).first()).unwrap_or(cpu);
            Some(Cpu { cpu, package, core })
        })
        .collect();
    if cpus.is_empty() {
        return Err("it lists no CPUs".into());
    }

    let mut numa: Vec<NumaNode> = hwloc
        .objects_with_type(ObjectType::NUMANode)
        .filter_map(|node| {
            let memory_bytes = match node.attributes() {
                Some(ObjectAttributes::NUMANode(a)) => a.local_memory().map_or(0, |n| n.get()),
                _ => 0,
            };
            Some(NumaNode { id: node.os_index()? as u32, cpus: set(node), memory_bytes })
        })
        .collect();
    // hwloc gives a memory-only node the CPUs around it; the kernel gives each CPU to one node. So the first keeps it.
    numa.sort_by_key(|n| n.id);
    let mut taken = CpuSet::new();
    for node in &mut numa {
        node.cpus = node.cpus.difference(&taken);
        taken = taken.union(&node.cpus);
    }

    let caches = [(2, ObjectType::L2Cache), (3, ObjectType::L3Cache)]
        .into_iter()
        .flat_map(|(level, kind)| hwloc.objects_with_type(kind).map(move |object| (level, object)))
        .filter_map(|(level, object)| match object.attributes() {
            Some(ObjectAttributes::Cache(a)) => {
                Some(Cache { level, cpus: set(object), bytes: a.size()?.get() })
            }
            _ => None,
        })
        .collect();

    let mut topology = Topology::assemble(cpus, numa, caches);
    let version = hwlocality::hwloc_api_version();
    topology.source = format!("hwloc {}.{}", version >> 16, version >> 8 & 0xff);
    topology.allow(mask);
    Ok(topology)
}

fn set(object: &TopologyObject) -> CpuSet {
    object.cpuset().map(|set| set.iter_set().map(|cpu| usize::from(cpu) as u32).collect()).unwrap_or_default()
}
