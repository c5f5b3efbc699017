//! Dataflow operators, batch and streaming. **Planned: this crate has no code yet.**
//!
//! What will be here, so that the layers below are built for it:
//!
//! * A *logical plan*: task ids for sources and targets, and on which rank each is.
//! * Operators, each a typed state machine on one edge of the world: `insert(source, value)`, `finish(source)`, `progress()`,
//!   `is_complete()`, and a receiver. Batch operators end; streaming ones do not.
//!   - whole values: reduce, allreduce, gather, allgather, broadcast, direct, partition;
//!   - keyed: partition, reduce, gather, join (inner, left, right, full outer).
//! * Spilling: over the memory budget of the rank (`aeolian_net::memory`), operators write a few large sequential files, with
//!   checksums, unlinked on creation, in several directories.
//! * Barriers that are aligned on each edge, for checkpoints.
//! * Windows by count, processing time and event time.
//!
//! What is promised for it: batches instead of items on the hot path, back-pressure that the caller sees, and skew that is
//! survived (one key with most of the data streams through disk). It will stand on `aeolian-net` only; `aeolian-harp` and this
//! crate do not know each other.

mod batch;
mod dataflow;
mod early;
mod error;
mod exchange;
mod forward;
mod grouping;
pub mod key;
pub mod memory;
mod operator;
mod operators;
mod outbox;
mod parts;
mod plan;
pub mod record;
mod reduction;
mod selector;
pub mod spill;
mod table;

pub use batch::{Batch, Records};
pub use dataflow::{Dataflow, Options};
pub use error::{OpsError, Result};
pub use key::Key;
pub use operator::{Full, Insert, InsertError, Operator, Receiver, drive, taking};
pub use operators::{
    AllGather, AllReduce, Broadcast, Direct, Gather, KeyedPartition, KeyedReduce, Partition, Reduce,
};
pub use plan::LogicalPlan;
pub use record::{Plain, Record, Serde};
pub use selector::{ByHash, ByKey, ByRange, Keyed, RoundRobin, Selector, target_of};
