//! The one error type of `ops`.

use crate::spill::SpillError;
use aeolian_net::NetError;

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
}

impl OpsError {
    /// The exit code that a program ends with when this error ends it.
    pub fn exit_code(&self) -> u8 {
        match self {
            OpsError::Net(e) => e.exit_code(),
            OpsError::Spill(_) => aeolian_net::exit::PROGRAM,
        }
    }
}

/// What operators return.
pub type Result<T, E = OpsError> = std::result::Result<T, E>;
