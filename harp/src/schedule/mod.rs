//! Worker threads inside a rank, and a model that goes round the ranks meanwhile.
//!
//! | | what it gives to threads |
//! |---|---|
//! | [`DynamicScheduler`] | inputs from one queue: whoever is free takes the next |
//! | [`StaticScheduler`] | inputs from a queue for each thread; threads may submit to each other |
//! | [`BlockScheduler`] | blocks of row splits x column splits; no two threads touch the same row or column |
//!
//!
//! An error or a panic on a worker thread comes back as a [`HarpError`](crate::HarpError) that names the input or block
//! ([`Work`]); nothing ever waits for a thread that is gone.

mod blocks;
mod dynamic;
mod per_task;
mod queues;
mod random;
mod task;

pub use blocks::{BlockCounts, BlockScheduler, Until};
pub use dynamic::DynamicScheduler;
pub use per_task::{StaticScheduler, Submitter};
pub use queues::Order;
pub use task::{Task, TaskError, Work};
