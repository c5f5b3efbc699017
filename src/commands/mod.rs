//! The commands besides `run`, one file each.

pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod mpi;
pub(crate) mod version;
