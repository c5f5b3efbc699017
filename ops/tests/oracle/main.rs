//! Every operator against what a plain loop gives: types, plans, numbers of ranks, refusals, barriers and rounds at random.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and ends"
)]

mod broken;
mod forwarding;
mod joining;
mod keyed;
mod marks;
mod reducing;
mod sorting;
mod trial;
