//! One call: what a rank shows in it, and what it sees of the others.

use super::boards::{
    AT_ADDRESS, AT_PRIVATE, ENTRIES, ENTRY, Entry, FIT, HEAD_BYTES, IN_HEAD, ON_BOARD, Placed, SLOT, SLOTS,
    cannot_open,
};
use super::{Part, Shown, Shows};
use crate::buffer::Buf;
use crate::copying::copy_raw;
use crate::error::{NetError, Result};
use crate::pool::Place;
use crate::private;
use crate::world::World;
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// The chunk of a [`Exposure::rewrite`]: both operands and the result stay in the first-level cache.
const CHUNK: usize = 16 << 10;

/// A slice of at least so many bytes is copied from where it lies, if one other rank wants it: each copy takes a system call.
const PRIVATE_FROM: usize = 8 << 10;

/// As above, if several do. They read a copy that lies in a cache much faster than the system reads from page to page.
const PRIVATE_FROM_FOR_MANY: usize = 4 << 20;

const ONCE_ALLOWED: &str = "; if the system allows that no longer, AEOLIAN_SINGLE_COPY=off does without";

/// What this rank shows in one call, and what it sees of the others.
pub struct Exposure {
    world: World,
    seq: u64,
    tag: u64,
    /// With where its bytes were shown, if not in it.
    lent: SmallVec<[(Buf, Option<*mut u8>); 1]>,
    /// Some of it was written by the others.
    rewritten: bool,
    /// Small parts that did not fit the board, and the directory.
    staged: Vec<Buf>,
    /// Others read this process's own memory.
    private: bool,
    /// The others wait for what it has yet to do in their memory.
    owes: bool,
    seen: SmallVec<[Option<SmallVec<[Seen; 1]>>; 4]>,
    done: bool,
}

#[derive(Clone, Copy)]
struct Seen {
    id: u64,
    to: u32,
    len: usize,
    /// If it is [private](Part::Private): there, and not here.
    at: *mut u8,
    private: bool,
}

