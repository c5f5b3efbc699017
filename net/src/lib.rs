//! Ranks and wires.

mod dl;
pub mod error;
pub mod exit;
pub mod mpi;
pub mod pmi;

pub use error::{Blame, NetError, Result};
