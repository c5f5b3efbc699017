//! The commands besides `run`, one file each.

pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod explain;
pub(crate) mod mpi;
pub(crate) mod selftest;
pub(crate) mod tune;
pub(crate) mod version;