impl World {
    /// Shows parts to all ranks of this world in the collective `seq`; `tag` is its ticket. `None` while a call long
    /// before is not done everywhere: try again. `parts` is asked only once that is so.
    ///
    /// Boards must be [open](World::open_boards).
    pub fn try_expose<'a>(
        &self,
        seq: u64,
        tag: u64,
        shape: u32,
        parts: impl FnOnce() -> Shows<'a>,
    ) -> Result<Option<Exposure>> {
        match self.has_place_for(seq)? {
            true => self.expose(seq, tag, shape, parts()).map(Some),
            false => Ok(None),
        }
    }

    /// Whether all are done with the call whose place this one's is.
    fn has_place_for(&self, seq: u64) -> Result<bool> {
        let boards = self.boards();
        let Some(boards) = boards.as_ref().filter(|b| b.ready()) else {
            return Err(NetError::Internal("boards are not open".into()));
        };
        Ok(seq <= SLOTS as u64 || boards.all_done(seq - SLOTS as u64))
    }

    /// (Apart from `try_expose`, so that it is compiled once.)
    fn expose(&self, seq: u64, tag: u64, shape: u32, parts: Shows<'_>) -> Result<Exposure> {
        let boards = self.boards();
        let Some(boards) = boards.as_ref() else {
            return Err(NetError::Internal("boards are not open".into()));
        };
        let me = boards.rank as usize;
        let slot = boards.slot(me, seq);
        let count = parts.len();
        let mut exposure = Exposure::new(self, seq, tag);
        exposure.seen.resize(boards.mates.len(), None);
        let lies_open = |buf: &Buf| !buf.is_empty() && (boards.threads || buf.block().is_some());
        let address = |buf: &Buf| match buf.block().filter(|_| !boards.threads) {
            Some(block) => Ok(placed(block.place())),
            None if boards.threads => Ok(Placed { fd: AT_ADDRESS, segment: 0, offset: buf.as_ptr() as u64 }),
            None => Err(no_memory()),
        };
        // Where the bytes go that do not lie open: on the board while there is room, then all into one buffer that does. Not on the board if they
        // come back: the place may be another call's when they do.
        let mut at = ENTRIES + if (2..=FIT).contains(&count) { count * ENTRY } else { 0 };
        let mut overflow = 0;
        let mut homes = SmallVec::<[Home; 2]>::with_capacity(count);
        let private_from = if boards.mates.len() == 2 { PRIVATE_FROM } else { PRIVATE_FROM_FOR_MANY };
        for (_, _, part) in &parts {
            let len = match part {
                Part::Lent(buf) | Part::Given(buf) if lies_open(buf) => {
                    homes.push(Home::Open);
                    continue;
                }
                Part::Private(bytes) if bytes.len() >= private_from && boards.read_by_all() => {
                    homes.push(Home::Private);
                    continue;
                }
                Part::Lent(buf) | Part::Given(buf) => buf.len(),
                Part::Copied(bytes) | Part::Private(bytes) => bytes.len(),
            };
            let returns = matches!(part, Part::Lent(_)) && len > 0;
            if count == 1 && HEAD_BYTES + len <= ENTRIES && !returns {
                homes.push(Home::Board(HEAD_BYTES));
                continue;
            }
            let start = at.next_multiple_of(16);
            if start + len <= SLOT && !returns {
                homes.push(Home::Board(start));
                at = start + len;
            } else {
                homes.push(Home::Staged(overflow));
                overflow = (overflow + len).next_multiple_of(64);
            }
        }
        let mut staged = Buf::empty();
        let mut staged_at = None;
        if overflow > 0 {
            staged = Buf::stale(overflow.max(crate::pool::POOL_FROM));
            staged_at = Some(address(&staged)?);
        }
        let only = boards.head(me, seq).only.get();
        let mut directory = Buf::empty();
        let entries = match count {
            0 | 1 => only,
            // SAFETY: `FIT` entries end before the place does; nobody reads them before the ticket.
            2..=FIT => unsafe { slot.add(ENTRIES).cast::<Entry>() },
            _ => {
                directory = Buf::stale((count * ENTRY).max(crate::pool::POOL_FROM));
                directory.as_mut_ptr().cast::<Entry>()
            }
        };
        let mut own = SmallVec::with_capacity(count);
        for (((id, to, part), home), i) in parts.into_iter().zip(homes).zip(0..) {
            let bytes = match &part {
                Part::Copied(bytes) | Part::Private(bytes) => bytes,
                Part::Lent(buf) | Part::Given(buf) => &buf[..],
            };
            let len = bytes.len();
            let shown_at = match home {
                Home::Open | Home::Private => None,
                // SAFETY: `start + len` is inside this rank's own place, which no other rank reads before the next ticket.
                Home::Board(start) => Some(unsafe { slot.add(start) }),
                Home::Staged(start) => Some(staged[start..].as_mut_ptr()),
            };
            let place = match (home, &part) {
                (Home::Open, Part::Lent(buf) | Part::Given(buf)) => address(buf)?,
                (Home::Board(HEAD_BYTES), _) => Placed { fd: IN_HEAD, segment: 0, offset: 0 },
                (Home::Board(start), _) => Placed { fd: ON_BOARD, segment: 0, offset: start as u64 },
                (Home::Staged(start), _) => match staged_at {
                    Some(all) => Placed { offset: all.offset + start as u64, ..all },
                    None => return Err(no_memory()),
                },
                (Home::Private, _) => Placed { fd: AT_PRIVATE, segment: 0, offset: bytes.as_ptr() as u64 },
                (Home::Open, Part::Copied(_) | Part::Private(_)) => return Err(no_memory()),
            };
            // SAFETY: the `i`th of `count` entries; nobody reads them before the ticket. (Bytes in the head overwrite what their entry
            // has no use for.)
            unsafe { entries.add(i).write(Entry { id, len: len as u64, to, place }) };
            if let Some(to) = shown_at {
                // SAFETY: as above; the bytes are elsewhere, and `homes` has room for them.
                unsafe { copy_raw(bytes.as_ptr(), to, len) };
            }
            let mut lent = match part {
                Part::Lent(buf) => Some(buf),
                Part::Given(buf) if shown_at.is_none() => Some(buf),
                Part::Given(_) | Part::Copied(_) | Part::Private(_) => None,
            };
            let own_at = shown_at.or_else(|| lent.as_mut().map(|buf| buf.as_mut_ptr()));
            let private = matches!(home, Home::Private);
            own.push(Seen { id, to, len, at: own_at.unwrap_or(slot), private });
            exposure.private |= private;
            if let Some(buf) = lent {
                exposure.lent.push((buf, shown_at));
            }
        }
        if overflow > 0 {
            exposure.staged.push(staged);
        }
        if count > FIT {
            let place = address(&directory)?;
            // SAFETY: this rank's own place; nobody reads it before the ticket.
            unsafe { only.write(Entry { id: 0, len: directory.len() as u64, to: 0, place }) };
            exposure.staged.push(directory);
        }
        exposure.seen[me] = Some(own);
        let head = boards.head(me, seq);
        head.entries.store(count as u32, Ordering::Relaxed);
        head.shape.store(shape, Ordering::Relaxed);
        head.ticket.store(tag, Ordering::Release);
        self.nudge_all();
        Ok(exposure)
    }
}

