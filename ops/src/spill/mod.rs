//! Spilling: what an operator cannot keep in memory goes to scratch files.

mod error;

pub use error::SpillError;
