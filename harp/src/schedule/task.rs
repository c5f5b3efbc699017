//! [`Task`]: what a worker thread does with an input; and how what goes wrong in it becomes an error.

use crate::error::{HarpError, Result};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// An error of a user's own: whatever `?` or `.into()` makes of a text or of any error type.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// What one worker thread does with inputs, one after the other. It is the thread's own: its state needs no lock.
///
/// A closure `FnMut(I) -> Result<O, TaskError>` is one.
pub trait Task<I>: Send {
    /// What becomes of an input.
    type Output: Send;

    /// Turns an input into an output.
    fn run(&mut self, input: I) -> Result<Self::Output, TaskError>;
}

impl<I, O: Send, F: FnMut(I) -> Result<O, TaskError> + Send> Task<I> for F {
    type Output = O;

    fn run(&mut self, input: I) -> Result<O, TaskError> {
        self(input)
    }
}

/// A piece of work of a scheduler, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// An input of a [`DynamicScheduler`](crate::schedule::DynamicScheduler), by the number that `submit` returned.
    Input(u64),
    /// An input of one task's queue in a [`StaticScheduler`](crate::schedule::StaticScheduler).
    InputOf {
        /// The task.
        task: usize,
        /// How manieth input of that queue, from 0.
        input: u64,
    },
    /// A block of a [`BlockScheduler`](crate::schedule::BlockScheduler).
    Block {
        /// Its row split.
        row: usize,
        /// Its column split.
        col: usize,
    },
    /// What runs beside messages in [`overlap`](crate::schedule::overlap).
    Compute,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Input(input) => write!(f, "input {input}"),
            Work::InputOf { task, input } => write!(f, "input {input} of task {task}"),
            Work::Block { row, col } => write!(f, "block ({row}, {col})"),
            Work::Compute => f.write_str("the computation"),
        }
    }
}

/// Does a piece of a user's work; a panic in it becomes an error.
///
/// What the work was changing when it panicked may be half changed: callers do not use it again, or leave it to the user, who
/// gets the error.
pub(super) fn guarded<T>(work: Work, body: impl FnOnce() -> Result<T, TaskError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(HarpError::Task { work, source }),
        Err(payload) => {
            let what = payload
                .downcast_ref::<&str>()
                .map(|text| text.to_string())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a value that is no text".into());
            Err(HarpError::Panicked { work, what })
        }
    }
}

/// No user code runs under a lock of this module, so what a poisoned one holds is whole.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], for a wait.
pub(super) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
