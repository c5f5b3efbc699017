//! Ranks and wires.

pub mod buffer;
pub mod bytes;
pub mod control;
mod dl;
mod engine;
pub mod error;
pub mod exit;
pub mod launcher;
pub mod master;
pub mod mpi;
pub mod noise;
pub mod pmi;
pub mod secret;
mod supervisor;
pub mod topology;
pub mod transport;
mod wait;
pub mod world;

pub use buffer::Buf;
pub use engine::{MESSAGE_COST, Message, Traffic, WINDOW};
pub use error::{Blame, NetError, Result};
pub use supervisor::OpName;
pub use world::{Edge, Layout, TrySendError, World};

/// This machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
