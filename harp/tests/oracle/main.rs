//! The proof of the collectives: each against the sequential answer, several under way at a time, in parts of a world, and what
//! happens when ranks disagree. `../CHECKLIST.md` says what is where.
//!
//! Random tests print the number of ranks and the seed that failed; proptest keeps them in a file and tries them first next time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod arguments;
mod each;
mod flight;
mod kinds;
mod mismatch;
mod pairs;
mod reference;
mod slices;
mod steps;
mod worlds;
