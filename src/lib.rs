//! Aeolian: big-data processing that is native to HPC machines.
//!
//! A job is a set of *ranks* that run one binary. This crate is the front door: it re-exports every layer.
//!
//! | layer | crate | what it has |
//! |---|---|---|
//! | ranks and wires | [`net`] | [`World`]: launch detection, shared memory, TCP, MPI, in-process; job master; topology |
//! | bulk-synchronous | [`harp`] | partitioned tables and collectives on them |
//! | dataflow | [`ops`] | operators between tasks, on data that end, with spilling |
//! | Slurm | [`slurm`] | environment, host lists, batch scripts |
//!
//! The same program runs alone, under `aeolian run`, `mpirun`, `mpiexec` and `srun`, without rebuilding:
//!
//! ```no_run
//! use aeolian::harp::{Sum, allreduce_slice};
//!
//! fn main() -> std::process::ExitCode {
//!     aeolian::main(|world| {
//!         let mut sum = [u64::from(world.rank())];
//!         allreduce_slice(world, &mut sum, Sum)?;
//!         println!("rank {} of {}: {}", world.rank(), world.size(), sum[0]);
//!         Ok(())
//!     })
//! }
//! ```

pub use aeolian_harp as harp;
pub use aeolian_net as net;
pub use aeolian_ops as ops;
pub use aeolian_slurm as slurm;

mod entry;
pub mod selftest;

pub use aeolian_net::World;
pub use entry::{Failure, main, run};

/// What most programs want.
pub mod prelude {
    pub use crate::Failure;
    pub use crate::harp::{Combiner, Max, Min, Product, Sum, Table};
    pub use crate::net::{Buf, World};
}

// The book's Rust examples are compiled and run as documentation tests.
#[cfg(doctest)]
mod book;
