//! Ranks onto hosts: in blocks, host by host, in the order the hosts were named.

use super::error::{LaunchError, Result};
use super::hostfile::Host;

/// The most ranks of one job.
const MOST_RANKS: u32 = 65_536;

/// A host and the ranks it gets (at least one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The host.
    pub(crate) host: Host,
    /// Its ranks, ascending and adjacent.
    pub(crate) ranks: Vec<u32>,
}

/// Places `n` ranks (all slots if not given) on `hosts` (this host with `cores` slots if none is named).
///
/// More ranks than slots is an error unless `oversubscribe`, or unless this host is the only one: there, more ranks
/// than cores is an ordinary thing to try. What goes beyond the slots is dealt out one rank a host in turn.
pub(crate) fn place(hosts: &[Host], n: Option<u32>, oversubscribe: bool, cores: u32) -> Result<Vec<Placed>> {
    let here = [Host { name: "localhost".into(), slots: cores.max(1), max: None }];
    let hosts = if hosts.is_empty() { &here[..] } else { hosts };
    let slots: u64 = hosts.iter().map(|h| u64::from(h.slots)).sum();
    let n = match n {
        Some(0) => return usage("-n 0 starts nothing", "-n wants the number of ranks, 1 or more"),
        Some(n) => u64::from(n),
        None => slots,
    };
    if n > u64::from(MOST_RANKS) {
        return usage(&format!("{n} ranks are too many"), &format!("at most {MOST_RANKS}"));
    }
    let alone = hosts.len() == 1 && hosts.iter().all(Host::is_local);
    if n > slots && !oversubscribe && !alone {
        return usage(
            &format!("{n} ranks do not fit into the {slots} slots of {} hosts", hosts.len()),
            "give the hosts more slots (--host a:8,b:8, `slots=8`), or allow more ranks than slots with --oversubscribe",
        );
    }
    let mut counts = vec![0u64; hosts.len()];
    let mut left = n;
    for (count, host) in counts.iter_mut().zip(hosts) {
        *count = left.min(u64::from(host.slots));
        left -= *count;
    }
    while left > 0 {
        let before = left;
        for (count, host) in counts.iter_mut().zip(hosts) {
            if left > 0 && host.max.is_none_or(|max| *count < u64::from(max)) {
                *count += 1;
                left -= 1;
            }
        }
        if left == before {
            return usage(
                &format!("{left} of {n} ranks find no place: every host is at its max_slots"),
                "raise max_slots in the host file, or start fewer ranks",
            );
        }
    }
    let mut next = 0;
    let mut placed = Vec::new();
    for (count, host) in counts.into_iter().zip(hosts) {
        // `n` is at most MOST_RANKS, so the counts fit.
        let end = next + count as u32;
        if count > 0 {
            placed.push(Placed { host: host.clone(), ranks: (next..end).collect() });
        }
        next = end;
    }
    Ok(placed)
}

fn usage<T>(what: &str, help: &str) -> Result<T> {
    Err(LaunchError::Usage { what: what.into(), help: help.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::hostfile::parse;

    fn counts(text: &str, n: Option<u32>, over: bool) -> Result<Vec<(String, Vec<u32>)>, String> {
        let hosts = if text.is_empty() { vec![] } else { parse(text, "f").unwrap() };
        place(&hosts, n, over, 2)
            .map(|p| p.into_iter().map(|p| (p.host.name, p.ranks)).collect())
            .map_err(|e| e.to_string())
    }

    fn row(name: &str, ranks: std::ops::Range<u32>) -> (String, Vec<u32>) {
        (name.to_string(), ranks.collect())
    }

    #[test]
    fn blocks_in_order() {
        assert_eq!(counts("a:2\nb:3", None, false).unwrap(), [row("a", 0..2), row("b", 2..5)]);
        assert_eq!(counts("a:2\nb:3", Some(3), false).unwrap(), [row("a", 0..2), row("b", 2..3)]);
        assert_eq!(counts("a:2\nb:3", Some(1), false).unwrap(), [row("a", 0..1)]);
        assert_eq!(counts("", None, false).unwrap(), [row("localhost", 0..2)]);
        assert_eq!(counts("", Some(64), false).unwrap(), [row("localhost", 0..64)]);
        assert_eq!(counts("localhost:2", Some(5), false).unwrap(), [row("localhost", 0..5)]);
    }

    #[test]
    fn too_many() {
        assert!(counts("a:2\nb:3", Some(6), false).unwrap_err().contains("--oversubscribe"));
        assert!(
            counts("a:2", Some(3), false).unwrap_err().contains("--oversubscribe"),
            "one remote host is no laptop"
        );
        assert_eq!(counts("a:2\nb:3", Some(8), true).unwrap(), [row("a", 0..4), row("b", 4..8)]);
        let capped = "a slots=1 max_slots=1\nb slots=1 max_slots=2";
        assert_eq!(counts(capped, Some(3), true).unwrap(), [row("a", 0..1), row("b", 1..3)]);
        assert!(counts(capped, Some(4), true).unwrap_err().contains("max_slots"));
        assert!(counts("", Some(0), false).unwrap_err().contains("-n 0"));
        assert!(counts("", Some(u32::MAX), false).is_err());
    }
}