/// Where the bytes of a part lie for the others.
#[derive(Clone, Copy)]
enum Home {
    /// Where they are.
    Open,
    /// Where they are, which only the system can read.
    Private,
    /// On the board, from this offset of the place on.
    Board(usize),
    /// In the staged buffer, from this offset on.
    Staged(usize),
}

/// Shares begin at whole cache lines of whole elements.
fn unit(element: usize) -> usize {
    element.max(1) * 64
}

/// The bytes, of `len` in elements of `element`, that rank `rank` of `size` combines for all.
pub fn share(len: usize, element: usize, rank: u32, size: u32) -> Range<usize> {
    let (unit, size) = (unit(element), size.max(1) as usize);
    let bound = |r: usize| (len.div_ceil(unit) * r / size * unit).min(len);
    bound(rank as usize)..bound(rank as usize + 1)
}

fn no_memory() -> NetError {
    NetError::Os {
        what: "the system gives no memory that the ranks of this node could share (limits?)".into(),
        source: std::io::Error::from(std::io::ErrorKind::OutOfMemory),
    }
}

fn placed(place: Place) -> Placed {
    Placed { fd: place.fd, segment: place.segment, offset: place.offset }
}

impl Exposure {
    /// Whether all ranks show theirs.
    ///
    /// # Errors
    /// [`Parted`](Exposure::parted) can tell the ticket of a rank that is in another call; [`NetError::Protocol`] for a board that makes no sense.
    pub fn poll_all(&mut self) -> Result<bool> {
        for rank in 0..self.seen.len() {
            if !self.poll(rank)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether one rank shows its.
    pub fn poll_one(&mut self, rank: u32) -> Result<bool> {
        self.poll(rank as usize)
    }

    /// The ticket of a rank that is in a call of the same number, but another one.
    pub fn parted(&self) -> Option<(u32, u64)> {
        self.world.boards().as_ref()?.parted(self.seq, self.tag)
    }

    /// What is shown already, all of it on the board.
    pub(super) fn of_brief(world: &World, seq: u64, tag: u64) -> Result<Exposure> {
        let mut exposure = Exposure::new(world, seq, tag);
        exposure.seen.resize(world.size() as usize, None);
        exposure.poll_one(world.rank())?;
        Ok(exposure)
    }

    fn new(world: &World, seq: u64, tag: u64) -> Exposure {
        Exposure {
            world: world.handle(),
            seq,
            tag,
            lent: SmallVec::new(),
            rewritten: false,
            staged: Vec::new(),
            private: false,
            owes: false,
            seen: SmallVec::new(),
            done: false,
        }
    }

    fn poll(&mut self, rank: usize) -> Result<bool> {
        if self.seen[rank].is_some() {
            return Ok(true);
        }
        let mut boards = self.world.boards_mut();
        let Some(boards) = boards.as_mut() else {
            return Err(NetError::Internal("boards are not open".into()));
        };
        let head = boards.head(rank, self.seq);
        if head.ticket.load(Ordering::Acquire) != self.tag {
            return Ok(false);
        }
        let count = head.entries.load(Ordering::Relaxed) as usize;
        // SAFETY: written before the ticket, which was acquired; any bytes are an entry, and what it says is checked below.
        let only = unsafe { head.only.get().read() };
        let job_rank = boards.mates[rank].job_rank;
        let broken = |what: String| NetError::Protocol { peer: format!("rank {job_rank} (its board)"), what };
        let slot = boards.slot(rank, self.seq);
        let threads = boards.threads;
        let mate = &mut boards.mates[rank];
        let mut address = |place: Placed, len: u64| -> Result<*mut u8> {
            match place.fd {
                // SAFETY: inside the place.
                IN_HEAD if len <= (ENTRIES - HEAD_BYTES) as u64 => Ok(unsafe { slot.add(HEAD_BYTES) }),
                ON_BOARD if place.offset.checked_add(len).is_some_and(|end| end <= SLOT as u64) => {
                    // SAFETY: inside the place.
                    Ok(unsafe { slot.add(place.offset as usize) })
                }
                AT_ADDRESS if threads => Ok(place.offset as usize as *mut u8),
                fd if fd >= 0 => match &mut mate.foreign {
                    Some(foreign) => foreign
                        .address(Place { fd, segment: place.segment, offset: place.offset }, len)
                        .map_err(|e| cannot_open(job_rank, e)),
                    None => Err(broken("a place in another process's memory".into())),
                },
                fd => Err(broken(format!("a part at a place of kind {fd}"))),
            }
        };
        let from = match count {
            0 | 1 => &raw const only,
            // SAFETY: the entries follow the head.
            2..=FIT => unsafe { slot.add(ENTRIES).cast_const().cast() },
            _ => address(only.place, (count * ENTRY) as u64)?.cast_const().cast(),
        };
        let mut seen = SmallVec::with_capacity(count);
        for i in 0..count {
            // SAFETY: `count` entries are there, by the check of `address` or by `FIT`; they were written before the ticket.
            let entry: Entry = unsafe { from.add(i).read() };
            let private = entry.place.fd == AT_PRIVATE && !threads;
            let at = match private {
                true => entry.place.offset as usize as *mut u8,
                false => address(entry.place, entry.len)?,
            };
            seen.push(Seen { id: entry.id, to: entry.to, len: entry.len as usize, at, private });
        }
        self.seen[rank] = Some(seen);
        Ok(true)
    }

    /// The fingerprint of a rank's shape; only after it was [polled](Exposure::poll_one).
    pub fn shape(&self, rank: u32) -> u32 {
        let boards = self.world.boards();
        boards.as_ref().map_or(0, |b| b.head(rank as usize, self.seq).shape.load(Ordering::Relaxed))
    }

    /// Of each part that a rank shows its id, the rank that it is for, and its length, also while others write to it; nothing before it was
    /// [polled](Exposure::poll_one).
    pub fn outline(&self, rank: u32) -> impl ExactSizeIterator<Item = (u64, u32, usize)> + Clone + '_ {
        let seen = self.seen.get(rank as usize).and_then(|seen| seen.as_deref());
        seen.unwrap_or(&[]).iter().map(|s| (s.id, s.to, s.len))
    }

    /// What a rank shows, by ascending place in what it gave; nothing before it was [polled](Exposure::poll_one), or after [`Exposure::done`].
    /// (What is [private](Part::Private) is not here, and seems to be empty: see [`Exposure::fetch`].)
    pub fn shown(&self, rank: u32) -> impl ExactSizeIterator<Item = Shown<'_>> + Clone {
        let seen = self.seen.get(rank as usize).and_then(|seen| seen.as_deref()).filter(|_| !self.done);
        seen.unwrap_or(&[]).iter().map(|s| Shown {
            id: s.id,
            to: s.to,
            bytes: match s.private {
                true => &[],
                // SAFETY: mapped memory of this length, that its owner has lent to this call until this rank is done with it, which ends
                // this borrow (`done` takes `&mut self`).
                false => unsafe { std::slice::from_raw_parts(s.at, s.len) },
            },
        })
    }

