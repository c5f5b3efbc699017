//! The collectives, one a file.
//!
//! Each has a blocking function, one whose name begins with `i` that starts it and returns a [`Pending`](crate::Pending) (MPI's habit),
//! and a body that both run.

pub(crate) mod aggregate;
pub(crate) mod allgather;
pub(crate) mod allreduce;
pub(crate) mod alltoall;
pub(crate) mod barrier;
pub(crate) mod broadcast;
pub(crate) mod gather;
pub(crate) mod join;
pub(crate) mod kv;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod reduce;
pub(crate) mod regroup;
pub(crate) mod rotate;
pub(crate) mod scan;
pub(crate) mod scatter;
pub(crate) mod slices;
pub(crate) mod split;
