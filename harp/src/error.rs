//! The one error type of `harp`.

use crate::schedule::{TaskError, Work};
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
        "partition {id} has {have} elements here and {came} in the one that came{}\n  help: partitions of one id must have the same length to be combined",
        .from.map_or(String::new(), |rank| format!(" from rank {rank}"))
    )]
    Lengths {
        /// Id of the partition.
        id: u64,
        /// Elements of the one that was there.
        have: usize,
        /// Elements of the other one.
        came: usize,
        /// The rank that it came from, if it is not of this one.
        from: Option<u32>,
    },
    /// A table that a peer sent does not decode.
    #[error("rank {rank} sent a table that does not decode: {what}")]
    Decode {
        /// The sender.
        rank: u32,
        /// What is wrong with it.
        what: String,
    },
    /// A partition cannot be written for another rank.
    #[error("partition {id} cannot be sent: {what}")]
    Encode {
        /// Id of the partition.
        id: u64,
        /// What its `Serialize` says.
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
    /// A partitioner that sends a partition to a rank that does not exist.
    #[error("partitioner `{name}` sends partition {id} to rank {rank} in a world of {size} ranks")]
    Partitioner {
        /// Its name.
        name: &'static str,
        /// Id of the partition.
        id: u64,
        /// The rank that it gave.
        rank: u32,
        /// Ranks there are.
        size: u32,
    },
    /// A call whose arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// A combiner that is said to be associative and is not.
    #[error(
        "combiner `{name}` is not associative, as it says: for three partitions of id {id}, (a . b) . c and a . (b . c) differ: {difference}\n  help: make it so, or say so with Custom::in_sequence"
    )]
    NotAssociative {
        /// Its name.
        name: &'static str,
        /// Id of the partitions.
        id: u64,
        /// Where the two results differ.
        difference: String,
    },
    /// What a worker thread's task said of its work.
    #[error("{work}: {source}")]
    Task {
        /// What it worked on.
        work: Work,
        /// The user's own error.
        #[source]
        source: TaskError,
    },
    /// A worker thread's task panicked.
    #[error("{work}: panicked: {what}")]
    Panicked {
        /// What it worked on.
        work: Work,
        /// The panic's message.
        what: String,
    },
}

impl HarpError {
    /// The exit code that a program ends with when this error ends it.
    pub fn exit_code(&self) -> u8 {
        match self {
            HarpError::Net(e) => e.exit_code(),
            HarpError::Decode { .. } => aeolian_net::exit::PROTOCOL,
            HarpError::Usage(_) | HarpError::Encode { .. } => NetError::Usage(String::new()).exit_code(),
            // A task may itself have got one of our errors.
            HarpError::Task { source, .. } => match (source.downcast_ref(), source.downcast_ref()) {
                (Some(e), _) => HarpError::exit_code(e),
                (_, Some(e)) => NetError::exit_code(e),
                _ => aeolian_net::exit::PROGRAM,
            },
            HarpError::Panicked { .. } => aeolian_net::exit::PANICKED,
            HarpError::Lengths { .. }
            | HarpError::Root { .. }
            | HarpError::Partitioner { .. }
            | HarpError::NotAssociative { .. } => aeolian_net::exit::MISMATCH,
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
