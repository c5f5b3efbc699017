//! Stop requests (Ctrl-C, SIGTERM, the end of the wall time) in programs whose ranks wait for one another in operators.
//!
//! A request comes to all ranks, and each looks wherever it reads or waits: so none waits for long for another one that has left, and all meet
//! in the next [`agree`](crate::agree::agree()).

use aeolian::World;
use aeolian::ops::{InsertError, Operator, OpsError, drive};

use crate::agree::agree;
use crate::{Error, Result};

/// An error if somebody wants the job to end. The first call promises to look again from time to time.
///
/// # Errors
/// [`Error::Stopped`].
pub fn not_stopped(world: &World) -> Result<()> {
    match world.stop_requested() {
        false => Ok(()),
        true => Err(Error::Stopped {
            what: "stopped on request; nothing is written".into(),
            help: "run again".into(),
        }),
    }
}

/// The same on all ranks, so that all listen from here on. Collective.
///
/// # Errors
/// As [`not_stopped`].
pub fn listen(world: &mut World) -> Result<()> {
    let asked = not_stopped(world);
    agree(world, asked)
}

/// Lets `insert` take this record, moving the operator on while there is no room.
///
/// # Errors
/// [`Error::Stopped`], or what is wrong with the operator.
#[inline]
pub fn insert<T, O: Operator>(
    world: &World,
    op: &mut O,
    record: T,
    mut insert: impl FnMut(&mut O, T) -> Result<(), InsertError<T>>,
) -> Result<()> {
    match insert(op, record) {
        Ok(()) => Ok(()),
        Err(InsertError::Full(record)) => insert_later(world, op, record, insert),
        Err(InsertError::Failed(e)) => Err(e.into()),
    }
}

#[cold]
fn insert_later<T, O: Operator>(
    world: &World,
    op: &mut O,
    record: T,
    mut insert: impl FnMut(&mut O, T) -> Result<(), InsertError<T>>,
) -> Result<()> {
    let mut refused = Some(record);
    until(world, op, |op| {
        let Some(record) = refused.take() else { return Ok(true) };
        match insert(op, record) {
            Ok(()) => Ok(true),
            Err(InsertError::Full(record)) => {
                refused = Some(record);
                Ok(false)
            }
            Err(InsertError::Failed(e)) => Err(e),
        }
    })
}

/// Moves an operator, whose sources have finished, on until it is complete.
///
/// # Errors
/// As [`insert`].
pub fn complete<O: Operator>(world: &World, op: &mut O) -> Result<()> {
    until(world, op, |op| Ok(op.is_complete()))
}

/// Moves an operator on until it is `ready`.
///
/// # Errors
/// As [`insert`].
pub fn until<O: Operator>(
    world: &World,
    op: &mut O,
    mut ready: impl FnMut(&mut O) -> Result<bool, OpsError>,
) -> Result<()> {
    drive(op, |op| {
        if ready(op)? {
            return Ok(Some(Ok(())));
        }
        Ok(not_stopped(world).err().map(Err))
    })?
}
