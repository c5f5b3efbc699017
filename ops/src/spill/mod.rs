//! Spilling: what an operator cannot keep in memory goes to scratch files, block by block, and comes back.
//!
//! * One file for each operator, rank and directory in use, whatever the number of runs: a *run* (a sorted run, a hash bucket) is a list of
//!   blocks in it. Thousands of runs may be open at a time: none of them has a file, a thread or a buffer of its own.
//! * Files have no name (`O_TMPFILE`), mode 0600: nothing is left of them however the process ends. Where the file system cannot do that
//!   (NFS, say), they are removed as soon as they are made: a process that is killed between the two leaves an empty `.aeolian-spill-*`.
//! * Writes are behind and reads ahead of the operator, by the kernel (`io_uring`) or by at most two threads that do nothing else. What they
//!   hold is bounded for the rank as a whole: [`SpillOptions::memory`].
//! * Every block has a header (job, rank, file, run, sequence, lengths) and a checksum over both, checked when it is read. An error names
//!   operator, rank, directory and offset, and says that it was the disk.
//! * A directory that is full, or has no inode for a file, is followed by the next one; when there is none, the error lists them all, with
//!   what is free. So it is with a file that reaches the limit on the size of files (`ulimit -f`): before the first is written, SIGXFSZ,
//!   which would end the process, gets a handler that does nothing, if it is at its default.
//! * A dropped run frees its place, as far as the file system can make holes.
//!
//! Spilled data are never synced: they are worth nothing after the process. Some network file systems say only then that they are
//! full or broken; there, a lost block is found when it is read.
//!
//! ```
//! use aeolian_net::Buf;
//! use aeolian_ops::spill::{Spill, SpillOptions};
//! # fn main() -> Result<(), aeolian_ops::spill::SpillError> {
//! let spill = Spill::new(SpillOptions::from_env(0x5eed, 0));
//! let file = spill.file("sort");
//! let (mut even, mut odd) = (file.run(), file.run());
//! for i in 0..10u64 {
//!     let run = if i % 2 == 0 { &mut even } else { &mut odd };
//!     run.write(Buf::from_pod(&[i, i * i]))?;
//! }
//! let mut reader = odd.finish()?.read();
//! assert_eq!(reader.next()?.unwrap_or_default().cast::<u64>(), [1, 1]);
//! assert_eq!(reader.next()?.unwrap_or_default().cast::<u64>(), [3, 9]);
//! assert_eq!(spill.report().files, 1);
//! # Ok(())
//! # }
//! ```

mod core;
mod directory;
mod disk;
mod error;
mod file;
mod freed;
mod header;
mod options;
mod reader;
mod report;
mod run;
mod sigxfsz;
mod threads;
mod uring;

#[doc(hidden)]
pub use disk::Fault;
pub use error::{Damage, Lack, Refusal, SpillError, SpillPlace};
pub use file::SpillFile;
pub use options::{Compression, DiskIo, SpillOptions};
pub use reader::RunReader;
pub use report::{DirectoryReport, SpillReport};
pub use run::{Run, RunWriter};

use self::core::Core;
use std::cell::RefCell;
use std::rc::Rc;

/// Where a rank spills: a handle, which can be cloned. Nothing is opened, and no thread begun, before the first block is written.
#[derive(Clone)]
pub struct Spill {
    core: Rc<RefCell<Core>>,
}

impl Spill {
    /// One for the rank.
    pub fn new(options: SpillOptions) -> Spill {
        Spill { core: Rc::new(RefCell::new(Core::new(options))) }
    }

    /// The spill file of an operator, which is opened with its first block. The name is for errors.
    pub fn file(&self, operator: &str) -> SpillFile {
        let state = file::FileState { operator: operator.into(), parts: RefCell::default() };
        SpillFile { core: self.core.clone(), state: Rc::new(state) }
    }

    /// Bytes of a block that operators should aim at.
    pub fn block_bytes(&self) -> usize {
        self.core.borrow().options.block_bytes
    }

    /// The most bytes that it holds: [`SpillOptions::memory`].
    pub fn memory(&self) -> usize {
        self.core.borrow().options.memory()
    }

    /// What was spilled so far.
    pub fn report(&self) -> SpillReport {
        let mut core = self.core.borrow_mut();
        core.reap();
        core.report()
    }

    /// What goes wrong with the next writes, in order; for tests.
    #[doc(hidden)]
    pub fn write_faults(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.core.borrow_mut().write_faults.extend(faults);
    }

    /// What goes wrong with the next reads, in order; for tests.
    #[doc(hidden)]
    pub fn read_faults(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.core.borrow_mut().read_faults.extend(faults);
    }

    /// As on a file system without `O_TMPFILE`; for tests.
    #[doc(hidden)]
    pub fn without_tmpfile(&self) {
        self.core.borrow_mut().with_name = true;
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spill({})", self.report())
    }
}
