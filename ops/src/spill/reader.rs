//! [`RunReader`]: gives the blocks of a run in the order in which they were written.

use super::core::Core;
use super::disk::{Done, Trouble};
use super::error::{Damage, SpillError};
use super::run::RunHandle;
use aeolian_net::Buf;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Reads a run.
///
/// Blocks are read before they are asked for, as far as [`SpillOptions::read_ahead`](super::SpillOptions::read_ahead) allows: the readers
/// that are open share it evenly. If there are more readers than blocks of it, nothing is read ahead by itself: whoever merges many runs
/// knows which of them ends its block first, and says so by [`RunReader::prefetch`].
pub struct RunReader {
    handle: Rc<RunHandle>,
    /// Whether a block's place is freed once it is given out.
    consume: bool,
    /// The block that `next` gives.
    next: usize,
    /// Reads of the blocks from `next` on that are begun.
    begun: VecDeque<u64>,
}

impl RunReader {
    pub(super) fn new(handle: Rc<RunHandle>, consume: bool) -> RunReader {
        handle.core.borrow_mut().readers += 1;
        RunReader { handle, consume, next: 0, begun: VecDeque::new() }
    }

    /// The next block, checked; `None` after the last one. Waits for the disk if it was not read ahead.
    ///
    /// # Errors
    /// If the block cannot be read ([`SpillError::Read`], [`SpillError::Truncated`]) or is not what was written
    /// ([`SpillError::Damaged`]). The next call tries it again.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Buf>, SpillError> {
        let state = self.handle.state.clone();
        if self.next == state.len() {
            return Ok(None);
        }
        let token = {
            let mut core = self.handle.core.borrow_mut();
            match self.begun.pop_front() {
                Some(token) => token,
                None => match core.begin_read(&state, self.next, false)? {
                    Some(token) => token,
                    None => return Ok(None),
                },
            }
        };
        let share = {
            let core = self.handle.core.borrow();
            core.options.read_ahead / core.readers.max(1)
        };
        let more = self.read_ahead(self.next + 1, share);
        let came = more.and_then(|()| self.take(token));
        match came {
            Ok(block) => {
                // While others read the run too, it stays whole.
                if self.consume && Rc::strong_count(&self.handle) == 1 {
                    self.handle.free(self.next);
                }
                self.next += 1;
                Ok(Some(block))
            }
            Err(error) => {
                let mut core = self.handle.core.borrow_mut();
                core.forget_read(token);
                self.begun.drain(..).for_each(|token| core.forget_read(token));
                Err(error)
            }
        }
    }

    /// Begins to read the next block, if the allowance has room for it; does not wait.
    ///
    /// # Errors
    /// If the disk cannot be asked at all.
    pub fn prefetch(&mut self) -> Result<(), SpillError> {
        self.read_ahead(self.next, 1)
    }

    /// Blocks that are still to come.
    pub fn remaining(&self) -> usize {
        self.handle.state.len() - self.next
    }

    /// Begins reads until `depth` blocks from `first` on are on their way or here.
    fn read_ahead(&mut self, first: usize, depth: usize) -> Result<(), SpillError> {
        let state = &self.handle.state;
        let mut core = self.handle.core.borrow_mut();
        core.reap();
        while self.begun.len() < depth && first + self.begun.len() < state.len() {
            match core.begin_read(state, first + self.begun.len(), true)? {
                Some(token) => self.begun.push_back(token),
                None => break,
            }
        }
        Ok(())
    }

    /// Waits for a block, checks and decompresses it.
    fn take(&self, token: u64) -> Result<Buf, SpillError> {
        let mut core = self.handle.core.borrow_mut();
        let done = core.end_read(&self.handle.state.file.operator, token)?;
        let block = self.decode(&core, done)?;
        core.counts.blocks_read += 1;
        core.counts.bytes_read += block.len() as u64;
        Ok(block)
    }

    fn decode(&self, core: &Core, done: Done) -> Result<Buf, SpillError> {
        let state = &self.handle.state;
        let block = state.block(self.next);
        let (offset, bytes) = (block.place.offset, done.request.total());
        let place = || Box::new(state.file.parts.borrow()[block.place.part].place.clone());
        let damaged = |damage| SpillError::Damaged { place: place(), offset, bytes, damage };
        match done.outcome {
            Ok(()) => {}
            Err(Trouble::End(got)) => {
                return Err(SpillError::Truncated { place: place(), offset, bytes, got });
            }
            Err(Trouble::Os(errno)) => {
                return Err(SpillError::Read {
                    place: place(),
                    offset,
                    bytes,
                    source: Arc::new(errno.into()),
                });
            }
        }
        let payload = done.request.payload;
        state.header(self.next, &core.options).check(&done.request.header, &payload).map_err(damaged)?;
        if !block.lz4 {
            return Ok(payload);
        }
        let mut raw = Buf::private(block.raw as usize);
        match lz4_flex::block::decompress_into(&payload, &mut raw) {
            Ok(n) if n as u64 == block.raw => Ok(raw),
            _ => Err(damaged(Damage::Compression)),
        }
    }
}

impl Drop for RunReader {
    fn drop(&mut self) {
        let mut core = self.handle.core.borrow_mut();
        core.readers -= 1;
        self.begun.drain(..).for_each(|token| core.forget_read(token));
    }
}

impl std::fmt::Debug for RunReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunReader({} blocks to come)", self.remaining())
    }
}
