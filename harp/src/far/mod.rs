//! Collectives by messages: between nodes, and wherever ranks do not share memory; one family of algorithms a file.
//!
//! An algorithm runs in a [`Team`](team::Team): all ranks of the call, or one of each node. Where nodes have several ranks, these come
//! together by the call's [`Level`](levels::Level) first.

pub(crate) mod allgather;
pub(crate) mod allreduce;
pub(crate) mod barrier;
pub(crate) mod broadcast;
pub(crate) mod bundle;
pub(crate) mod exchange;
pub(crate) mod flat;
pub(crate) mod gather;
pub(crate) mod levels;
pub(crate) mod reduce;
pub(crate) mod regroup;
pub(crate) mod shares;
pub(crate) mod team;
