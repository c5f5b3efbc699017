//! [`RunWriter`] and [`Run`]: blocks that are written one after another, and then belong together.

use super::core::{Core, Place};
use super::error::SpillError;
use super::file::{FileState, SpillFile};
use super::header::BlockHeader;
use super::options::{Compression, SpillOptions};
use super::reader::RunReader;
use aeolian_net::Buf;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Longer blocks are not compressed: LZ4's block format counts with 32 bits.
const LZ4_MOST: usize = 1 << 30;

/// A block of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockState {
    pub(super) place: Place,
    /// Bytes before compression.
    pub(super) raw: u64,
    /// Bytes as stored, without header.
    pub(super) stored: u64,
    pub(super) lz4: bool,
    /// Whether it has its place and is on the disk, or is to be freed when it is.
    step: StepOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepOf {
    Writing,
    Landed,
    /// Its place is freed, or it never had one.
    Gone,
}

/// What a run's handles and its requests on their way share.
pub(super) struct RunState {
    pub(super) file: Rc<FileState>,
    id: u64,
    blocks: RefCell<Vec<BlockState>>,
    bytes: Cell<u64>,
    /// Blocks on their way to the disk.
    writing: Cell<usize>,
    /// Nobody has a handle any more.
    abandoned: Cell<bool>,
    error: RefCell<Option<SpillError>>,
}

impl RunState {
    pub(super) fn block(&self, sequence: usize) -> BlockState {
        self.blocks.borrow()[sequence]
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.borrow().len()
    }

    pub(super) fn abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// The header that a block has, or should have, where it lies.
    pub(super) fn header(&self, sequence: usize, options: &SpillOptions) -> BlockHeader {
        let block = self.block(sequence);
        BlockHeader {
            job: options.job,
            rank: options.rank,
            file: self.file.parts.borrow()[block.place.part].id,
            run: self.id,
            sequence: sequence as u64,
            raw: block.raw,
            stored: block.stored,
            lz4: block.lz4,
        }
    }

    /// Notes where a block is to go.
    pub(super) fn placed(&self, sequence: usize, place: Place, options: &SpillOptions) -> BlockHeader {
        self.blocks.borrow_mut()[sequence].place = place;
        self.header(sequence, options)
    }

    /// Notes that a block is on the disk; true if its place is to be freed at once.
    pub(super) fn landed(&self, sequence: usize) -> bool {
        self.writing.set(self.writing.get() - 1);
        let gone = self.abandoned.get();
        self.blocks.borrow_mut()[sequence].step = if gone { StepOf::Gone } else { StepOf::Landed };
        gone
    }

    /// Notes that a block is lost. The first error is the one that is told.
    pub(super) fn failed(&self, sequence: usize, error: SpillError) {
        self.writing.set(self.writing.get() - 1);
        self.blocks.borrow_mut()[sequence].step = StepOf::Gone;
        self.error.borrow_mut().get_or_insert(error);
    }

    fn check(&self) -> Result<(), SpillError> {
        self.error.borrow().clone().map_or(Ok(()), Err)
    }
}

/// Frees the run's places with the last handle.
pub(super) struct RunHandle {
    pub(super) core: Rc<RefCell<Core>>,
    pub(super) state: Rc<RunState>,
}

impl RunHandle {
    /// Frees the place of one block.
    pub(super) fn free(&self, sequence: usize) {
        let block = {
            let mut blocks = self.state.blocks.borrow_mut();
            let block = &mut blocks[sequence];
            if block.step != StepOf::Landed {
                return;
            }
            block.step = StepOf::Gone;
            *block
        };
        self.core.borrow_mut().free(&self.state.file, std::iter::once((block.place, block.stored)));
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        self.state.abandoned.set(true);
        let mut blocks = self.state.blocks.borrow_mut();
        let landed = blocks.iter_mut().filter(|b| b.step == StepOf::Landed).map(|b| {
            b.step = StepOf::Gone;
            (b.place, b.stored)
        });
        self.core.borrow_mut().free(&self.state.file, landed);
    }
}

/// A run that is being written. Dropped before [`RunWriter::finish`], its place is freed.
pub struct RunWriter {
    handle: RunHandle,
}

impl RunWriter {
    pub(super) fn new(file: &SpillFile) -> RunWriter {
        let state = Rc::new(RunState {
            file: file.state.clone(),
            id: file.core.borrow_mut().new_run(),
            blocks: RefCell::default(),
            bytes: Cell::new(0),
            writing: Cell::new(0),
            abandoned: Cell::new(false),
            error: RefCell::default(),
        });
        RunWriter { handle: RunHandle { core: file.core.clone(), state } }
    }

