//! A set of CPUs (hardware threads, by the kernel's numbers), written as the kernel writes it: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The highest CPU number that is believed: beyond it a list is damaged (Linux itself stops at 8192).
const MAX_CPU: u32 = 1 << 16;

/// A set of CPUs. Displays, parses and serializes as a kernel list: `0-3,8`, empty: ``.
///
/// ```
/// use aeolian_net::topology::CpuSet;
/// let set: CpuSet = "0-2,8".parse()?;
/// assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 8]);
/// assert_eq!(set.to_string(), "0-2,8");
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// The empty set.
    pub fn new() -> CpuSet {
        CpuSet::default()
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// Whether a CPU is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// How many CPUs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The CPU with the lowest number.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The CPUs of both sets.
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.intersection(&other.0).copied().collect())
    }

    /// The CPUs of either set.
    pub fn union(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.union(&other.0).copied().collect())
    }

    /// The CPUs of this set that are not in the other.
    pub fn difference(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.difference(&other.0).copied().collect())
    }

    /// The CPUs that the calling thread may run on: its affinity mask, which the kernel keeps inside the cgroup's cpuset.
    /// `None` if the kernel does not say.
    pub fn of_this_thread() -> Option<CpuSet> {
        let from_call = rustix::thread::sched_getaffinity(None).ok().map(|mask| {
            (0..rustix::thread::CpuSet::MAX_CPU)
                .filter(|&c| mask.is_set(c))
                .map(|c| c as u32)
                .collect::<CpuSet>()
        });
        // The call fails on kernels built for more CPUs than its mask holds; the list in /proc has no such limit.
        from_call.filter(|s| !s.is_empty()).or_else(|| {
            let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
            let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
            list.parse().ok().filter(|s: &CpuSet| !s.is_empty())
        })
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> CpuSet {
        CpuSet(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut cpus = self.iter().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|&c| c == last + 1) {
                last = next;
            }
            let comma = if text.is_empty() { "" } else { "," };
            text += &if first == last { format!("{comma}{first}") } else { format!("{comma}{first}-{last}") };
        }
        f.pad(&text)
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl FromStr for CpuSet {
    type Err = crate::NetError;

    fn from_str(text: &str) -> Result<CpuSet, crate::NetError> {
        let mut set = CpuSet::new();
        for range in text.trim().split(',').filter(|r| !r.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
                (Ok(first), Ok(last)) if first <= last && last < MAX_CPU => set.0.extend(first..=last),
                _ => {
                    return Err(crate::NetError::Config {
                        what: format!("`{}` is not a list of CPUs", text.trim()),
                        help: "write CPU numbers and ranges like 0-3,8".into(),
                    });
                }
            }
        }
        Ok(set)
    }
}

impl serde::Serialize for CpuSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for CpuSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<CpuSet, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damaged_lists_are_errors() {
        for bad in ["a", "3-1", "1-", "-1", "0-99999999", "1;2"] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
        assert!("\n".parse::<CpuSet>().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn text_and_back(cpus in proptest::collection::btree_set(0u32..300, 0..40)) {
            let set = CpuSet(cpus);
            prop_assert_eq!(&set.to_string().parse::<CpuSet>().unwrap(), &set);
            let json = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<CpuSet>(&json).unwrap(), set);
        }
    }
}
