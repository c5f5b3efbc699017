//! The inner loop of Lloyd's algorithm: assign every point to the nearest centroid and add the points up by cluster.
//!
//! It reads the rows where they lie (a memory map does). Nothing is kept for each point unless labels are asked for,
//! but for two to six bytes (at most an eighth of the data) where they help to leave out centroids: see `prune.rs`,
//! `known.rs` and [`Algorithm`]. One [`Prepared`] holds the centroids of an iteration, one [`Accum`] a thread what was added up; [`pass()`]
//! is the loop, [`pass_parallel`] spreads it over rayon's threads, and [`farthest()`] finds new places for empty clusters.
//! Instruction sets are chosen at run time, and there is no `unsafe` here: the vector code is `pulp`'s. It is a crate of its
//! own because it takes the compiler longer than all the rest: what is compiled for a type ([`Real`]'s hidden functions) is
//! compiled here, once, and not in each program and test that uses it.
//!
//! The C program in `perf/kmeans` has the same tiles, blocks and two ways to the smallest score; it has no pruning, so
//! compare with [`Algorithm::Lloyd`] to compare code, and with [`Algorithm::Auto`] to compare programs.
mod add;
mod aligned;
mod assign;
mod farthest;
mod grid;
mod known;
mod pass;
mod prepared;
mod prune;
mod real;
mod score;
mod tile;

pub use farthest::farthest;
pub use pass::{Accum, Algorithm, pass, pass_on, pass_parallel, rows_of};
pub use prepared::Prepared;
#[doc(hidden)]
pub use pulp::Arch;
#[cfg(target_arch = "x86_64")]
#[doc(hidden)]
pub use pulp::x86::V3;
pub use real::Real;
pub use score::scores;
