//! Ranks and wires.

pub mod control;
pub mod error;
pub mod exit;
pub mod master;
pub mod noise;
pub mod rendezvous;
pub mod secret;

pub use error::{Blame, NetError, Result};
