//! Which rank runs on which node of a step.

use crate::error::{SlurmError, shorten};

/// The most tasks, and nodes, that are believed.
pub const MAX_TASKS: usize = 1 << 22;

/// Tasks on each node, from Slurm's short form: `2(x3),1` is `[2, 2, 2, 1]`.
///
/// # Errors
/// If `text` (the value of variable `name`) is not of that form, or stands for more than [`MAX_TASKS`].
pub fn tasks_per_node(name: &str, text: &str) -> Result<Vec<u32>, SlurmError> {
    let malformed = || SlurmError::Malformed {
        name: name.to_owned(),
        value: shorten(text),
        expected: "numbers of tasks such as 2(x3),1",
    };
    let number =
        |t: &str| -> Option<u32> { t.parse().ok().filter(|_| t.bytes().all(|b| b.is_ascii_digit())) };
    let mut out: Vec<u32> = Vec::new();
    let mut sum = 0usize;
    for item in text.split(',') {
        let (tasks, times) = match item.split_once("(x") {
            Some((tasks, times)) => (tasks, number(times.strip_suffix(')').ok_or_else(malformed)?)),
            None => (item, Some(1)),
        };
        let tasks = number(tasks).ok_or_else(malformed)?;
        let times = times.filter(|&t| t > 0).ok_or_else(malformed)? as usize;
        sum = sum.saturating_add(times.saturating_mul(tasks as usize));
        if sum > MAX_TASKS || out.len().saturating_add(times) > MAX_TASKS {
            return Err(SlurmError::TooMany { list: shorten(text), limit: MAX_TASKS, unit: "tasks" });
        }
        out.resize(out.len() + times, tasks);
    }
    Ok(out)
}

/// How Slurm deals ranks to nodes (`srun --distribution`), as far as nodes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Node by node: fill the first, then the next.
    Block,
    /// One rank to each node in turn, skipping full ones.
    Cyclic,
    /// Blocks of this many ranks to each node in turn.
    Plane(u32),
}

impl Distribution {
    /// From `SLURM_DISTRIBUTION` and `SLURM_DIST_PLANESIZE`; `None` if the order cannot be told (`arbitrary`).
    pub fn parse(text: &str, plane: Option<u32>) -> Option<Self> {
        // What follows a colon or comma is about sockets and cores.
        match text.split([':', ',']).next()? {
            "block" => Some(Self::Block),
            "cyclic" => Some(Self::Cyclic),
            t if t == "plane" || t.starts_with("plane=") => {
                let size = t.strip_prefix("plane=").and_then(|n| n.parse().ok()).or(plane)?;
                (size > 0).then_some(Self::Plane(size))
            }
            _ => None,
        }
    }

    /// The node (an index into the node list) of each rank.
    ///
    /// ```
    /// use aeolian_slurm::layout::Distribution;
    /// assert_eq!(Distribution::Block.nodes(&[1, 2, 2]), [0, 1, 1, 2, 2]);
    /// assert_eq!(Distribution::Cyclic.nodes(&[1, 2, 2]), [0, 1, 2, 1, 2]);
    /// ```
    pub fn nodes(self, tasks_per_node: &[u32]) -> Vec<u32> {
        let at_once = match self {
            Self::Block => u32::MAX,
            Self::Cyclic => 1,
            Self::Plane(size) => size.max(1),
        };
        // Nodes that have tasks left; each round deals to all of them, so the work is the number of tasks.
        let mut open: Vec<(u32, u32)> =
            (0u32..).zip(tasks_per_node.iter().copied()).filter(|n| n.1 > 0).collect();
        let mut out = Vec::new();
        while !open.is_empty() {
            for (node, left) in &mut open {
                let n = (*left).min(at_once);
                out.extend(std::iter::repeat_n(*node, n as usize));
                *left -= n;
            }
            open.retain(|n| n.1 > 0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_form() {
        let t = |text| tasks_per_node("SLURM_STEP_TASKS_PER_NODE", text);
        assert_eq!(t("2(x3),1").unwrap(), [2, 2, 2, 1]);
        assert_eq!(t("4").unwrap(), [4]);
        assert_eq!(t("1,0,2").unwrap(), [1, 0, 2]);
        for bad in ["", "x", "2(x3", "2(3)", "2(x)", "-1", "2(x0)", "1,,2", "+1", "99999999999", "2(x3)4"] {
            assert!(matches!(t(bad), Err(SlurmError::Malformed { .. })), "{bad}");
        }
        for huge in ["4294967295", "1(x4294967295)", "0(x4294967295)"] {
            assert!(matches!(t(huge), Err(SlurmError::TooMany { .. })), "{huge}");
        }
    }

    #[test]
    fn distributions() {
        assert_eq!(Distribution::Plane(2).nodes(&[4, 1, 3]), [0, 0, 1, 2, 2, 0, 0, 2]);
        assert_eq!(Distribution::parse("cyclic:block,NoPack", None), Some(Distribution::Cyclic));
        assert_eq!(Distribution::parse("plane", Some(3)), Some(Distribution::Plane(3)));
        assert_eq!(Distribution::parse("plane=4", None), Some(Distribution::Plane(4)));
        assert_eq!(Distribution::parse("plane=0", None), None);
        assert_eq!(Distribution::parse("arbitrary", None), None);
    }

    proptest! {
        #[test]
        fn each_node_gets_its_tasks(tasks in prop::collection::vec(0u32..9, 0..12), plane in 1u32..5) {
            for d in [Distribution::Block, Distribution::Cyclic, Distribution::Plane(plane)] {
                let map = d.nodes(&tasks);
                for (node, &n) in (0u32..).zip(&tasks) {
                    prop_assert_eq!(map.iter().filter(|&&m| m == node).count() as u32, n);
                }
                prop_assert_eq!(map.len() as u32, tasks.iter().sum::<u32>());
            }
        }
    }
}
