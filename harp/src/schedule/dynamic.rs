//! The dynamic scheduler: one queue, whoever is free takes the next input.

use super::queues::{Order, Pool, Queues};
use super::task::{Task, Work};
use crate::error::Result;
use std::sync::Arc;
use std::thread::Scope;

/// One queue of inputs that all worker threads take from: for inputs that differ in how long they take.
///
/// Each worker has a [`Task`] of its own. Threads live in a [`std::thread::scope`], so tasks may borrow from outside of it; dropping
/// the scheduler ends them after the inputs that they are at. The scheduler runs from the beginning.
///
/// ```
/// use aeolian_harp::schedule::{DynamicScheduler, Order, TaskError};
/// let words = ["wind", "plays", "the", "harp"];
/// let mut lengths = Vec::new();
/// std::thread::scope(|scope| {
///     // Each task counts what it did.
///     let tasks = (0..2).map(|_| {
///         let mut done = 0;
///         move |word: &str| -> Result<(usize, u32), TaskError> {
///             done += 1;
///             Ok((word.len(), done))
///         }
///     });
///     let scheduler = DynamicScheduler::new(scope, tasks.collect(), Order::Submission)?;
///     scheduler.submit_all(words);
///     while let Some((_, (length, _))) = scheduler.wait_for_output()? {
///         lengths.push(length);
///     }
///     scheduler.stop()
/// })?;
/// assert_eq!(lengths, [4, 5, 3, 4]);
/// # Ok::<(), aeolian_harp::HarpError>(())
/// ```
pub struct DynamicScheduler<'scope, I, T: Task<I>> {
    pool: Pool<'scope, I, T>,
}

impl<'scope, I: Send + 'scope, T: Task<I, Output: 'scope> + 'scope> DynamicScheduler<'scope, I, T> {
    /// A thread for each task.
    ///
    /// # Errors
    /// No tasks, or the system gives no thread.
    pub fn new<'env>(scope: &'scope Scope<'scope, 'env>, tasks: Vec<T>, order: Order) -> Result<Self> {
        let name = |_, input| Work::Input(input);
        Ok(DynamicScheduler { pool: Pool::new(scope, Arc::new(Queues::new(1)), tasks, order, name)? })
    }
}

impl<I, T: Task<I>> DynamicScheduler<'_, I, T> {
    /// Queues an input and returns its number, counted from 0.
    pub fn submit(&self, input: I) -> u64 {
        self.pool.queues.submit(0, [input])
    }

    /// Queues inputs and returns the number of the first; the others follow.
    pub fn submit_all(&self, inputs: impl IntoIterator<Item = I>) -> u64 {
        self.pool.queues.submit(0, inputs)
    }

    /// Goes on after a pause.
    pub fn start(&self) {
        self.pool.queues.start();
    }

    /// Waits until all that was submitted is processed (if it is not paused), and takes no more inputs until
    /// [`start`](Self::start).
    pub fn pause(&self) {
        self.pool.queues.pause();
    }

    /// Waits only for what is being processed; other inputs stay queued until [`start`](Self::start).
    pub fn pause_now(&self) {
        self.pool.queues.pause_now();
    }

    /// Whether no more inputs are taken, until [`start`](Self::start).
    pub fn is_paused(&self) -> bool {
        self.pool.queues.is_paused()
    }

    /// Takes back what is queued and not being processed. Their numbers are not used again.
    pub fn clear_inputs(&self) -> Vec<I> {
        self.pool.queues.clear(0)
    }

    /// Inputs that are queued or being processed.
    pub fn outstanding(&self) -> usize {
        self.pool.queues.outstanding()
    }

    /// Whether [`wait_for_output`](Self::wait_for_output) would return an output or a task's error at once.
    pub fn has_output(&self) -> bool {
        self.pool.has_output(0)
    }

    /// Waits for the next output, which comes with the number of its input; `None` if there are no inputs any more.
    ///
    /// # Errors
    /// What the task said of the input, which is named; the others go on, and may be waited for after it. A task that has panicked
    /// gets no more inputs; once all have, each input left is an error. [`HarpError::Usage`](crate::HarpError::Usage) if inputs wait
    /// while this is paused.
    pub fn wait_for_output(&self) -> Result<Option<(u64, T::Output)>> {
        self.pool.take(0)
    }

    /// Ends the threads after the inputs that they are at, and gives back the tasks with their state: those that have not
    /// panicked, in the order in which they were given.
    ///
    /// # Errors
    /// That of an input, if nobody has waited for it.
    pub fn stop(self) -> Result<Vec<T>> {
        self.pool.stop()
    }
}
