//! [`Merge`]: sorted runs as one.

use super::Rule;
use crate::error::{Result, Whose};
use crate::memory::Reservation;
use crate::record::Reader;
use crate::spill::{Run, RunReader};
use aeolian_net::Buf;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// In a run each record comes behind the rank that it is from.
pub(super) const ORIGIN: usize = 4;

/// The next record of a run.
struct Head<R: Rule> {
    prefix: u64,
    view: R::View,
    from: u32,
    run: usize,
    blocks: RunReader,
    block: Buf,
    /// Where the record is, and where the next one begins.
    at: usize,
    end: usize,
    /// The next block was asked for.
    has_asked: bool,
}

impl<R: Rule> Head<R> {
    /// Moves on to the next record; false if there is none.
    fn advance(&mut self, whose: &Whose) -> Result<bool> {
        if self.end == self.block.len() {
            match self.blocks.next()? {
                Some(block) => (self.block, self.end, self.has_asked) = (block, 0, false),
                None => return Ok(false),
            }
        }
        // Many runs have fewer blocks read ahead than there are of them: who is half-way asks for the next.
        if !self.has_asked && self.end > self.block.len() / 2 {
            self.blocks.prefetch()?;
            self.has_asked = true;
        }
        let damaged = || whose.unreadable::<R::Record>("a spilled run");
        let mut input = Reader::new(&self.block[self.end..]);
        self.from = u32::from_ne_bytes(input.array::<ORIGIN>().ok_or_else(damaged)?);
        self.at = self.end + ORIGIN;
        self.view = R::read(&mut input).ok_or_else(damaged)?;
        self.prefix = R::prefix(&self.view);
        self.end = self.block.len() - input.rest().len();
        Ok(true)
    }

    fn of(run: usize, mut blocks: RunReader, whose: &Whose) -> Result<Option<Head<R>>> {
        let damaged = || whose.unreadable::<R::Record>("a spilled run");
        let Some(block) = blocks.next()? else { return Ok(None) };
        let mut input = Reader::new(&block);
        let from = u32::from_ne_bytes(input.array::<ORIGIN>().ok_or_else(damaged)?);
        let view = R::read(&mut input).ok_or_else(damaged)?;
        let end = block.len() - input.rest().len();
        Ok(Some(Head {
            prefix: R::prefix(&view),
            view,
            from,
            run,
            blocks,
            block,
            at: ORIGIN,
            end,
            has_asked: false,
        }))
    }
}

impl<R: Rule> Ord for Head<R> {
    /// The least comes first from a heap whose largest does.
    fn cmp(&self, other: &Head<R>) -> Ordering {
        let order = other.prefix.cmp(&self.prefix);
        let order = match R::PREFIX_IS_ALL {
            true => order,
            false => order.then_with(|| R::order(&other.view, &self.view)),
        };
        // What came from a rank in a later run came later.
        order.then_with(|| (other.from, other.run).cmp(&(self.from, self.run)))
    }
}

impl<R: Rule> PartialOrd for Head<R> {
    fn partial_cmp(&self, other: &Head<R>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Rule> PartialEq for Head<R> {
    fn eq(&self, other: &Head<R>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<R: Rule> Eq for Head<R> {}

pub(crate) struct Merge<R: Rule> {
    heads: BinaryHeap<Head<R>>,
    whose: Whose,
    _room: Reservation,
}

impl<R: Rule> Merge<R> {
    /// Of runs in the order in which they came. `room` has what their blocks take.
    pub(super) fn new(runs: Vec<Run>, room: Reservation, whose: &Whose) -> Result<Merge<R>> {
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.into_iter().enumerate() {
            heads.extend(Head::of(number, run.read(), whose)?);
        }
        Ok(Merge { heads, whose: whose.clone(), _room: room })
    }

    /// The next record: the rank that it is from, and its bytes.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(u32, &[u8])> {
        self.heads.peek().map(|head| (head.from, &head.block[head.at..head.end]))
    }

    /// Moves on to the one after it.
    pub(crate) fn advance(&mut self) -> Result<()> {
        if let Some(mut head) = self.heads.peek_mut()
            && !head.advance(&self.whose)?
        {
            PeekMut::pop(head);
        }
        Ok(())
    }

    /// Fills this with the next records, as far as it has room; returns how far.
    pub(crate) fn fill(&mut self, place: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some((_, bytes)) = self.peek()
            && let Some(place) = place.get_mut(filled..filled + bytes.len())
        {
            place.copy_from_slice(bytes);
            filled += bytes.len();
            self.advance()?;
        }
        Ok(filled)
    }
}
