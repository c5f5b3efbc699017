//! Ranks and wires.

pub mod error;
pub mod exit;

pub use error::{Blame, NetError, Result};
