//! The topology by libhwloc beside that of `/sys`.
#![cfg(feature = "hwloc")]

use aeolian_net::topology::Topology;

#[test]
fn agrees_with_sys_on_this_machine() {
    let (theirs, ours) = (Topology::detect(), Topology::of_sys());
    assert!(theirs.source.starts_with("hwloc"), "{}: {:?}", theirs.source, theirs.notes);
    if !ours.notes.is_empty() {
        eprintln!("not compared: /sys is incomplete here: {:?}", ours.notes);
        return;
    }
    assert_eq!(theirs.cores, ours.cores);
    assert_eq!(theirs.packages, ours.packages);
    assert_eq!(theirs.numa_nodes, ours.numa_nodes);
    assert_eq!(theirs.caches, ours.caches);
    assert_eq!(theirs.allowed, ours.allowed);
}