    /// Whether a rank shows something that only [`fetch`](Exposure::fetch) can reach.
    pub fn shows_private(&self, rank: u32) -> bool {
        let seen = self.seen.get(rank as usize).and_then(|seen| seen.as_deref());
        seen.unwrap_or(&[]).iter().any(|seen| seen.private)
    }

    /// Copies from what a rank shows, wherever it lies: of its part `part` what begins at byte `from`.
    ///
    /// # Errors
    /// [`NetError::Internal`] if so much is not there. For [private](Part::Private) parts [`NetError::Lost`] if their owner has left the call
    /// early or is gone, so that what was read is worth nothing, and [`NetError::Os`] if the system refuses.
    pub fn fetch(&self, rank: u32, part: usize, from: usize, into: &mut [u8]) -> Result<()> {
        let seen = self.seen.get(rank as usize).and_then(|seen| seen.as_ref()?.get(part));
        let fits = |seen: &&Seen| from.checked_add(into.len()).is_some_and(|end| end <= seen.len);
        let Some(seen) = seen.filter(fits).filter(|_| !self.done) else {
            let what =
                format!("rank {rank} does not show {} bytes from byte {from} of part {part}", into.len());
            return Err(NetError::Internal(what));
        };
        if !seen.private {
            // SAFETY: inside mapped memory, as in `shown`; `into` is borrowed exclusively, so that it is not that.
            unsafe { copy_raw(seen.at.add(from).cast_const(), into.as_mut_ptr(), into.len()) };
            return Ok(());
        }
        let boards = self.world.boards();
        let mate = boards.as_ref().and_then(|boards| boards.mates.get(rank as usize));
        let Some((mate, foreign)) = mate.and_then(|mate| Some((mate, mate.foreign.as_ref()?))) else {
            return Err(NetError::Internal(format!("the memory of rank {rank} is not another process's")));
        };
        let read = private::read(foreign.pid(), (seen.at as u64).wrapping_add(from as u64), into);
        let peer = format!("rank {}", mate.job_rank);
        match (read, boards.as_ref().is_some_and(|boards| boards.withdrew(rank as usize, self.seq))) {
            (Ok(()), false) => Ok(()),
            (_, true) => Err(NetError::Lost { peer, what: "it has left the collective early".into() }),
            (Err(e), _) if private::is_gone(&e) => {
                // (Also what a system says that allows it no longer.)
                let help = if e.kind() == std::io::ErrorKind::PermissionDenied { ONCE_ALLOWED } else { "" };
                Err(NetError::Lost { peer, what: format!("its memory cannot be read any more: {e}{help}") })
            }
            (Err(e), _) => Err(NetError::Os {
                what: format!("reading the memory of {peer} (AEOLIAN_SINGLE_COPY=off does without)"),
                source: e,
            }),
        }
    }

