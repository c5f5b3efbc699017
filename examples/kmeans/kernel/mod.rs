//! The inner loop of Lloyd's algorithm: assign every point to the nearest centroid and add the points up by cluster.
//!
//! It reads the rows where they lie (a memory map does). Nothing is kept for each point unless labels are asked for,
//! but for two to six bytes (at most an eighth of the data) where they help to leave out centroids: see `prune.rs`,
//! `known.rs` and [`Algorithm`]. One [`Prepared`] holds the centroids of an iteration, one [`Accum`] a thread what was added up; [`pass()`]
//! is the loop, [`pass_parallel`] spreads it over rayon's threads, and [`farthest()`] finds new places for empty clusters.
//! Instruction sets are chosen at run time, and there is no `unsafe` here: the vector code is `pulp`'s.
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
#[cfg(test)]
mod prune_tests;
mod real;
mod score;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use farthest::farthest;
pub(crate) use pass::{Accum, Algorithm, pass, pass_parallel, rows_of};
pub(crate) use prepared::Prepared;
pub(crate) use real::Real;
pub(crate) use score::scores;
