//! What teragen, terasort and teravalidate share: the records of the sort benchmark, their generator and checksum, part files.

pub mod checksum;
pub mod directory;
pub mod gensort;
pub mod input;
pub mod lcg;
pub mod record;
