//! Which cores each rank of a host may use (`--bind`).
//!
//! Only processors that this process itself may use count: inside a container or a Slurm step that is less than the
//! machine has. Ranks get whole cores (with their hardware threads), in order, so that neighbours in rank are
//! neighbours in cache.

use super::error::{LaunchError, Result};
use super::spec::{Bind, HostSpec};
use rustix::thread::CpuSet;
use std::collections::BTreeSet;
use std::path::Path;

/// The processors of each rank of `spec`, or `None` where it is not bound.
pub(crate) fn plan(spec: &HostSpec) -> Result<Vec<Option<CpuSet>>> {
    let ranks = spec.ranks.len();
    let groups = match spec.bind {
        Bind::None => return Ok(vec![None; ranks]),
        Bind::Core => cores(Path::new("/sys"), &allowed()?),
        Bind::Numa => nodes(Path::new("/sys"), &allowed()?),
    };
    Ok(share(&groups, ranks, spec.bind == Bind::Core).iter().map(|cpus| Some(to_set(cpus))).collect())
}

/// How many processors this process may use.
pub(crate) fn processors() -> u32 {
    allowed().map_or(1, |cpus| cpus.len().max(1) as u32)
}

/// Deals `groups` of processors out to `ranks`. With `split`, each rank gets its share of the groups if there are
/// enough; else a rank gets one group, which several ranks may share.
fn share(groups: &[Vec<usize>], ranks: usize, split: bool) -> Vec<Vec<usize>> {
    let count = groups.len();
    (0..ranks)
        .map(|i| match (split && count >= ranks, count) {
            (_, 0) => Vec::new(),
            (true, _) => groups[i * count / ranks..(i + 1) * count / ranks].concat(),
            (false, _) if split => groups[i % count].clone(),
            (false, _) => groups[(i * count / ranks).min(count - 1)].clone(),
        })
        .collect()
}

fn allowed() -> Result<BTreeSet<usize>> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|e| LaunchError::Os { what: "asking for the usable processors".into(), source: e.into() })?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// The cores among `allowed`: processors that are hardware threads of one core are one group.
fn cores(sys: &Path, allowed: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    for cpu in allowed {
        let file = sys.join(format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        let mut siblings = read_list(&file);
        siblings.insert(*cpu);
        let group: Vec<usize> = siblings.intersection(allowed).copied().filter(|c| seen.insert(*c)).collect();
        if !group.is_empty() {
            groups.push(group);
        }
    }
    groups
}

/// The NUMA nodes among `allowed`; one for all if the system does not say.
fn nodes(sys: &Path, allowed: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    let dir = sys.join("devices/system/node");
    let mut groups: Vec<Vec<usize>> = read_list(&dir.join("online"))
        .into_iter()
        .map(|node| {
            read_list(&dir.join(format!("node{node}/cpulist"))).intersection(allowed).copied().collect()
        })
        .filter(|group: &Vec<usize>| !group.is_empty())
        .collect();
    if groups.is_empty() {
        groups.push(allowed.iter().copied().collect());
    }
    groups
}

fn read_list(file: &Path) -> BTreeSet<usize> {
    std::fs::read_to_string(file).map(|text| parse_list(&text)).unwrap_or_default()
}

/// The kernel's list format: `0-3,8,10-11`. What does not fit is left out.
fn parse_list(text: &str) -> BTreeSet<usize> {
    let mut set = BTreeSet::new();
    for item in text.trim().split(',') {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        if let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) {
            set.extend(from..=to.min(CpuSet::MAX_CPU - 1));
        }
    }
    set
}

fn to_set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake_sys(siblings: &[&str], nodes: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{text}\n")).unwrap();
        };
        for (cpu, list) in siblings.iter().enumerate() {
            write(format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), list);
        }
        for (node, list) in nodes.iter().enumerate() {
            write(format!("devices/system/node/node{node}/cpulist"), list);
        }
        write("devices/system/node/online".into(), &format!("0-{}", nodes.len().saturating_sub(1)));
        dir
    }

    #[test]
    fn cores_keep_their_threads_together() {
        let sys =
            fake_sys(&["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"], &["0-1,4-5", "2-3,6-7"]);
        let all = (0..8).collect();
        let four = cores(sys.path(), &all);
        assert_eq!(four, [[0, 4], [1, 5], [2, 6], [3, 7]]);
        assert_eq!(share(&four, 2, true), [[0, 4, 1, 5], [2, 6, 3, 7]]);
        assert_eq!(share(&four, 6, true)[4], [0, 4], "more ranks than cores start over");
        let two = nodes(sys.path(), &all);
        assert_eq!(two, [[0, 1, 4, 5], [2, 3, 6, 7]]);
        assert_eq!(share(&two, 4, false), [two[0].clone(), two[0].clone(), two[1].clone(), two[1].clone()]);
        assert_eq!(share(&two, 1, false), [two[0].clone()]);
        let few: BTreeSet<usize> = [2, 6, 3].into();
        assert_eq!(cores(sys.path(), &few), [vec![2, 6], vec![3]]);
        assert_eq!(nodes(sys.path(), &few), [[2, 3, 6]]);
    }

    #[test]
    fn odd_lists_do_no_harm() {
        assert_eq!(parse_list("0-2,x,5,7-"), [0, 1, 2, 5].into());
        assert_eq!(parse_list(""), [].into());
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(cores(nothing.path(), &[0, 1].into()), [[0], [1]]);
        assert_eq!(nodes(nothing.path(), &[0, 1].into()), [[0, 1]]);
    }
}
