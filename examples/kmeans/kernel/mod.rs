//! The inner loop of Lloyd's algorithm: assign every point to the nearest centroid and add the points up by cluster.
//!
//! It reads the rows where they lie (a memory map does) and keeps nothing for each point unless labels are asked for, so
//! the memory of k-means is that of its data. One [`Prepared`] holds the centroids of an iteration, one [`Accum`] a
//! thread what was added up; [`pass()`] is the loop, [`pass_parallel`] spreads it over rayon's threads, and [`farthest()`]
//! finds new places for empty clusters. Instruction sets are chosen at run time, and there is no `unsafe` here: the vector
//! code is `pulp`'s.
mod add;
mod aligned;
mod assign;
mod farthest;
mod grid;
mod pass;
mod prepared;
mod prune;
#[cfg(test)]
mod prune_tests;
mod real;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use farthest::farthest;
pub(crate) use pass::{Accum, Algorithm, pass, pass_parallel};
pub(crate) use prepared::Prepared;
pub(crate) use real::Real;
