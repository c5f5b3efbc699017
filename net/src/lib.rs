//! Ranks and wires.

pub mod error;
pub mod exit;
pub mod mpi;
pub mod pmi;

pub use error::{Blame, NetError, Result};
