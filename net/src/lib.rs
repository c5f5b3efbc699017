//! Ranks and wires.

pub mod bytes;
mod cgroup;
pub mod control;
mod dl;
pub mod error;
pub mod exit;
pub mod interfaces;
pub mod master;
pub mod memory;
pub mod mpi;
pub mod node;
pub mod noise;
pub mod pmi;
pub mod rendezvous;
pub mod secret;
pub mod topology;
pub mod verdict;

pub use error::{Blame, NetError, Result};
