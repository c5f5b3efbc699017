//! The one error type of `harp`.

use aeolian_net::NetError;

/// What can go wrong in a table or a collective.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarpError {
    /// Between ranks.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Two partitions of one id whose lengths differ.
    #[error(
        "partition {id} has {have} elements here and {came} in the one that came{from}\n  help: partitions of one id must have the same length to be combined"
    )]
    Lengths {
        /// Id of the partition.
        id: u64,
        /// Elements of the one that was there.
        have: usize,
        /// Elements of the other one.
        came: usize,
        /// ` from rank 3`, or nothing for a local insert.
        from: String,
    },
    /// A table that a peer sent does not decode.
    #[error("rank {rank} sent a table that does not decode: {what}")]
    Decode {
        /// The sender.
        rank: u32,
        /// What is wrong with it.
        what: String,
    },
    /// A root rank that does not exist.
    #[error("root {root} in a world of {size} ranks")]
    Root {
        /// The rank asked for.
        root: u32,
        /// Ranks there are.
        size: u32,
    },
}

impl HarpError {
    /// The exit code that a program ends with when this error ends it.
    pub fn exit_code(&self) -> u8 {
        match self {
            HarpError::Net(e) => e.exit_code(),
            HarpError::Decode { .. } => aeolian_net::exit::PROTOCOL,
            HarpError::Lengths { .. } | HarpError::Root { .. } => aeolian_net::exit::MISMATCH,
        }
    }
}

impl From<HarpError> for NetError {
    /// For programs whose errors are [`NetError`].
    fn from(e: HarpError) -> NetError {
        match e {
            HarpError::Net(e) => e,
            other => NetError::Above { what: other.to_string(), code: other.exit_code() },
        }
    }
}

/// Shorthand.
pub type Result<T, E = HarpError> = std::result::Result<T, E>;
