//! [`Common`]: what the parts of an operator that keep records share.

use crate::dataflow::Dataflow;
use crate::error::{Result, Whose};
use crate::filling::Filling;
use crate::memory::Memory;
use crate::record::Record;
use crate::spill::SpillFile;
use aeolian_net::Buf;
use std::cell::Cell;
use std::rc::Rc;

/// The budget, and the one file of the operator to which all of its parts spill.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) whose: Whose,
    pub(crate) memory: Rc<Memory>,
    pub(crate) spill: SpillFile,
    /// Bytes of a block that batches are written as.
    pub(crate) block_bytes: usize,
    /// Set by a batch with a record that could not be read.
    pub(crate) damaged: Rc<Cell<bool>>,
    /// Where batches are read from.
    from: &'static str,
}

impl Common {
    pub(crate) fn new(flow: &Dataflow, whose: Whose) -> Common {
        Common {
            memory: flow.memory().clone(),
            spill: flow.spill().file(&whose.operator),
            block_bytes: flow.spill().block_bytes(),
            damaged: Rc::default(),
            from: "a batch",
            whose,
        }
    }

    /// The same, for what is read from disk.
    pub(crate) fn of_disk(&self) -> Common {
        Common { damaged: Rc::default(), from: "a spilled run", ..self.clone() }
    }

    /// That all that came, from peers or disk, could be read.
    pub(crate) fn check<T>(&self) -> Result<()> {
        match self.damaged.get() {
            true => Err(self.whose.unreadable::<T>(self.from)),
            false => Ok(()),
        }
    }

    pub(crate) fn put<T: Record>(&self, filling: &mut Filling, record: &T) -> Result<Option<Buf>> {
        filling.put(record).map_err(|_| self.whose.unwritable::<T>())
    }
}
