//! The job master: ranks register with it, it tells each about all, hears their heartbeats, and when something goes wrong
//! decides once what it was and tells everybody.
//!
//! [`state`] is the machine without input or output; [`server`] gives it sockets, a clock and a thread. It is hosted by
//! `aeolian run`, or by rank 0 where somebody else started the ranks; that is why it lives on this floor.

pub mod server;
pub mod state;

pub use server::{Master, MasterConfig};
pub use state::{Outcome, RankExit, RankView};
