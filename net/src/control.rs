//! The control connection of a rank to the job master: registration, heartbeats, small exchanges, receipts, blame.
//!
//! Liveness must not depend on user code calling in, so each rank has one small thread (`aeolian-control`) that
//! answers the master. It moves no data.

mod client;
mod connect;
mod hooks;
pub mod protocol;
mod shared;
mod thread;

pub use client::Control;
pub use connect::{ControlConfig, Pending};
pub use hooks::install_process_hooks;
pub use protocol::{Card, JobId, JobInfo, JobSettings, OpName, Protection, TransportChoice};

#[cfg(test)]
mod tests;
