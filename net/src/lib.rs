//! Ranks and wires.

mod bootstrap;
pub mod buffer;
pub mod bytes;
mod cgroup;
pub mod control;
mod dl;
pub mod doctor;
mod engine;
pub mod error;
pub mod exit;
pub mod interfaces;
pub mod launcher;
pub mod limits;
pub mod master;
pub mod memory;
pub mod mpi;
pub mod node;
pub mod noise;
mod panics;
pub mod pmi;
pub mod rendezvous;
pub mod scratch;
pub mod secret;
mod supervisor;
pub mod topology;
pub mod transport;
pub mod verdict;
mod wait;
pub mod world;

pub use buffer::Buf;
pub use engine::{MESSAGE_COST, Message, Traffic, WINDOW};
pub use error::{Blame, NetError, Result};
pub use supervisor::OpName;
pub use world::{Edge, Layout, TrySendError, World};
