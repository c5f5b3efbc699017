//! Windows: Apache Beam's transcripts of triggers, and what holds for any records.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod properties;
mod transcripts;
