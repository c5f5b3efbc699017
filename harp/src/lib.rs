//! Harp-style bulk-synchronous collectives on partitioned tables.
//!
//! A [`Table`] holds *partitions* by id: arrays of any plain-old-data element, or values of any `serde` type ([`Serde`]). When two partitions of
//! one id meet, the table's [`Combiner`] makes one of them. The collectives move and combine partitions between the ranks of a
//! [`World`](aeolian_net::World); the model is that of Harp (Zhang, Ruan, Qiu: *Harp: Collective Communication on
//! Hadoop*, IC2E 2015), the algorithms are those of the MPI literature and are named where they stand.
//!
//! # The collectives
//!
//! | call | what becomes of the tables |
//! |---|---|
//! | [`barrier`] | nothing; no rank goes on before all have come |
//! | [`broadcast`] | all get copies of the root's partitions |
//! | [`reduce`], [`allreduce`] | the root's, or everybody's, becomes the combination of all |
//! | [`gather`], [`allgather`] | the root's, or everybody's, becomes the union of all |
//! | [`scatter`] | the root's partitions go to the ranks that a [`Partitioner`] gives |
//! | [`alltoall`] | one table to each rank |
//! | [`regroup`] | partitions go to their partitioner's ranks, and are combined there (MPI's reduce-scatter) |
//! | [`aggregate`] | regroup, a function on each, allgather |
//! | [`push`], [`pull`] | between a rank's own table and one spread over the ranks |
//! | [`join`] | partitions go where another table has their ids |
//! | [`regroup_kv`], [`allreduce_kv`], [`reduce_kv`], [`broadcast_kv`], [`group_by_key`] | the same for keys with values ([`KvTable`]) |
//! | [`allreduce_slice`], [`reduce_slice`], [`broadcast_slice`], [`allgather_slice`] | the same for plain slices of one length |
//! | [`rotate`] | whole tables go to the next rank, or by a permutation |
//! | [`scan`], [`exscan`] | each rank gets the combination of those before it |
//! | [`split`], [`split_by_node`] | worlds of some of the ranks |
//! | [`send_event`], [`poll_event`], [`wait_event`] | messages beside all this |
//! | [`schedule`] | worker threads inside a rank, and slices of a model that rotate meanwhile |
//!
//! Each, but [`split`], has a form that starts it and returns a [`Pending`], named with an `i` in front as in MPI: [`iallreduce`] takes the table and
//! gives it back when it is waited for. Any number may be under way; every call into the world moves them all.
//!
//! # What this crate promises
//!
//! * Every rank calls the same collectives in the same order. A rank that does not is found and named
//!   ([`HarpError::Net`] with [`NetError::Mismatch`](aeolian_net::NetError::Mismatch), or the job master's verdict if all
//!   wait): never a hang, never garbage.
//! * Partitions are combined in rank order, so a combiner needs to be associative, not commutative; and all ranks get the
//!   same bits from one collective, floating point included. Another number of ranks may round differently, but for sums of [`Binned`] elements. A combiner that says that
//!   it is not associative ([`Law`]) is applied one by one in the order of the ranks.
//! * Tables may be empty, have different ids on every rank, partitions of no elements; one rank is an ordinary case.
//!
//! ```
//! use aeolian_harp::{Sum, Table, allreduce};
//! use aeolian_net::World;
//! let totals = World::local(3, |mut world| {
//!     let mut table = Table::<f64, Sum>::new(Sum);
//!     table.add(0, vec![1.0, f64::from(world.rank())])?;
//!     allreduce(&mut world, &mut table)?;
//!     world.finish()?;
//!     Ok(table.get(0).map(|p| p.to_vec()))
//! })?;
//! assert_eq!(totals, vec![Some(vec![3.0, 3.0]); 3]);
//! # Ok::<(), aeolian_net::NetError>(())
//! ```

mod array;
mod binned;
mod brief;
mod call;
mod check;
mod choice;
mod codec;
mod collective;
mod combiner;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod damaged;
mod data;
mod error;
mod events;
mod exchange;
mod far;
mod join;
mod kv;
#[cfg(test)]
#[path = "../../net/tests/mutate/mod.rs"]
mod mutate;
mod node;
mod partitioner;
pub mod schedule;
mod spread;
mod table;
pub mod tune;

pub use array::{Array, Element};
pub use binned::Binned;
pub use call::Pending;
pub use check::check_associative;
pub use collective::aggregate::{aggregate, iaggregate};
pub use collective::allgather::{allgather, iallgather};
pub use collective::allreduce::{allreduce, iallreduce};
pub use collective::alltoall::{alltoall, ialltoall};
pub use collective::barrier::{barrier, ibarrier};
pub use collective::broadcast::{broadcast, ibroadcast};
pub use collective::gather::{gather, igather};
pub use collective::join::{ijoin, join};
pub use collective::kv::{
    allreduce_kv, broadcast_kv, group_by_key, iallreduce_kv, ibroadcast_kv, igroup_by_key, ireduce_kv,
    iregroup_kv, reduce_kv, regroup_kv,
};
pub use collective::pull::{ipull, pull};
pub use collective::push::{ipush, push};
pub use collective::reduce::{ireduce, reduce};
pub use collective::regroup::{iregroup, regroup};
pub use collective::rotate::{Rotation, irotate, rotate};
pub use collective::scan::{exscan, iexscan, iscan, scan};
pub use collective::scatter::{iscatter, scatter};
pub use collective::slices::{
    allgather_slice, allreduce_slice, broadcast_slice, iallgather_slice, iallreduce_slice, ibroadcast_slice,
    ireduce_slice, reduce_slice,
};
pub use collective::split::{split, split_by_node};
pub use combiner::{Combiner, Custom, Law, Max, Min, Minus, Product, Sum};
pub use data::{Data, Serde};
pub use error::{HarpError, Result};
pub use events::{To, poll_event, send_event, try_send_event, wait_event};
pub use kv::{Field, Groups, KvTable};
pub use partitioner::{ById, Explicit, Hashed, Modulo, Partitioner, Ranges};
pub use spread::Spread;
pub use table::{Added, Table};