    /// The others wait for what this rank will do to what all show. Until it has ([`Exposure::settle`]), it is not done, not even if it ends.
    pub fn owe(&mut self) {
        self.owes = true;
    }

    /// It has done what it [owed](Exposure::owe), or need not.
    pub fn settle(&mut self) {
        self.owes = false;
    }

    /// Combines this rank's share of part `part`, which must be there and of the same length on all ranks: `combine(a, b)` makes `a . b` of
    /// pieces in the order of the ranks, and the result replaces the piece at `root`, or on all ranks. Pieces are of whole elements of
    /// `element` bytes.
    ///
    /// All ranks must call it for the same parts: each does its share, and all are done when all have said so.
    pub fn rewrite(
        &mut self,
        part: usize,
        element: usize,
        root: Option<u32>,
        mut combine: impl FnMut(&mut [u8], &[u8]),
    ) -> Result<()> {
        self.rewritten = true;
        let size = self.seen.len();
        let (at, len) = self.places(part)?;
        let rank = self.world.rank() as usize;
        let unit = unit(element);
        let Range { start: mut from, end } = share(len, element, rank as u32, size as u32);
        let step = (CHUNK / unit).max(1) * unit;
        let mut scratch = Buf::empty();
        while from < end {
            let n = step.min(end - from);
            // SAFETY: `from + n <= len` of every part; the share of this rank is disjoint from those of the others, who alone touch these parts
            // besides, and no other slice of it lives here.
            unsafe {
                let to = match root {
                    Some(root) if root != 0 => {
                        if scratch.len() < n {
                            scratch = Buf::stale(n);
                        }
                        copy_raw(at[0].add(from), scratch.as_mut_ptr(), n);
                        scratch.as_mut_ptr()
                    }
                    _ => at[0].add(from),
                };
                let into = std::slice::from_raw_parts_mut(to, n);
                for other in &at[1..] {
                    combine(into, std::slice::from_raw_parts(other.add(from), n));
                }
                match root {
                    Some(0) => {}
                    Some(root) => copy_raw(to, at[root as usize].add(from), n),
                    None => {
                        for other in &at[1..] {
                            copy_raw(to, other.add(from), n);
                        }
                    }
                }
            }
            from += n;
        }
        Ok(())
    }

