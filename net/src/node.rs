//! Which node a rank is on. Ranks of one node use shared memory, so "node" means: can open each other's memory.
//!
//! Ranks hand over memory segments through `/proc/PID/fd` of one another. For that both must see the same process
//! numbers (PID namespace) and be the same user (user id, user namespace) on the same running kernel (boot id). Two
//! containers on one machine are two nodes, therefore, unless they were told to share these. The IPC namespace and the
//! host name count too: virtual hosts on one kernel stay apart, and so do virtual machines that were restored from one
//! snapshot and still have one boot id.

use std::fmt;

/// Identity of a node as one user sees it. Two ranks with equal ids are expected to be able to open each other's
/// `/proc/PID/fd` (hardened systems may still refuse: [`can_open_files_of`] tries).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct NodeId(String);

impl NodeId {
    /// The id of the node that this process is on. Never fails: where the kernel hides one of the parts, the id holds the
    /// process id instead, and so equals no other: such a rank uses the network.
    pub fn of_this_process() -> NodeId {
        let read = |path: &str| std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
        // The link reads `pid:[4026531836]`: it names the kind by itself.
        let namespace = |kind: &str| {
            let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
            Some(link.to_str()?.replace(['[', ']', ':'], ""))
        };
        let unique = || format!("process{}", std::process::id());
        let uid = rustix::process::geteuid().as_raw();
        let mut parts = vec![host_name(), read("/proc/sys/kernel/random/boot_id").unwrap_or_else(unique)];
        parts.extend(["pid", "ipc", "user"].map(|kind| namespace(kind).unwrap_or_else(unique)));
        parts.push(format!("uid{uid}"));
        NodeId(parts.join("/"))
    }

    /// The id as text: `host/boot id/namespaces/uid`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<String> for NodeId {
    /// An id that came over a wire.
    fn from(text: String) -> NodeId {
        NodeId(text)
    }
}

/// The name of this host, as `uname -n` prints it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Tries whether this process may open the files of another one of its node: what shared memory needs.
///
/// # Errors
/// The system's answer: no such process (other PID namespace), or permission denied (other user, `hidepid`, not dumpable).
pub fn can_open_files_of(pid: u32) -> Result<(), crate::NetError> {
    let dir = format!("/proc/{pid}/fd");
    std::fs::read_dir(&dir).map(drop).map_err(crate::NetError::os(format!("opening {dir}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_process_same_node() {
        let id = NodeId::of_this_process();
        assert_eq!(id, NodeId::of_this_process());
        assert_eq!(id.as_str().split('/').count(), 6);
        assert!(id.as_str().starts_with(&format!("{}/", host_name())));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id);
    }

    #[test]
    fn our_own_files_can_be_opened_and_those_of_nobody_cannot() {
        can_open_files_of(std::process::id()).unwrap();
        assert!(can_open_files_of(u32::MAX).is_err());
    }
}
