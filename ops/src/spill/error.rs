//! [`SpillError`]: what went wrong with a spill file, and where.

/// What went wrong with a spill file, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// The system refused.
    #[error("{what} {path}: {source}")]
    Os {
        /// What was tried: `cannot create a spill file in`.
        what: String,
        /// The directory or file.
        path: String,
        /// Its answer.
        source: std::io::Error,
    },
}
