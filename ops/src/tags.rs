//! [`Tags`]: what a message of an operator's edge is, as its tag says.

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records for a slot.
    Batch = 0,
    /// Records for all targets of the rank.
    ForAll = 1,
    /// Batches for several slots ([`relay`](crate::relay)).
    Bundle = 2,
    /// In place of a slot: the rank that the next batch is from.
    Origin = 3,
    /// A mark: all sources of the rank are at a barrier, or have finished.
    Barrier = 4,
    /// All have finished.
    End = 5,
    /// Of a stream: the watermark of the rank's sources, or (in place of a slot: 1) that they are idle.
    Watermark = 6,
}

const KINDS: [Kind; 7] =
    [Kind::Batch, Kind::ForAll, Kind::Bundle, Kind::Origin, Kind::Barrier, Kind::End, Kind::Watermark];

/// The tags of an edge in a round: kind (8 bits), a fingerprint of the operator, its plan and types and the round (24 bits), and a number, which
/// is the slot (32 bits).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    fingerprint: u64,
}

impl Tags {
    /// With what a hash has of all that ranks must have in common.
    pub(crate) fn new(hash: u64) -> Tags {
        Tags { fingerprint: hash & 0xff_ffff }
    }

    pub(crate) fn tag(self, kind: Kind, number: u32) -> u64 {
        (kind as u64) << 56 | self.fingerprint << 32 | u64::from(number)
    }

    /// The kind and number of a tag, if it is one of these.
    #[inline]
    pub(crate) fn read(self, tag: u64) -> Option<(Kind, u32)> {
        let kind = KINDS.get((tag >> 56) as usize)?;
        (tag >> 32 & 0xff_ffff == self.fingerprint).then_some((*kind, tag as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_as_what_it_was_written_as_and_by_nobody_else() {
        let (ours, theirs) = (Tags::new(0x12_3456_789a), Tags::new(0x9b));
        for kind in KINDS {
            let tag = ours.tag(kind, u32::MAX - 1);
            assert_eq!(ours.read(tag), Some((kind, u32::MAX - 1)));
            assert_eq!(theirs.read(tag), None);
        }
        assert_eq!(ours.read(ours.tag(Kind::Watermark, 0) + (1 << 56)), None);
    }
}
