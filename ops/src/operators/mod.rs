//! The operators, one a file.

mod all_gather;
mod all_reduce;
mod broadcast;
mod direct;
mod distinct;
mod gather;
mod join;
mod keyed_gather;
mod keyed_gather_ungrouped;
mod keyed_partition;
mod keyed_reduce;
mod partition;
mod pipe;
mod reduce;
mod sort;
mod top_k;
mod union;
mod zip_with_index;

pub use all_gather::AllGather;
pub use all_reduce::AllReduce;
pub use broadcast::Broadcast;
pub use direct::Direct;
pub use distinct::Distinct;
pub use gather::Gather;
pub use join::{Join, JoinAlgorithm, JoinReport, Side};
pub use keyed_gather::{Group, KeyedGather, Lists};
pub use keyed_gather_ungrouped::KeyedGatherUngrouped;
pub use keyed_partition::KeyedPartition;
pub use keyed_reduce::KeyedReduce;
pub use partition::Partition;
pub use pipe::Pipe;
pub use reduce::Reduce;
pub use sort::Sort;
pub use top_k::TopK;
pub use union::Union;
pub use zip_with_index::ZipWithIndex;