    /// Moves this rank's share of part `part`, which must be there and of the same length on all ranks: what rank `from[r]` shows replaces what
    /// rank `r` shows. `from` is a permutation of the ranks, the same on all.
    ///
    /// All ranks must call it for the same parts: each does its share, and all are done when all have said so.
    ///
    /// # Errors
    /// [`NetError::Internal`] for parts that differ in length, or a list that is no permutation.
    pub fn permute(&mut self, part: usize, from: &[u32]) -> Result<()> {
        self.rewritten = true;
        let (at, len) = self.places(part)?;
        let mut starts = SmallVec::<[bool; 8]>::from_elem(true, at.len());
        if from.len() != at.len()
            || from.iter().any(|&f| !starts.get_mut(f as usize).is_some_and(std::mem::take))
        {
            return Err(NetError::Internal(format!("{from:?} is not a permutation of the ranks")));
        }
        let Range { start: mut low, end } = share(len, 1, self.world.rank(), at.len() as u32);
        let mut kept = Buf::stale(CHUNK.min(end - low));
        while low < end {
            let n = CHUNK.min(end - low);
            // SAFETY: `low + n <= len` of every part; of all of them this rank alone touches its share, and no slice of it lives here.
            let copy = |from: usize, to: usize| unsafe {
                copy_raw(at[from].add(low).cast_const(), at[to].add(low), n);
            };
            let mut moved = SmallVec::<[bool; 8]>::from_elem(false, at.len());
            for first in 0..at.len() {
                if moved[first] || from[first] as usize == first {
                    continue;
                }
                // SAFETY: as above; `kept` has room for a chunk.
                unsafe { copy_raw(at[first].add(low).cast_const(), kept.as_mut_ptr(), n) };
                let mut to = first;
                loop {
                    moved[to] = true;
                    let source = from[to] as usize;
                    if source == first {
                        break;
                    }
                    copy(source, to);
                    to = source;
                }
                // SAFETY: as above.
                unsafe { copy_raw(kept.as_ptr(), at[to].add(low), n) };
            }
            low += n;
        }
        Ok(())
    }

