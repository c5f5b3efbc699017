//! Writing rows as they come to rank 0.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::path::{Path, PathBuf};

use aeolian::World;

use super::table::is_input;
use crate::agree::agree;
use crate::output::Target;
use crate::{Error, Result};

/// Where rank 0 writes. (What other ranks write goes nowhere.)
pub struct Lines<'a> {
    out: RefCell<&'a mut dyn Write>,
    failed: Cell<Option<std::io::Error>>,
}

impl Lines<'_> {
    fn new(out: &mut dyn Write) -> Lines<'_> {
        Lines { out: RefCell::new(out), failed: Cell::new(None) }
    }

    /// Writes. After a write that failed nothing is written any more, but rows are taken all the same: they are on their way.
    pub fn put(&self, bytes: &[u8]) {
        let failed = self.failed.take();
        self.failed.set(failed.or_else(|| self.out.borrow_mut().write_all(bytes).err()));
    }
}

/// Checks, before anything is computed, that `output` can be written and is none of the inputs; only rank 0 has a target. Collective.
pub fn check(world: &mut World, output: &Path, inputs: &[&PathBuf]) -> Result<Option<Target>> {
    let target = if world.rank() != 0 {
        Ok(None)
    } else if is_input(output, inputs) {
        let what = format!("--output {}: this file is an input", output.display());
        Err(Error::usage(what, "name another file"))
    } else {
        Target::check(output).map(Some)
    };
    agree(world, target)
}

/// Lets all ranks `work`, of which rank 0 writes the file: it is there only if all went well on every rank. Collective.
pub fn write<T>(
    world: &mut World,
    target: Option<&Target>,
    work: impl FnOnce(&mut World, &Lines<'_>) -> Result<T>,
) -> Result<T> {
    let mut work = Some(work);
    let mut done = None;
    let mut run = |world: &mut World, out: &mut dyn Write| {
        let lines = Lines::new(out);
        let result = work.take().map(|work| work(world, &lines));
        done = result.map(|result| agree(world, result));
        match done {
            Some(Ok(_)) => lines.failed.take(),
            // The file must not get its name; what went wrong is told below.
            _ => Some(std::io::ErrorKind::Interrupted.into()),
        }
    };
    let written = match target {
        None => {
            run(world, &mut std::io::sink());
            Ok(())
        }
        Some(target) => {
            let mut ran = false;
            let written = target.write(|out| {
                ran = true;
                run(world, out).map_or(Ok(()), Err)
            });
            if !ran {
                // It failed before the first row; the others are at work.
                run(world, &mut std::io::sink());
            }
            written
        }
    };
    let done =
        done.unwrap_or_else(|| Err(Error::Os { what: "no rows".into(), help: "please report this".into() }))?;
    agree(world, written)?;
    Ok(done)
}
