//! [`KeyedReport`]: how evenly keys were spread.

use aeolian_net::bytes::Bytes;

/// A part with so many times its share is one of few keys.
const SKEWED: u64 = 4;

/// How a keyed operator went at the targets of a rank, in this round: `report` of [`KeyedReduce`](crate::KeyedReduce),
/// [`KeyedGather`](crate::KeyedGather) and [`KeyedGatherUngrouped`](crate::KeyedGatherUngrouped).
///
/// ```
/// use aeolian_ops::{Batch, Dataflow, Insert, KeyedGatherUngrouped, LogicalPlan, Operator, Order, taking};
/// let world = aeolian_net::World::alone();
/// let flow = Dataflow::new(&world)?;
/// let take = taking(|_, _: Batch<(u32, u64)>| ());
/// let mut op = KeyedGatherUngrouped::new(&flow, &LogicalPlan::each_rank(&world), Order::Any, take)?;
/// // Nine of ten pairs have one key.
/// op.insert_all(0, (0..10_000).map(|i| (if i % 10 > 0 { 7 } else { i }, 1)))?;
/// op.finish(0)?;
/// op.complete()?;
/// assert!(op.report().is_skewed());
/// assert_eq!(op.report().to_string(), "117.2 KiB in 64 parts, the largest 105.6 KiB (skewed: few keys have most)");
/// # drop(op);
/// # world.finish()?;
/// # Ok::<(), aeolian_ops::OpsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct KeyedReport {
    /// Bytes of pairs that came to this rank's targets.
    pub bytes: u64,
    /// Parts into which keys are dealt by their hash.
    pub parts: u64,
    /// Bytes of the part with the most: more than its share if few keys have most pairs.
    pub largest_part: u64,
    /// Bytes of the values of the key with the most, where keys are grouped.
    pub largest_key: u64,
    /// Bytes of pairs for other ranks that this rank's sources added up before they sent them, and of what was left of them.
    pub combined: u64,
    /// See `combined`.
    pub sent_of_those: u64,
}

impl KeyedReport {
    /// Whether few keys have most of the pairs: one target has more to do than its share, or others would have if sources had not reduced what they had.
    pub fn is_skewed(&self) -> bool {
        self.parts > 1 && self.largest_part > SKEWED * self.bytes.div_ceil(self.parts)
            || self.largest_key > self.bytes / 2
    }

    /// So many more bytes came for a part.
    pub(crate) fn add(&mut self, of_part: &mut u64, bytes: usize) {
        self.bytes += bytes as u64;
        *of_part += bytes as u64;
        self.largest_part = self.largest_part.max(*of_part);
    }
}

impl std::fmt::Display for KeyedReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let KeyedReport { bytes, parts, largest_part, largest_key, combined, sent_of_those } = *self;
        write!(f, "{} in {parts} parts, the largest {}", Bytes(bytes), Bytes(largest_part))?;
        if largest_key > 0 {
            write!(f, ", the largest key {}", Bytes(largest_key))?;
        }
        if self.is_skewed() {
            write!(f, " (skewed: few keys have most)")?;
        }
        if combined > 0 {
            write!(f, "; of {} for other ranks {} were sent", Bytes(combined), Bytes(sent_of_those))?;
        }
        Ok(())
    }
}
