//! [`Common`]: what the parts of an operator that keep records share.

use crate::dataflow::Dataflow;
use crate::error::Whose;
use crate::memory::Memory;
use crate::spill::SpillFile;
use std::rc::Rc;

/// The budget, and the one file of the operator to which all of its parts spill.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) whose: Whose,
    pub(crate) memory: Rc<Memory>,
    pub(crate) spill: SpillFile,
    /// Bytes of a block that batches are written as.
    pub(crate) block_bytes: usize,
}

impl Common {
    pub(crate) fn new(flow: &Dataflow, whose: Whose) -> Common {
        Common {
            memory: flow.memory().clone(),
            spill: flow.spill().file(&whose.operator),
            block_bytes: flow.spill().block_bytes(),
            whose,
        }
    }
}
