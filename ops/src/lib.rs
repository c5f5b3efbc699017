//! Dataflow operators: typed streams of records between tasks, with back-pressure, barriers and spilling to disk.
//!
//! An operator connects *sources* to *targets*: logical tasks, which a [`LogicalPlan`] puts on ranks, several or none on each. A
//! program inserts records at its sources, and a [`Receiver`] gets what comes to its targets:
//!
//! ```
//! use aeolian_ops::{Dataflow, Insert, KeyedReduce, LogicalPlan, Operator, taking};
//! let counts = aeolian_net::World::local(3, |world| {
//!     let flow = Dataflow::new(&world)?;
//!     let mut counts: Vec<(String, u64)> = Vec::new();
//!     {
//!         let take = taking(|_target, batch| counts.extend(batch));
//!         let plan = LogicalPlan::each_rank(&world);
//!         let mut op = KeyedReduce::new(&flow, &plan, |count: &mut u64, more| *count += more, take)?;
//!         op.insert_all(world.rank(), [("wind".into(), 1), ("harp".into(), 1)])?;
//!         op.finish(world.rank())?;
//!         op.complete()?;
//!     }
//!     world.finish()?;
//!     Ok(counts)
//! })?;
//! let mut counts = counts.concat();
//! counts.sort();
//! assert_eq!(counts, [("harp".into(), 3), ("wind".into(), 3)]);
//! # Ok::<(), aeolian_net::NetError>(())
//! ```
//!
//! # The operators
//!
//! | operator | tasks | what targets get |
//! |---|---|---|
//! | [`Direct`] | i to i | the records of their source, in order |
//! | [`Partition`], [`KeyedPartition`] | M to N | the records that a [`Selector`] gives them |
//! | [`Broadcast`] | M to N | all records |
//! | [`Gather`], [`AllGather`] | M to 1, M to N | all records with their sources |
//! | [`Reduce`], [`AllReduce`] | M to 1, M to N | one value of all |
//! | [`KeyedReduce`] | M to N | one value of each of their keys |
//! | [`KeyedGather`], [`KeyedGatherUngrouped`] | M to N | all values of each of their keys together, in any order of keys or by key |
//! | [`Join`] | M to N | rows of two sides with the same key: inner, left, right, full, semi, anti |
//! | [`Sort`] | M to N | all records in one order, over all targets |
//! | [`Distinct`] | M to N | each of their records once |
//! | [`TopK`] | M to 1 | the largest records, in order |
//! | [`Union`] | M to N | all records, where they are |
//! | [`ZipWithIndex`] | i to i | the records of their source, with their numbers among all |
//! | [`Pipe`] | i to i | the lines that a program makes of those of their source |
//!
//! The book's page on [dataflow operators] has an example of each, and what each costs.
//!
//! Direct, the partitions, broadcast, the gathers and union bring records as they are, and do so in [streams](Dataflow::streaming) without an end, too;
//! [`windows`] says what of a stream is counted together. Not here yet: operators of streams that keep something for each key, sources and sinks.
//!
//! [dataflow operators]: https://github.com/aeolian-hpc/aeolian/blob/main/docs/src/operators.md
//!
//! # What this crate promises
//!
//! * **Nothing moves by itself.** No thread carries data: an operator moves while the program [progresses](Operator::progress) it or waits
//!   for it. Any number may be under way on one world, each with its own room; a rank that waits for one moves only that, or those that it names
//!   ([`complete_all`]). (Threads, where the kernel has no `io_uring`, do
//!   nothing but read and write disks.)
//! * **Back-pressure is seen.** An insert that does not fit hands its record back; a receiver may refuse.
//! * **Batches, not records.** Records of one size lie one behind another, without lengths or frames ([`record`]); keys are hashed once at
//!   each end, and tables stay in the cache.
//! * **Memory is bounded.** Operators reserve from one budget ([`memory`]); what it has no room for goes to disk ([`spill`]). Nobody waits
//!   for memory.
//! * **Keys are defined.** `-0.0` is `0.0`, NaN is one key, and the hash of a key is the same on all ranks ([`Key`]).
//! * **Barriers are aligned** on each edge: a receiver hears of one when it has come from all sources, between what was before it and what
//!   is after it. (Operators that give only when all sources have finished pass on the marks, and give all records after them.)
//! * **Ranks that disagree** about operator, record type or plan are told so.
//!
//! It stands on `aeolian-net` only; `aeolian-harp` and this crate do not know each other.

mod batch;
mod carrier;
mod combining;
mod common;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod damaged;
mod dataflow;
mod early;
mod error;
mod exchange;
mod filling;
mod forward;
mod gathering;
mod grouping;
mod joining;
pub mod key;
mod keyed_report;
pub mod memory;
#[cfg(test)]
#[path = "../../net/tests/mutate/mod.rs"]
mod mutate;
mod operator;
mod operators;
mod outbox;
mod parts;
mod plan;
mod prefetch;
pub mod record;
mod reduction;
mod relay;
mod scatter;
mod selector;
mod sorting;
pub mod spill;
mod stores;
mod stream;
mod table;
mod tags;
pub mod windows;

pub use batch::{Batch, Records};
pub use dataflow::{Dataflow, Options, Streaming, Ways};
pub use error::{OpsError, Result};
pub use gathering::Order;
pub use joining::{JoinKind, Joiner, Where};
pub use key::Key;
pub use keyed_report::KeyedReport;
pub use operator::{
    Full, Insert, InsertError, Operator, Receiver, Trying, complete_all, drive, taking, trying,
};
pub use operators::{
    AllGather, AllReduce, Broadcast, Direct, Distinct, Gather, Group, Join, JoinAlgorithm, JoinReport,
    KeyedGather, KeyedGatherUngrouped, KeyedPartition, KeyedReduce, Lists, Partition, Pipe, Reduce, Side,
    Sort, TopK, Union, ZipWithIndex,
};
pub use plan::LogicalPlan;
pub use record::{Plain, Record, Serde};
pub use selector::{ByHash, ByKey, ByRange, Keyed, RoundRobin, Selector, target_of};
pub use sorting::by::{Ascending, Descending, SortBy};
