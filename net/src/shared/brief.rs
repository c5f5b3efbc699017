//! The short way through a call: every rank shows one part that fits its board, or none.
//!
//! It keeps no lists, so that a small collective costs little more than the hand-over of a cache line. Ranks choose it each by itself: what
//! they write is what an [`Exposure`] writes. Who sees that another shows more goes on with one.

use super::boards::{Boards, ENTRIES, Entry, HEAD_BYTES, IN_HEAD, ON_BOARD, Placed, SLOT, SLOTS};
use super::{Exposure, INLINE, Shown};
use crate::world::World;
use std::cell::Ref;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// One part of this rank, or none, shown in a call.
pub struct Brief {
    world: World,
    seq: u64,
    tag: u64,
    part: Option<(u64, u32, usize)>,
    over: bool,
}

/// What one rank shows.
pub enum Glance<'a> {
    /// Nothing.
    Nothing,
    /// This, on its board.
    One(Shown<'a>),
    /// More than can be seen the short way.
    More,
}

impl World {
    /// Shows `(id, rank that it is for or ALL, bytes)`, or nothing, as [`World::try_expose`] does; `None` if it cannot be done the short way.
    #[inline]
    pub fn try_brief(
        &self,
        seq: u64,
        tag: u64,
        shape: u32,
        part: Option<(u64, u32, &[u8])>,
    ) -> Option<Brief> {
        let boards = self.boards();
        let boards = boards.as_ref().filter(|b| b.ready())?;
        let len = part.map_or(0, |(_, _, bytes)| bytes.len());
        if len > INLINE || (seq > SLOTS as u64 && !boards.all_done(seq - SLOTS as u64)) {
            return None;
        }
        let me = boards.rank as usize;
        if let Some((id, to, bytes)) = part {
            let slot = boards.slot(me, seq);
            let (fd, start) = home(len);
            let place = Placed { fd, segment: 0, offset: start as u64 };
            // SAFETY: this rank's own place, which nobody reads before the ticket; the bytes fit it, by the check of their length. (Those in
            // the head overwrite the entry's offset.)
            unsafe {
                boards.head(me, seq).only.get().write(Entry { id, len: len as u64, to, place });
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), slot.add(start), len);
            }
        }
        let head = boards.head(me, seq);
        head.entries.store(u32::from(part.is_some()), Ordering::Relaxed);
        head.shape.store(shape, Ordering::Relaxed);
        head.ticket.store(tag, Ordering::Release);
        self.nudge_all();
        let part = part.map(|(id, to, bytes)| (id, to, bytes.len()));
        Some(Brief { world: self.handle(), seq, tag, part, over: false })
    }
}

/// Where a single part of that length lies in its place.
fn home(len: usize) -> (i32, usize) {
    if len <= ENTRIES - HEAD_BYTES { (IN_HEAD, HEAD_BYTES) } else { (ON_BOARD, ENTRIES) }
}

const _: () = assert!(ENTRIES + INLINE <= SLOT);

impl Brief {
    /// Whether these ranks show theirs; looks at most so many times.
    #[inline]
    pub fn ready(&self, ranks: Range<u32>, looks: u32) -> bool {
        let boards = self.world.boards();
        let Some(boards) = boards.as_ref() else { return false };
        for rank in ranks {
            let ticket = &boards.head(rank as usize, self.seq).ticket;
            let mut left = looks;
            while ticket.load(Ordering::Acquire) != self.tag {
                left = left.saturating_sub(1);
                if left == 0 {
                    return false;
                }
                std::hint::spin_loop();
            }
        }
        true
    }

    /// See [`Exposure::parted`].
    pub fn parted(&self) -> Option<(u32, u64)> {
        self.world.boards().as_ref()?.parted(self.seq, self.tag)
    }

    /// What the ranks show that are [ready](Brief::ready).
    pub fn view(&self) -> View<'_> {
        View { boards: self.world.boards(), brief: self }
    }

    /// Goes on the long way, with what is shown already.
    pub fn into_exposure(mut self) -> Exposure {
        self.over = true;
        Exposure::of_brief(
            &self.world,
            self.seq,
            self.tag,
            self.part.map(|(id, to, len)| (id, to, len, home(len).1)),
        )
    }
}

impl Drop for Brief {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if let Some(boards) = self.world.boards().as_ref() {
            boards.say_done(self.seq);
        }
        self.world.nudge_all();
    }
}

/// The boards, as long as one looks at them.
pub struct View<'b> {
    boards: Ref<'b, Option<Boards>>,
    brief: &'b Brief,
}

impl View<'_> {
    /// What a rank shows; nothing unless it is ready.
    #[inline]
    pub fn of(&self, rank: u32) -> Glance<'_> {
        let Some(boards) = self.boards.as_ref() else { return Glance::Nothing };
        let seq = self.brief.seq;
        let head = boards.head(rank as usize, seq);
        if head.ticket.load(Ordering::Acquire) != self.brief.tag {
            return Glance::Nothing;
        }
        match head.entries.load(Ordering::Relaxed) {
            0 => return Glance::Nothing,
            1 => {}
            _ => return Glance::More,
        }
        // SAFETY: written before the ticket, which was acquired; any bytes are an entry, and what it says is checked below.
        let Entry { id, len, to, place } = unsafe { head.only.get().read() };
        let start = match place.fd {
            IN_HEAD if len <= (ENTRIES - HEAD_BYTES) as u64 => HEAD_BYTES,
            ON_BOARD if place.offset.checked_add(len).is_some_and(|end| end <= SLOT as u64) => {
                place.offset as usize
            }
            _ => return Glance::More,
        };
        // SAFETY: inside the place, written before the ticket, and left alone until this rank says that it is done, for which the brief
        // must go that this borrows.
        let bytes =
            unsafe { std::slice::from_raw_parts(boards.slot(rank as usize, seq).add(start), len as usize) };
        Glance::One(Shown { id, to, bytes })
    }
}
