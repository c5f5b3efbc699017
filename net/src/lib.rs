//! Ranks and wires.

pub mod bytes;
mod cgroup;
pub mod error;
pub mod exit;
pub mod interfaces;
pub mod memory;
pub mod node;
pub mod topology;
pub mod verdict;

pub use error::{Blame, NetError, Result};
