//! The static scheduler: a queue for each task.

use super::queues::{Order, Pool, Queues};
use super::task::{Task, Work};
use crate::error::Result;
use std::sync::Arc;
use std::thread::Scope;

/// A queue of inputs for each worker thread and its [`Task`]: for inputs that belong to a thread, because it holds state for them.
///
/// A task may submit into any queue through its [`Submitter`]. Outputs of one task come in the order of its inputs. Threads live
/// and end as those of a [`DynamicScheduler`](crate::schedule::DynamicScheduler).
///
/// ```
/// use aeolian_harp::schedule::{StaticScheduler, Submitter, TaskError};
/// // A pipeline: task 0 halves, task 1 adds up.
/// std::thread::scope(|scope| {
///     let scheduler = StaticScheduler::new(scope, 2, |id, submitter: Submitter<u64>| {
///         let mut sum = 0;
///         move |input: u64| -> Result<u64, TaskError> {
///             match id {
///                 0 => Ok(submitter.submit(1, input / 2)?),
///                 _ => {
///                     sum += input;
///                     Ok(sum)
///                 }
///             }
///         }
///     })?;
///     scheduler.submit_all(0, [2, 4, 6])?;
///     let mut sums = Vec::new();
///     while let Some(sum) = scheduler.wait_for_output(1)? {
///         sums.push(sum);
///     }
///     assert_eq!(sums, [1, 3, 6]);
///     scheduler.stop()
/// })?;
/// # Ok::<(), aeolian_harp::HarpError>(())
/// ```
pub struct StaticScheduler<'scope, I, T: Task<I>> {
    pool: Pool<'scope, I, T>,
}

/// A task's way to the queues of its [`StaticScheduler`], its own among them.
pub struct Submitter<I> {
    queues: Arc<Queues<I>>,
}

impl<I> Clone for Submitter<I> {
    fn clone(&self) -> Self {
        Submitter { queues: self.queues.clone() }
    }
}

impl<I> Submitter<I> {
    /// Queues an input for task `task` and returns how manieth of that queue it is, from 0. Never waits.
    ///
    /// # Errors
    /// There is no such task, or the scheduler has stopped.
    pub fn submit(&self, task: usize, input: I) -> Result<u64> {
        self.queues.submit_from_task(task, input)
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> usize {
        self.queues.len()
    }
}

impl<'scope, I: Send + 'scope, T: Task<I, Output: 'scope> + 'scope> StaticScheduler<'scope, I, T> {
    /// `tasks` threads; `make` makes the task of each number.
    ///
    /// # Errors
    /// No tasks, or the system gives no thread.
    pub fn new<'env>(
        scope: &'scope Scope<'scope, 'env>,
        tasks: usize,
        mut make: impl FnMut(usize, Submitter<I>) -> T,
    ) -> Result<Self> {
        let queues = Arc::new(Queues::new(tasks));
        let made = (0..tasks).map(|id| make(id, Submitter { queues: queues.clone() })).collect();
        let name = |task, input| Work::InputOf { task, input };
        Ok(StaticScheduler { pool: Pool::new(scope, queues, made, Order::Submission, name)? })
    }
}

impl<I, T: Task<I>> StaticScheduler<'_, I, T> {
    /// Queues an input for task `task` and returns how manieth of that queue it is, from 0.
    ///
    /// # Errors
    /// There is no such task.
    pub fn submit(&self, task: usize, input: I) -> Result<u64> {
        self.submit_all(task, [input])
    }

    /// As [`submit`](Self::submit), of several.
    pub fn submit_all(&self, task: usize, inputs: impl IntoIterator<Item = I>) -> Result<u64> {
        self.pool.queues.check(task)?;
        Ok(self.pool.queues.submit(task, inputs))
    }

    /// Goes on after a pause.
    pub fn start(&self) {
        self.pool.queues.start();
    }

    /// Waits until all that was submitted, by tasks too, is processed (if it is not paused), and takes no more inputs until
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

    /// Takes back what is queued for a task and not being processed.
    ///
    /// # Errors
    /// There is no such task.
    pub fn clear_inputs(&self, task: usize) -> Result<Vec<I>> {
        self.pool.queues.check(task)?;
        Ok(self.pool.queues.clear(task))
    }

    /// Inputs of all tasks that are queued or being processed.
    pub fn outstanding(&self) -> usize {
        self.pool.queues.outstanding()
    }

    /// Whether [`wait_for_output`](Self::wait_for_output) of this task would return an output or an error at once.
    pub fn has_output(&self, task: usize) -> bool {
        self.pool.queues.check(task).is_err() || self.pool.has_output(task)
    }

    /// Waits for the next output of a task; `None` if it has no inputs any more and no other task is at work that could submit some.
    ///
    /// # Errors
    /// There is no such task; what it said of an input, which is named. A task that has panicked gets no more inputs: each that is left
    /// in its queue is an error. [`HarpError::Usage`](crate::HarpError::Usage) if inputs wait while this is paused.
    pub fn wait_for_output(&self, task: usize) -> Result<Option<T::Output>> {
        self.pool.queues.check(task)?;
        Ok(self.pool.take(task)?.map(|(_, output)| output))
    }

    /// Ends the threads after the inputs that they are at, and gives back the tasks with their state: those that have not
    /// panicked.
    ///
    /// # Errors
    /// That of an input, if nobody has waited for it.
    pub fn stop(self) -> Result<Vec<T>> {
        self.pool.stop()
    }
}
