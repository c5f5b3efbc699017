//! Which processors each rank of a host may use (`--bind`).

use super::error::{LaunchError, Result};
use super::spec::HostSpec;
use aeolian_net::topology::{BindPolicy, Topology, plan as share};
use rustix::thread::CpuSet;

/// The processors of each rank of `spec`, or `None` where it is not bound.
///
/// Unless told otherwise, ranks are bound to their share of the cores as long as there is a core for each: more ranks
/// than cores are better left to the system's scheduler.
pub(crate) fn plan(spec: &HostSpec) -> Result<Vec<Option<CpuSet>>> {
    let ranks = spec.ranks.len();
    if spec.bind == Some(BindPolicy::None) || (spec.bind.is_none() && ranks < 2) {
        return Ok(vec![None; ranks]);
    }
    let here = Topology::detect();
    if spec.bind.is_none() && ranks > here.allowed_cores() {
        return Ok(vec![None; ranks]);
    }
    share(&here, ranks, spec.bind.unwrap_or_default())
        .iter()
        .map(|cpus| mask(cpus, &spec.host).map(Some))
        .collect()
}

/// How many processors this process may use.
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

fn mask(cpus: &aeolian_net::topology::CpuSet, host: &str) -> Result<CpuSet> {
    let mut mask = CpuSet::new();
    for cpu in cpus.iter().map(|cpu| cpu as usize) {
        if cpu >= CpuSet::MAX_CPU {
            return Err(LaunchError::Usage {
                what: format!(
                    "ranks of {host} cannot be bound: it has a CPU {cpu}, beyond what a mask here holds"
                ),
                help: "use --bind none".into(),
            });
        }
        mask.set(cpu);
    }
    Ok(mask)
}
