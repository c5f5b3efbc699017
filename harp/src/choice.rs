//! Which algorithm serves which size and number of ranks.

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

impl Choice {
    /// What holds where nothing was measured: a message costs some ten microseconds on TCP, in which a link of 10 Gbit/s moves about these eight KiB.
    const DEFAULT: Choice = Choice { eager: 8 << 10, ring_share: 64 << 10, piece: 256 << 10, sparse: 8 };

    /// The bounds in force.
    pub(crate) fn current() -> &'static Choice {
        &Choice::DEFAULT
    }
}
