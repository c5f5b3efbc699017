//! The short way through a call: every rank shows a few parts that fit its board, or none.
//!
//! It keeps no lists, so that a small collective costs little more than the hand-over of a cache line. Ranks choose it each by itself: what
//! they write is what an [`Exposure`] writes. Who sees that another shows more goes on with one.

use super::boards::{Boards, ENTRIES, ENTRY, Entry, FIT, HEAD_BYTES, IN_HEAD, ON_BOARD, Placed, SLOT, SLOTS};
use super::{Exposure, INLINE, Shown};
use crate::copying::copy_raw;
use crate::error::Result;
use crate::world::World;
use std::cell::Ref;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// What this rank shows in a call.
pub struct Brief {
    world: World,
    seq: u64,
    tag: u64,
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
    /// Shows these, as [`World::try_expose`] does with copies of them; `None` if it cannot be done the short way.
    #[inline]
    pub fn try_brief(&self, seq: u64, tag: u64, shape: u32, parts: &[Shown<'_>]) -> Option<Brief> {
        let boards = self.boards();
        let boards = boards.as_ref().filter(|b| b.ready())?;
        let count = parts.len();
        if count > FIT || parts.iter().map(|part| part.bytes.len()).sum::<usize>() > INLINE {
            return None;
        }
        if seq > SLOTS as u64 && !boards.all_done(seq - SLOTS as u64) {
            return None;
        }
        let me = boards.rank as usize;
        let (slot, head) = (boards.slot(me, seq), boards.head(me, seq));
        // SAFETY: this rank's own place, which nobody reads before the ticket. Entries and bytes fit it, by the checks above and the one of
        // `FIT` below. (Bytes in the head overwrite the offset of their entry.)
        unsafe {
            if let &[Shown { id, to, bytes }] = parts {
                let (fd, start) = if HEAD_BYTES + bytes.len() <= ENTRIES {
                    (IN_HEAD, HEAD_BYTES)
                } else {
                    (ON_BOARD, ENTRIES)
                };
                let place = Placed { fd, segment: 0, offset: start as u64 };
                head.only.get().write(Entry { id, len: bytes.len() as u64, to, place });
                copy_raw(bytes.as_ptr(), slot.add(start), bytes.len());
            } else {
                let mut start = ENTRIES + count * ENTRY;
                for (&Shown { id, to, bytes }, i) in parts.iter().zip(0..) {
                    start = start.next_multiple_of(16);
                    let place = Placed { fd: ON_BOARD, segment: 0, offset: start as u64 };
                    let entry = Entry { id, len: bytes.len() as u64, to, place };
                    slot.add(ENTRIES).cast::<Entry>().add(i).write(entry);
                    copy_raw(bytes.as_ptr(), slot.add(start), bytes.len());
                    start += bytes.len();
                }
            }
        }
        head.entries.store(count as u32, Ordering::Relaxed);
        head.shape.store(shape, Ordering::Relaxed);
        head.ticket.store(tag, Ordering::Release);
        self.nudge_all();
        Some(Brief { world: self.handle(), seq, tag, over: false })
    }
}

const _: () = assert!(ENTRIES + INLINE <= SLOT && ENTRIES + FIT * (ENTRY + 16) + INLINE <= SLOT);

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
    ///
    /// # Errors
    /// As of [`Exposure::poll_one`].
    pub fn into_exposure(mut self) -> Result<Exposure> {
        self.over = true;
        Exposure::of_brief(&self.world, self.seq, self.tag)
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
        match self.parts(rank) {
            Some(mut parts) if parts.len() <= 1 => parts.next().map_or(Glance::Nothing, Glance::One),
            _ => Glance::More,
        }
    }

    /// All that a rank shows; `None` if it is more than can be seen the short way.
    #[inline]
    pub fn parts(&self, rank: u32) -> Option<impl ExactSizeIterator<Item = Shown<'_>> + Clone> {
        let (slot, first, count) = self.entries(rank);
        // SAFETY: so many entries are there, written before the ticket, which was acquired; and all is left alone until this rank says that it
        // is done, for which the brief must go that this borrows.
        let part = move |i| unsafe { shown(slot, first.add(i).read()) };
        // Any bytes are an entry: what each says is looked at before the first is given away.
        if count > FIT || (0..count).any(|i| part(i).is_none()) {
            return None;
        }
        Some((0..count).map(move |i| part(i).unwrap_or(Shown { id: 0, to: 0, bytes: &[] })))
    }

    /// The place of a rank, its first entry, and how many there are: none unless it is ready.
    #[inline]
    fn entries(&self, rank: u32) -> (*mut u8, *const Entry, usize) {
        let Some(boards) = self.boards.as_ref() else { return (std::ptr::null_mut(), std::ptr::null(), 0) };
        let (slot, head) =
            (boards.slot(rank as usize, self.brief.seq), boards.head(rank as usize, self.brief.seq));
        let count = match head.ticket.load(Ordering::Acquire) == self.brief.tag {
            true => head.entries.load(Ordering::Relaxed) as usize,
            false => 0,
        };
        match count {
            0 | 1 => (slot, head.only.get().cast_const(), count),
            // SAFETY: the entries follow the head.
            _ => (slot, unsafe { slot.add(ENTRIES) }.cast_const().cast(), count),
        }
    }
}

/// What an entry of a place shows, if it is in the place.
///
/// # Safety
/// `slot` is a place whose ticket was seen, and whose owner leaves it alone for `'a`.
#[inline]
unsafe fn shown<'a>(slot: *mut u8, Entry { id, len, to, place }: Entry) -> Option<Shown<'a>> {
    let start = match place.fd {
        IN_HEAD if len <= (ENTRIES - HEAD_BYTES) as u64 => HEAD_BYTES,
        ON_BOARD if place.offset.checked_add(len).is_some_and(|end| end <= SLOT as u64) => {
            place.offset as usize
        }
        _ => return None,
    };
    // SAFETY: inside the place.
    Some(Shown { id, to, bytes: unsafe { std::slice::from_raw_parts(slot.add(start), len as usize) } })
}
