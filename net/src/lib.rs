//! Ranks and wires.

pub mod bytes;
mod dl;
pub mod error;
pub mod exit;
pub mod mpi;
pub mod pmi;
pub mod topology;

pub use error::{Blame, NetError, Result};
