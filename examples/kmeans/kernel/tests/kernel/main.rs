//! The kernel against an oracle, and its ways against each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod data;
mod oracle;
mod prune;
