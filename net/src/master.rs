//! The job master: whom ranks register with, who listens to their hearts, and who says what the job died of.
//!
//! [`state`] holds the rules, without clock or sockets; [`Master`] runs them on a thread (`aeolian-master`) of the
//! launcher, or of rank 0 where another launcher started us.

mod admission;
mod ranks;
mod server;
pub mod state;
mod words;

pub use ranks::{RankExit, RankStatus, RankView};
pub use server::{Master, MasterConfig};
pub use state::Outcome;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod state_tests;
