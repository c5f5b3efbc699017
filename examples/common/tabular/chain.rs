//! From one operator to the next.

use std::cell::RefCell;

use aeolian::World;
use aeolian::ops::{Batch, Full, Insert, InsertError, Operator, OpsError, Receiver, Record};

use crate::stop;

/// A receiver that inserts what it gets into the next operator, at the source that this rank has there.
pub struct Chain<'a, T, O> {
    next: &'a RefCell<O>,
    source: u32,
    /// A record that there was no room for: the batch that it is from is offered again.
    refused: Option<T>,
    failed: &'a RefCell<Option<OpsError>>,
}

impl<'a, T, O> Chain<'a, T, O> {
    /// To `next`; what goes wrong there is left in `failed`.
    pub fn new(next: &'a RefCell<O>, source: u32, failed: &'a RefCell<Option<OpsError>>) -> Chain<'a, T, O> {
        Chain { next, source, refused: None, failed }
    }
}

impl<T: Record, O: Insert<T>> Receiver<Batch<T>> for Chain<'_, T, O> {
    fn receive(&mut self, _target: u32, mut batch: Batch<T>) -> Result<(), Full<Batch<T>>> {
        let mut next = self.next.borrow_mut();
        while let Some(record) = self.refused.take().or_else(|| batch.next()) {
            match next.insert(self.source, record) {
                Ok(()) => {}
                Err(InsertError::Full(record)) => {
                    self.refused = Some(record);
                    return Err(Full(batch));
                }
                Err(InsertError::Failed(e)) => {
                    // Of the wires: nothing will work any more.
                    self.failed.borrow_mut().get_or_insert(e);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Moves `first`, whose sources have finished, and what is behind it on until all of it is there, or somebody wants the job to end.
/// Meanwhile `tick` is called often.
///
/// # Errors
/// [`Error::Stopped`](crate::Error::Stopped), or of the wires.
pub fn complete<A: Operator, B: Operator>(
    world: &World,
    first: &mut A,
    next: &RefCell<B>,
    failed: &RefCell<Option<OpsError>>,
    tick: impl Fn(),
) -> crate::Result<()> {
    stop::until(world, first, |first| {
        tick();
        while next.borrow_mut().progress()? {}
        match failed.borrow_mut().take() {
            Some(e) => Err(e),
            None => Ok(first.is_complete()),
        }
    })?;
    let mut next = next.borrow_mut();
    next.finish(world.rank())?;
    stop::until(world, &mut *next, |next| {
        tick();
        Ok(next.is_complete())
    })
}

/// What came of reading: after an error of the wires nothing goes on, after one of a file this rank's part of the operators does.
///
/// # Errors
/// Of the wires.
pub fn unless_wires(read: crate::Result<()>) -> crate::Result<crate::Result<()>> {
    match read {
        Err(e @ crate::Error::Net(_)) => Err(e),
        read => Ok(read),
    }
}
