//! Ranks and wires.

pub mod bytes;
pub mod error;
pub mod exit;
pub mod topology;

pub use error::{Blame, NetError, Result};
