//! The one error type of `ops`.

use crate::spill::SpillError;
use aeolian_net::{NetError, exit};

/// What can go wrong in an operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// Between ranks.
    #[error(transparent)]
    Net(#[from] NetError),
    /// In a file that an operator spilled to.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// A plan that cannot be.
    #[error("{0}")]
    Plan(String),
    /// An operator that is used as it cannot be.
    #[error("{operator} on rank {rank}: {what}")]
    Usage {
        /// The operator, with its number on this world, and its edge if it has several: `partition #3`, `join #4 (left side)`.
        operator: String,
        /// This rank.
        rank: u32,
        /// What is wrong.
        what: String,
    },
    /// Records that cannot be read.
    #[error("{operator} on rank {rank}: {from} has records that cannot be read as {record}")]
    Decode {
        /// The operator, with its number on this world.
        operator: String,
        /// This rank.
        rank: u32,
        /// What they are in: `a batch`, or `a spilled run`. (Batches that an operator has kept, or sorts, are batches also if they were on disk.)
        from: String,
        /// Their type.
        record: &'static str,
    },
}

impl OpsError {
    /// The exit code that a program ends with when this error ends it.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpsError::Net(e) => e.exit_code(),
            OpsError::Spill(e) => e.exit_code(),
            OpsError::Plan(_) | OpsError::Usage { .. } => NetError::Usage(String::new()).exit_code(),
            OpsError::Decode { .. } => exit::PROTOCOL,
        }
    }
}

/// Whose error it is.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    /// The operator, with its number on this world.
    pub(crate) operator: String,
    /// This rank.
    pub(crate) rank: u32,
}

impl Whose {
    pub(crate) fn usage(&self, what: String) -> OpsError {
        OpsError::Usage { operator: self.operator.clone(), rank: self.rank, what }
    }

    /// Something has bytes that are no record.
    pub(crate) fn unreadable<T>(&self, from: &str) -> OpsError {
        let record = std::any::type_name::<T>();
        OpsError::Decode { operator: self.operator.clone(), rank: self.rank, from: from.into(), record }
    }

    /// A record has no bytes.
    pub(crate) fn unwritable<T>(&self) -> OpsError {
        let record = std::any::type_name::<T>();
        self.usage(format!(
            "a {record} cannot be written: its Serialize refuses, or it is longer than its size() says"
        ))
    }
}

impl From<OpsError> for NetError {
    /// For programs whose errors are [`NetError`].
    fn from(e: OpsError) -> NetError {
        match e {
            OpsError::Net(e) => e,
            other => NetError::Above { code: other.exit_code(), what: other.to_string() },
        }
    }
}

/// What operators return.
pub type Result<T, E = OpsError> = std::result::Result<T, E>;
