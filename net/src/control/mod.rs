//! The rank's end of the control plane: one small thread that answers the job master, whatever the program is doing.

pub mod client;
mod hooks;
mod keeper;
pub mod protocol;

pub use client::{Control, ControlConfig, Pending};
pub(crate) use hooks::{hosts_master, is_default};
pub use protocol::{JobId, JobSettings, Protection, StopReason, TransportChoice};
