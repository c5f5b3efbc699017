//! Trees as real machines show them, each a text file of `path: value` lines (what `grep -r . /sys/...` prints).

use super::*;

/// Unpacks a tree and reads it.
fn tree(lines: &str, mask: &str) -> Topology {
    let root = tempfile::tempdir().unwrap();
    for line in lines.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (path, value) = line.split_once(": ").unwrap();
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{value}\n")).unwrap();
    }
    read(root.path(), if mask.is_empty() { None } else { Some(mask.parse().unwrap()) })
}

const TWO_SOCKETS: &str = include_str!("../fixtures/two-socket-smt.txt");
const OFFLINE: &str = include_str!("../fixtures/offline-cpu.txt");
const BIG_LITTLE: &str = include_str!("../fixtures/arm-big-little.txt");

#[test]
fn two_sockets_with_smt() {
    let t = tree(TWO_SOCKETS, "0-15");
    assert_eq!(t.notes, Vec::<String>::new());
    assert_eq!(
        t.packages.iter().map(|p| (p.id, p.cpus.to_string())).collect::<Vec<_>>(),
        [(0, "0-3,8-11".into()), (1, "4-7,12-15".into())]
    );
    assert_eq!(t.cores.len(), 8);
    assert_eq!(t.cores[0].cpus.to_string(), "0,8");
    assert_eq!((t.cores[5].package, t.cores[5].numa, t.cores[5].cpus.to_string()), (1, 1, "5,13".into()));
    assert_eq!(t.numa_nodes[1].memory_bytes, 66_000_000 * 1024);
    assert_eq!((t.cache_bytes(2), t.cache_bytes(3)), (Some(1 << 20), Some(22 << 20)));
    assert_eq!(t.caches.iter().filter(|c| c.level == 3).count(), 2);
    assert_eq!(t.caches.iter().filter(|c| c.level == 2).count(), 8);
    assert_eq!(t.allowed_cores(), 8);
}

#[test]
fn offline_cpus_are_nowhere() {
    let t = tree(OFFLINE, "0-3");
    assert_eq!(t.allowed.to_string(), "0,2-3");
    // CPU 1 was the sibling of CPU 0: that core has one thread now.
    assert_eq!(t.cores.iter().map(|c| c.cpus.to_string()).collect::<Vec<_>>(), ["0", "2-3"]);
    assert_eq!(t.packages[0].cpus.to_string(), "0,2-3");
    assert!(t.caches.iter().all(|c| !c.cpus.contains(1)));
}

#[test]
fn a_cpuset_limits_what_is_allowed_but_not_what_is_seen() {
    let t = tree(TWO_SOCKETS, "2,4-5,12");
    assert_eq!(t.cores.len(), 8);
    assert_eq!(t.allowed.to_string(), "2,4-5,12");
    assert_eq!(t.allowed_cores(), 3);
}

#[test]
fn big_and_little_cores_without_caches() {
    let t = tree(BIG_LITTLE, "0-5");
    assert_eq!(t.cores.len(), 6);
    // Package ids of -1 and no NUMA directory: one of each.
    assert_eq!((t.packages.len(), t.numa_nodes.len()), (1, 1));
    assert_eq!(t.numa_nodes[0].memory_bytes, 3_900_000 * 1024);
    assert!(t.caches.is_empty() && t.cache_bytes(3).is_none());
}

#[test]
fn a_missing_sys_leaves_the_mask() {
    let t = tree("", "3,5");
    assert_eq!(t.cores.iter().map(|c| c.cpus.to_string()).collect::<Vec<_>>(), ["3", "5"]);
    assert_eq!(t.allowed.to_string(), "3,5");
    assert_eq!(t.notes.len(), 2, "{:?}", t.notes);
    let t = tree("", "");
    assert_eq!(t.allowed.len(), std::thread::available_parallelism().unwrap().get());
}

#[test]
fn damaged_files_count_as_missing() {
    let damaged =
        TWO_SOCKETS.replace("0,8", "zero").replace("1024K", "lots").replace(": 4-7,12-15", ": 9999999999");
    let t = tree(&damaged, "0-15");
    assert_eq!(t.allowed.len(), 16);
    assert_eq!(t.cores.iter().map(|c| c.cpus.len()).sum::<usize>(), 16);
    assert_eq!(t.cache_bytes(2), None);
    assert!(!t.notes.is_empty());
}

#[test]
fn this_machine() {
    let t = read(Path::new("/"), CpuSet::of_this_thread());
    let all: CpuSet = t.cores.iter().flat_map(|c| c.cpus.iter()).collect();
    assert_eq!(all.len(), t.cores.iter().map(|c| c.cpus.len()).sum::<usize>(), "cores overlap");
    assert_eq!(all.intersection(&t.allowed), t.allowed);
    assert!(!t.allowed.is_empty());
}
