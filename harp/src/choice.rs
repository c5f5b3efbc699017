//! Which algorithm serves which size and number of ranks.

use aeolian_net::World;
use aeolian_net::tuning::Values;

/// The bounds between the algorithms for messages. All ranks must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// A table of up to so many encoded bytes goes with the first messages of a collective (recursive doubling, Bruck); of a longer one
    /// those say only what it is like.
    pub(crate) eager: usize,
    /// A ring is taken for shares of at least so many bytes, if halving would leave ranks over (their number is no power of two).
    pub(crate) ring_share: usize,
    /// Bytes of a message, where long data is cut so that parts of the way overlap.
    pub(crate) piece: usize,
    /// From so many partners on a rank first finds out which of them have something for it.
    pub(crate) sparse: u32,
}

/// Lower than this, a piece would be little more than its header; higher, several of them would not be under way in an edge's window.
const PIECE: std::ops::RangeInclusive<u64> = 1 << 10..=4 << 20;

impl Choice {
    /// What holds where nothing was measured: a message costs some ten microseconds on TCP, in which a link of 10 Gbit/s moves about these eight KiB.
    pub(crate) const DEFAULT: Choice =
        Choice { eager: 8 << 10, ring_share: 64 << 10, piece: 256 << 10, sparse: 8 };

    /// The bounds in force in a world: those of the job's tuning file, if it has one.
    pub(crate) fn of(world: &World) -> Choice {
        Choice::from_values(|name| world.tuned(name))
    }

    /// From numbers by name; the default for those that are not there.
    fn from_values(get: impl Fn(&str) -> Option<u64>) -> Choice {
        let Choice { eager, ring_share, piece, sparse } = Choice::DEFAULT;
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Choice {
            eager: get("eager").map_or(eager, bytes),
            ring_share: get("ring_share").map_or(ring_share, bytes),
            piece: get("piece").map_or(piece, |n| bytes(n.clamp(*PIECE.start(), *PIECE.end()))),
            sparse: get("sparse").map_or(sparse, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        }
    }

    /// As numbers by name.
    pub(crate) fn values(&self) -> Values {
        let Choice { eager, ring_share, piece, sparse } = *self;
        [
            ("eager", eager as u64),
            ("ring_share", ring_share as u64),
            ("piece", piece as u64),
            ("sparse", sparse.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_name_come_back_and_senseless_ones_are_bounded() {
        assert_eq!(Choice::from_values(|_| None), Choice::DEFAULT);
        let choice = Choice { eager: 0, ring_share: usize::MAX, piece: 4096, sparse: 3 };
        let values = choice.values();
        assert_eq!(Choice::from_values(|name| values.get(name).copied()), choice);
        assert_eq!(Choice::from_values(|_| Some(0)).piece, 1 << 10);
        let most = Choice::from_values(|_| Some(u64::MAX));
        assert_eq!((most.eager, most.piece, most.sparse), (usize::MAX, 4 << 20, u32::MAX));
    }

    #[test]
    fn a_world_has_the_default_until_it_is_told_otherwise() {
        World::local(2, |mut world| {
            assert_eq!(Choice::of(&world), Choice::DEFAULT);
            let other = Choice { eager: 1, ..Choice::DEFAULT };
            world.set_tuned(other.values());
            assert_eq!(Choice::of(&world), other);
            let half = crate::collective::split::split(&mut world, Some(0), 0).unwrap().unwrap();
            assert_eq!(Choice::of(&half), other, "also in its parts");
            world.finish()
        })
        .unwrap();
    }
}
