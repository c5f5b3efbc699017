//! Ranks and wires.

pub mod bytes;
mod cgroup;
mod dl;
pub mod error;
pub mod exit;
pub mod interfaces;
pub mod memory;
pub mod mpi;
pub mod node;
pub mod pmi;
pub mod topology;
pub mod verdict;

pub use error::{Blame, NetError, Result};
