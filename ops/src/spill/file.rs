//! [`SpillFile`]: where all runs of one operator go, block after block.

use super::core::Core;
use super::directory;
use super::error::SpillPlace;
use super::freed::{Freed, Give};
use super::run::RunWriter;
use rustix::fs::FallocateFlags;
use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// The spill file of one operator on one rank: any number of runs, whose blocks lie in it in the order in which they were written.
///
/// It is opened with the first block. When its directory is full, what follows goes to a second one in the next directory, and so on:
/// as many descriptors as directories are in use. None of them has a name, so nothing is left of them however the process ends (where the
/// file system knows no `O_TMPFILE`: unless it is killed while one is made).
#[derive(Clone)]
pub struct SpillFile {
    pub(super) core: Rc<RefCell<Core>>,
    pub(super) state: Rc<FileState>,
}

impl SpillFile {
    /// Begins a run. Any number of them may be open at a time; each costs some hundred bytes, and 40 for each of its blocks.
    pub fn run(&self) -> RunWriter {
        RunWriter::new(self)
    }

    /// The files themselves, for tests: they cannot be had otherwise.
    #[doc(hidden)]
    pub fn files(&self) -> Vec<Arc<File>> {
        self.state.parts.borrow().iter().map(|part| part.file.clone()).collect()
    }
}

impl std::fmt::Debug for SpillFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpillFile({}, {} files)", self.state.operator, self.state.parts.borrow().len())
    }
}

/// What a [`SpillFile`] and its runs share.
pub(super) struct FileState {
    pub(super) operator: String,
    pub(super) parts: RefCell<Vec<Part>>,
}

/// What of a spill file is in one directory.
pub(super) struct Part {
    /// Its number among all of the rank, which is in each block.
    pub(super) id: u32,
    /// Index of its directory.
    pub(super) directory: usize,
    pub(super) file: Arc<File>,
    pub(super) place: SpillPlace,
    freed: Freed,
    /// Bytes of a page of the file system.
    page: u64,
    /// Whether holes can be made.
    holes: bool,
}

impl Part {
    pub(super) fn open(
        id: u32,
        directory: usize,
        path: &Path,
        place: SpillPlace,
        with_name: bool,
    ) -> Result<Part, rustix::io::Errno> {
        let file = directory::unnamed(path, with_name)?;
        let page = rustix::fs::fstatvfs(&file).map_or(4096, |s| s.f_frsize);
        let page = if page.is_power_of_two() { page.max(512) } else { 4096 };
        Ok(Part { id, directory, file: Arc::new(file), place, freed: Freed::default(), page, holes: true })
    }

    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        self.freed.take(bytes)
    }

    /// Gives a place back to the file system, as far as it can take it.
    pub(super) fn free(&mut self, place: Range<u64>) {
        match self.freed.free(place, self.page) {
            // If the system refuses, the bytes are freed with the file at the latest.
            Give::From(at) => {
                let _ = self.file.set_len(at);
            }
            Give::Hole(hole) if self.holes => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                self.holes =
                    rustix::fs::fallocate(&self.file, flags, hole.start, hole.end - hole.start).is_ok();
            }
            Give::Hole(_) | Give::Nothing => {}
        }
    }
}