    /// Appends a block; a reader gets the same blocks, with the same boundaries. Returns before it is on the disk, unless too many
    /// are behind: then it waits for the disk.
    ///
    /// # Errors
    /// If the block, or one of this run before it, cannot be written: no directory takes it ([`SpillError::NoRoom`]), no file can be
    /// opened ([`SpillError::TooManyFiles`]), or the disk fails ([`SpillError::Write`]). The run is then lost, and every call says so.
    pub fn write(&mut self, block: Buf) -> Result<(), SpillError> {
        let RunHandle { core, state } = &self.handle;
        let mut core = core.borrow_mut();
        core.reap();
        state.check()?;
        let raw = block.len() as u64;
        let (payload, lz4) = match core.options.compression {
            Compression::None => (block, false),
            Compression::Lz4 => compress(block),
        };
        core.make_room(&state.file.operator, payload.len() as u64)?;
        state.check()?;
        let sequence = state.len();
        let nowhere = Place { part: 0, offset: 0 };
        let stored = payload.len() as u64;
        state.blocks.borrow_mut().push(BlockState {
            place: nowhere,
            raw,
            stored,
            lz4,
            step: StepOf::Writing,
        });
        state.writing.set(state.writing.get() + 1);
        if let Err(error) = core.begin_write(state, sequence, payload) {
            state.failed(sequence, error);
        }
        state.bytes.set(state.bytes.get() + raw);
        state.check()
    }

    /// Appends batches, as many as a block of about `block_bytes` has room for in each.
    pub(crate) fn write_together(
        &mut self,
        batches: impl IntoIterator<Item = Buf>,
        block_bytes: usize,
    ) -> Result<(), SpillError> {
        let mut batches = batches.into_iter().peekable();
        while let Some(mut block) = batches.next() {
            let (mut more, mut bytes) = (Vec::new(), block.len());
            while let Some(batch) = batches.next_if(|batch| bytes + batch.len() <= block_bytes) {
                bytes += batch.len();
                more.push(batch);
            }
            if !more.is_empty() {
                let first = std::mem::replace(&mut block, Buf::stale(bytes));
                let mut at = 0;
                for batch in std::iter::once(first).chain(more) {
                    block[at..at + batch.len()].copy_from_slice(&batch);
                    at += batch.len();
                }
            }
            self.write(block)?;
        }
        Ok(())
    }

    /// Bytes written so far, as they were given.
    pub fn bytes(&self) -> u64 {
        self.handle.state.bytes.get()
    }

    /// Blocks written so far.
    pub fn blocks(&self) -> usize {
        self.handle.state.len()
    }

    /// Ends the run: waits until all of its blocks are written.
    ///
    /// # Errors
    /// As [`RunWriter::write`]'s, of any block that was not yet written.
    pub fn finish(self) -> Result<Run, SpillError> {
        let RunWriter { handle } = self;
        while handle.state.writing.get() > 0 {
            handle.core.borrow_mut().wait(&handle.state.file.operator)?;
        }
        handle.state.check()?;
        Ok(Run { handle: Rc::new(handle) })
    }
}

impl std::fmt::Debug for RunWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunWriter({} blocks, {} bytes)", self.blocks(), self.bytes())
    }
}

/// A finished run. Its place on the disk is freed when it and its readers are dropped.
pub struct Run {
    handle: Rc<RunHandle>,
}

impl Run {
    /// Its bytes, as they were given.
    pub fn bytes(&self) -> u64 {
        self.handle.state.bytes.get()
    }

    /// Its blocks.
    pub fn blocks(&self) -> usize {
        self.handle.state.len()
    }

    /// Reads it once: the place of a block is freed when the block is given out.
    pub fn read(self) -> RunReader {
        RunReader::new(self.handle, true)
    }

    /// Reads it and keeps it.
    pub fn reader(&self) -> RunReader {
        RunReader::new(self.handle.clone(), false)
    }

    /// File, offset and bytes with header of each block, for tests.
    #[doc(hidden)]
    pub fn places(&self) -> Vec<(usize, u64, u64)> {
        let total = |b: &BlockState| (b.place.part, b.place.offset, super::header::HEADER as u64 + b.stored);
        self.handle.state.blocks.borrow().iter().map(total).collect()
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({} blocks, {} bytes)", self.blocks(), self.bytes())
    }
}

/// The block as it is to be stored, and whether it is compressed.
fn compress(block: Buf) -> (Buf, bool) {
    if block.is_empty() || block.len() > LZ4_MOST {
        return (block, false);
    }
    let mut small = Buf::stale(lz4_flex::block::get_maximum_output_size(block.len()));
    match lz4_flex::block::compress_into(&block, &mut small) {
        Ok(bytes) if bytes < block.len() => {
            small.truncate(bytes);
            (small, true)
        }
        _ => (block, false),
    }
}