    /// Moves this rank's half of two parts that change places: its own `mine` and `theirs` of rank `peer`, which are of the same length.
    ///
    /// Both ranks must call it for the same two parts, and are done when both have said so.
    ///
    /// # Errors
    /// [`NetError::Internal`] for parts that are not there or differ in length.
    pub fn swap(&mut self, mine: usize, peer: u32, theirs: usize) -> Result<()> {
        self.rewritten = true;
        let rank = self.world.rank();
        let part = |rank: u32, part: usize| self.seen.get(rank as usize)?.as_ref()?.get(part).copied();
        let (Some(a), Some(b), false) = (part(rank, mine), part(peer, theirs), self.done) else {
            return Err(NetError::Internal(format!("part {mine} or {theirs} of rank {peer} is not shown")));
        };
        if a.len != b.len || a.private || b.private || rank == peer {
            return Err(NetError::Internal(format!(
                "part {mine} cannot take the place of {theirs} of rank {peer}"
            )));
        }
        let mut half = share(a.len, 1, u32::from(rank > peer), 2);
        while !half.is_empty() {
            let n = CHUNK.min(half.len());
            // SAFETY: within both parts, of which this rank alone touches this half; no slice of it lives here. Parts of different ranks
            // do not overlap.
            unsafe { std::ptr::swap_nonoverlapping(a.at.add(half.start), b.at.add(half.start), n) };
            half.start += n;
        }
        Ok(())
    }

    /// Where part `part` of every rank lies, and how long all of them are.
    fn places(&self, part: usize) -> Result<(SmallVec<[*mut u8; 8]>, usize)> {
        let mut at = SmallVec::<[*mut u8; 8]>::with_capacity(self.seen.len());
        let mut len = None;
        for seen in &self.seen {
            let Some(s) = seen.as_ref().and_then(|s| s.get(part)).filter(|s| !s.private && !self.done) else {
                return Err(NetError::Internal(format!("part {part} is not shown by all ranks")));
            };
            if *len.get_or_insert(s.len) != s.len {
                return Err(NetError::Internal(format!("part {part} has several lengths")));
            }
            at.push(s.at);
        }
        Ok((at, len.unwrap_or(0)))
    }

    /// This rank needs no more of what the others show.
    pub fn done(&mut self) {
        if self.done {
            return;
        }
        self.done = true;
        if let Some(boards) = self.world.boards().as_ref() {
            boards.say_done(self.seq);
        }
        self.world.nudge_all();
    }

    /// What was lent, once all ranks are done with it, in the order in which it was given.
    pub fn poll_reclaim(&mut self) -> Option<SmallVec<[Buf; 1]>> {
        self.done();
        let all = self.world.boards().as_ref().is_some_and(|b| b.all_done(self.seq));
        if !all {
            return None;
        }
        let lent = std::mem::take(&mut self.lent).into_iter().map(|(mut buf, shown)| {
            if let Some(at) = shown.filter(|_| self.rewritten) {
                // SAFETY: the bytes of this buffer, if any, were copied to `at` in a staged buffer, which is still this exposure's, and nobody
                // else touches them any more.
                unsafe { copy_raw(at, buf.as_mut_ptr(), buf.len()) };
            }
            buf
        });
        let lent = lent.collect();
        self.staged.clear();
        Some(lent)
    }

    /// True if nothing was lent or is to come back: the rank need not wait for the others to be done.
    pub fn is_on_board(&self) -> bool {
        self.lent.is_empty() && self.staged.is_empty() && !self.private
    }
}

impl Drop for Exposure {
    fn drop(&mut self) {
        if self.private
            && let Some(boards) = self.world.boards().as_ref().filter(|boards| !boards.all_done(self.seq))
        {
            boards.withdraw(self.seq);
        }
        // Who owes something has failed: the others must not take what they have for the whole, and hear of the failure.
        if !self.owes {
            self.done();
        }
        if self.is_on_board() {
            return;
        }
        // Others may still look: what was lent is never used again.
        let all = !self.owes && self.world.boards().as_ref().is_some_and(|b| b.all_done(self.seq));
        if !all {
            std::mem::take(&mut self.lent).into_iter().for_each(std::mem::forget);
            std::mem::take(&mut self.staged).into_iter().for_each(std::mem::forget);
        }
    }
}
