//! Worker threads inside a rank, and a model that goes round the ranks meanwhile.
//!
//! | | what it gives to threads |
//! |---|---|
//! | [`DynamicScheduler`] | inputs from one queue: whoever is free takes the next |
//! | [`StaticScheduler`] | inputs from a queue for each thread; threads may submit to each other |
//! | [`BlockScheduler`] | blocks of row splits x column splits; no two threads touch the same row or column |
//! | [`Rotator`] | (nothing: it moves slices of a model between ranks) |
//! | [`overlap`] | a computation, while the rank's own thread moves messages |
//!
//! These are Harp's schedulers and its dymoro package. [`fair_share`] tells how many threads a rank should use.
//!
//! An error or a panic on a worker thread comes back as a [`HarpError`](crate::HarpError) that names the input or block
//! ([`Work`]); nothing ever waits for a thread that is gone.

mod blocks;
mod dynamic;
mod overlap;
mod per_task;
mod queues;
mod random;
mod rotator;
mod share;
mod task;

pub use blocks::{BlockCounts, BlockScheduler, Until};
pub use dynamic::DynamicScheduler;
pub use overlap::overlap;
pub use per_task::{StaticScheduler, Submitter};
pub use queues::Order;
pub use rotator::{RingOrder, Rotator};
pub use share::fair_share;
pub use task::{Task, TaskError, Work};
