//! Ranks and wires: from a bare process to a [`World`] of ranks that can talk, under every launcher.
//!
//! [`World::init`] finds out who started this process (`aeolian run`, Open MPI's `mpirun`, MPICH's `mpiexec`, `srun`, or
//! nobody), meets the other ranks through a *job master*, and makes the wires: shared memory inside a node, TCP or MPI between
//! nodes. MPI is loaded at run time, never linked, so one executable serves all. [`World::local`] makes ranks of threads, for
//! tests:
//!
//! ```
//! use aeolian_net::{Buf, World};
//!
//! // Every rank sends a number to rank 0, which adds them up.
//! let sums = World::local(4, |mut world| {
//!     let edge = world.open_edge()?;
//!     world.send(edge, 0, 0, Buf::from_pod(&[u64::from(world.rank())]))?;
//!     let mut sum = 0;
//!     if world.rank() == 0 {
//!         for _ in 0..world.size() {
//!             sum += world.recv(edge)?.body.cast::<u64>()[0];
//!         }
//!     }
//!     world.finish()?;
//!     Ok(sum)
//! })?;
//! assert_eq!(sums, [6, 0, 0, 0]);
//! # Ok::<(), aeolian_net::NetError>(())
//! ```
//!
//! # What this crate promises
//!
//! * **Order.** On each edge, messages from one rank to another arrive in the order in which they were sent, once and unaltered,
//!   or there is an error.
//! * **No hidden data threads.** Messages move only while the program is in one of the world's calls. Each rank of a job has
//!   one small control thread for the job master, so a rank that computes is alive.
//! * **Owned buffers.** A [`Buf`] is handed over with a send and comes out of a receive; there are no lifetimes to keep.
//! * **Any size, bounded memory.** A message has from zero bytes up; the receiver allocates as bytes arrive. What piles up for
//!   one edge from one peer is at most [`WINDOW`] bytes plus one message; [`World::try_send`] hands back what does not fit.
//! * **Idle costs nothing.** Waiting spins briefly, yields, then sleeps (MPI is polled, about a thousand times a second).
//! * **Success is never an accident.** A job succeeds when every rank has called [`World::finish`]. Whatever else happens (a rank
//!   killed, stopped, gone early, panicking, waiting for ever, in another operation) ends all ranks in bounded time with one
//!   [`Blame`] and an exit code of [`exit`].
//! * **Nobody else joins.** A job has a secret; every connection proves it ([`noise`]) before another byte is interpreted.
//!   Listening is on loopback while all ranks are on one node.
//! * **Nothing is left behind.** Shared memory has no name, ports are the system's choice, and a meeting file (only under `srun`
//!   without MPI or PMI) is removed when all have come.
//!
//! # What it does not
//!
//! A lost rank is not replaced: the job ends. Messages that MPI carries are neither encrypted nor authenticated by this crate. It
//! runs on Linux only.
//!
//! # Where to look
//!
//! | module | what it has |
//! |---|---|
//! | [`world`], [`buffer`] | what programs use |
//! | [`launcher`], [`pmi`], [`rendezvous`], [`mpi`] | how ranks are recognised and find each other |
//! | [`transport`] | the contract of wires, and the wires |
//! | [`master`], [`control`], [`noise`], [`secret`], [`verdict`] | the job master and the way to it |
//! | [`error`], [`exit`] | errors, exit codes |
//! | [`topology`], [`node`], [`memory`], [`interfaces`], [`tuning`] | what this machine is like |

mod alone;
mod bootstrap;
pub mod buffer;
pub mod bytes;
mod cgroup;
pub mod control;
mod copying;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod damaged;
mod dl;
pub mod doctor;
mod engine;
pub mod error;
pub mod exit;
mod fences;
pub mod interfaces;
pub mod launcher;
pub mod limits;
mod local;
pub mod master;
pub mod memory;
pub mod mpi;
#[cfg(test)]
#[path = "../tests/mutate/mod.rs"]
mod mutate;
pub mod node;
pub mod noise;
mod panics;
pub mod pmi;
mod pool;
mod private;
pub mod rendezvous;
pub mod scratch;
pub mod secret;
pub mod shared;
mod supervisor;
pub mod topology;
pub mod transport;
pub mod tuning;
pub mod verdict;
mod wait;
pub mod world;

pub use buffer::Buf;
pub use engine::{MESSAGE_COST, Message, Traffic, WINDOW};
pub use error::{Blame, NetError, Result};
pub use supervisor::OpName;
pub use world::{Edge, Layout, Nodes, Pending, TrySendError, World};
