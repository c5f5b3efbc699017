//! Harp-style bulk-synchronous collectives on partitioned tables.
//!
//! A [`Table`] holds *partitions* by id: arrays of any plain-old-data element. When two partitions of one id meet, the
//! table's [`Combiner`] makes one of them. The collectives move and combine partitions between the ranks of a
//! [`World`](aeolian_net::World); the model is that of Harp (Zhang, Ruan, Qiu: *Harp: Collective Communication on
//! Hadoop*, IC2E 2015), the algorithms are those of the MPI literature and are named where they stand.
//!
//! # What this crate promises
//!
//! * Every rank calls the same collectives in the same order. A rank that does not is found and named
//!   ([`HarpError::Net`] with [`NetError::Mismatch`](aeolian_net::NetError::Mismatch), or the job master's verdict if all
//!   wait): never a hang, never garbage.
//! * Partitions are combined in rank order, so a combiner needs to be associative, not commutative; and all ranks get the
//!   same bits from one collective, floating point included. Another number of ranks may round differently.
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
mod codec;
mod collective;
mod combiner;
mod error;
mod table;

pub use array::{Array, Element};
pub use collective::allgather::allgather;
pub use collective::allreduce::{allreduce, allreduce_slice};
pub use collective::barrier::barrier;
pub use collective::broadcast::broadcast;
pub use collective::gather::gather;
pub use collective::reduce::reduce;
pub use combiner::{Combiner, Custom, Max, Min, Minus, Product, Sum};
pub use error::{HarpError, Result};
pub use table::{Added, Table};
