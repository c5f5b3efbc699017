//! [`Begun`]: MPI's own broadcasts, begun and tested.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::{Buffer, Flavor, Mpi};
use crate::{NetError, Result};

/// Pieces that MPI has at once: the next is begun when one of them has come.
const AT_ONCE: usize = 8;

/// Bytes of a piece at most: that one has come is what is seen of the progress of a long one.
const PIECE: usize = 4 << 20;

/// Broadcasts under way on a communicator of their own, of owned buffers.
///
/// All ranks must begin the same ones in the same order. None can be taken back: a rank that another has left alone in one never sees its
/// end, but returns from each call all the same.
#[derive(Debug)]
pub struct Begun<B: Buffer> {
    mpi: Mpi,
    next: u64,
    /// What has not been taken, by number.
    all: BTreeMap<u64, Broadcast<B>>,
    waiting: VecDeque<Piece>,
    /// In the order of the requests.
    slots: Vec<u64>,
    done: Vec<u64>,
}

#[derive(Debug)]
struct Broadcast<B> {
    buf: B,
    /// Of `buf`, which nobody may look at while MPI writes there.
    bytes: *mut u8,
    /// Pieces that have not come.
    pieces: usize,
}

#[derive(Debug)]
struct Piece {
    of: u64,
    bytes: Range<usize>,
    root: i32,
}

impl<B: Buffer> Begun<B> {
    /// On a duplicate of `mpi`'s communicator. Every rank must call it.
    pub fn new(mpi: &Mpi) -> Result<Begun<B>> {
        let (all, waiting) = (BTreeMap::new(), VecDeque::new());
        Ok(Begun { mpi: mpi.duplicate()?, next: 0, all, waiting, slots: Vec::new(), done: Vec::new() })
    }

    /// Begins to give every rank what `buf` holds at `root`; it has the same length everywhere. By the number that comes back
    /// [`Begun::take`] tells the end.
    pub fn broadcast(&mut self, mut buf: B, root: u32) -> Result<u64> {
        let root = self.mpi.root(root)?;
        let (number, len) = (self.next, buf.bytes().len());
        self.next += 1;
        let step = self.mpi.chunk.min(PIECE);
        let pieces =
            (0..len).step_by(step).map(|at| Piece { of: number, bytes: at..(at + step).min(len), root });
        self.waiting.extend(pieces);
        let bytes = buf.bytes_mut().as_mut_ptr();
        self.all.insert(number, Broadcast { buf, bytes, pieces: len.div_ceil(step) });
        self.begin_some()?;
        Ok(number)
    }

    fn begin_some(&mut self) -> Result<()> {
        while self.slots.len() < AT_ONCE
            && let Some(Piece { of, bytes, root }) = self.waiting.pop_front()
        {
            let Some(there) = self.all.get(&of) else { continue };
            self.mpi.call("MPI_Ibcast", |ops, ctx| {
                // SAFETY: ctx is live; the range is one of the buffer's, whose bytes stay where they are (`Buffer`) until they have come, or
                // are leaked.
                unsafe { (ops.ibcast)(ctx, there.bytes.add(bytes.start).cast(), bytes.len() as u64, root) }
            })?;
            self.slots.push(of);
        }
        Ok(())
    }

    /// Whose MPI's they are.
    pub fn flavor(&self) -> Flavor {
        self.mpi.flavor()
    }

    /// Whether some have not ended.
    pub fn is_busy(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Moves them on; true if a piece has come.
    pub fn poll(&mut self) -> Result<bool> {
        if self.slots.is_empty() {
            return Ok(false);
        }
        self.done.resize(AT_ONCE, 0);
        let (done, mut count) = (&mut self.done, 0);
        self.mpi.call("MPI_Testsome", |ops, ctx| {
            // SAFETY: done is at least as long as the list of requests, which is as long as slots.
            unsafe { (ops.testsome)(ctx, done.as_mut_ptr(), done.len() as u64, &mut count) }
        })?;
        for k in 0..count as usize {
            let of = self.slots.swap_remove(self.done[k] as usize);
            if let Some(there) = self.all.get_mut(&of) {
                there.pieces -= 1;
            }
        }
        self.begin_some()?;
        Ok(count > 0)
    }

    /// The buffer of a broadcast that has ended here.
    pub fn take(&mut self, number: u64) -> Option<B> {
        match self.all.get(&number)?.pieces {
            0 => self.all.remove(&number).map(|there| there.buf),
            _ => None,
        }
    }

    /// Frees the communicator.
    ///
    /// # Errors
    /// [`NetError::Usage`] if something is under way, of which MPI must not be left alone.
    pub fn finalize(mut self) -> Result<()> {
        match self.slots.len() {
            0 => self.mpi.finalize(),
            n => Err(NetError::Usage(format!("{n} pieces of MPI's broadcasts are under way at the end"))),
        }
    }
}

// SAFETY: MPI has pointers into buffers that this owns; all else is Send.
unsafe impl<B: Buffer + Send> Send for Begun<B> {}

impl<B: Buffer> Drop for Begun<B> {
    /// Leaks what MPI may still read or write.
    fn drop(&mut self) {
        if !self.slots.is_empty() {
            std::mem::forget(std::mem::take(&mut self.all));
        }
    }
}
