//! Where large buffers live: memory that the other ranks of the node can open, kept for the next buffer when one is dropped.
//!
//! A page that is touched for the first time costs more than copying it, so a program that works in supersteps should get the pages of the
//! last one back. And a rank that can read its neighbour's buffers where they lie needs no copy in and no copy out. So buffers of
//! [`POOL_FROM`] bytes and more are blocks, of a power of two in address space, of a few *segments* (`memfd`): what is not touched
//! of a block costs nothing. A node-mate opens a segment through `/proc/PID/fd`, as it does a ring's, and checks its token.
//!
//! What only this rank looks at is better elsewhere: in *private* segments, which are of large pages where the system has them. (There 512 small
//! pages are touched for the first time at once, and the processor finds them sooner; the pages of `memfd`s are small on most systems.)
//!
//! Dropped blocks keep their pages while all together are no more than what was in use at a time lately (or [`KEPT`] bytes): a loop finds what it
//! left. Beyond that the pages of those go back that have been idle longest.

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::Advice;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Smaller buffers are on the heap.
pub(crate) const POOL_FROM: usize = 4 << 10;

/// Idle bytes that keep their pages in any case.
const KEPT: usize = 64 << 20;

/// Blocks up to half of this share a segment of this length; larger ones have one of their own.
const SEGMENT: usize = 64 << 20;

/// In front of a segment's first block.
const HEADER: usize = 4096;

/// Of the processors of the day.
const LARGE_PAGE: usize = 2 << 20;

const MAGIC: u64 = u64::from_le_bytes(*b"aeolpool");

#[repr(C)]
struct SegmentHeader {
    magic: u64,
    len: u64,
    token: [u8; 16],
}

struct Segment {
    /// Of shared ones.
    file: Option<File>,
    map: MmapRaw,
    used: usize,
}

/// Who may look into a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All ranks of the node.
    Shared,
    /// This one.
    Private,
}

/// A block out of use.
struct Idle {
    segment: u32,
    offset: usize,
    /// When it was dropped, in drops.
    since: u64,
}

struct Pool {
    kind: Kind,
    segments: Vec<Segment>,
    /// The segment that small blocks are cut from.
    open: Option<u32>,
    /// log2 of the length -> idle blocks that may hold bytes of before, the last used one last
    kept: [VecDeque<Idle>; 64],
    /// log2 of the length -> idle blocks without pages, which read as zeros
    empty: [Vec<Idle>; 64],
    /// Bytes of blocks in use, and of those that are kept.
    in_use: usize,
    idle: usize,
    drops: u64,
    /// The most that was in use lately: it falls with every block that is taken.
    peak: usize,
}

static SHARED: Mutex<Pool> = Mutex::new(Pool::new(Kind::Shared));
static PRIVATE: Mutex<Pool> = Mutex::new(Pool::new(Kind::Private));

fn pool(kind: Kind) -> MutexGuard<'static, Pool> {
    let pool = match kind {
        Kind::Shared => &SHARED,
        Kind::Private => &PRIVATE,
    };
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What tells this process's segments from whatever else a descriptor number may mean.
pub(crate) fn token() -> io::Result<&'static [u8; 16]> {
    static TOKEN: OnceLock<[u8; 16]> = OnceLock::new();
    if let Some(token) = TOKEN.get() {
        return Ok(token);
    }
    let mut token = [0; 16];
    getrandom::fill(&mut token).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(TOKEN.get_or_init(|| token))
}

/// Memory of this process that a buffer owns.
pub(crate) struct Block {
    at: *mut u8,
    /// log2 of its length.
    class: u8,
    kind: Kind,
    segment: u32,
    place: Place,
}

// SAFETY: a block is plain memory with one owner, in a mapping that is never undone.
unsafe impl Send for Block {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Block {}

/// Where a block is, for a node-mate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the segment's descriptor in its owner.
    pub(crate) fd: i32,
    /// Bytes of the segment.
    pub(crate) segment: u64,
    /// Where in it.
    pub(crate) offset: u64,
}

/// The contents of a new block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Zero,
    /// Whatever is there: zeros, or bytes of a buffer of before.
    Stale,
}

impl Block {
    /// A block of at least `len` bytes, whose first `len` are filled.
    pub(crate) fn new(len: usize, fill: Fill, kind: Kind) -> io::Result<Block> {
        let class = len.max(POOL_FROM).next_power_of_two().trailing_zeros() as u8;
        let size = 1usize << class;
        let mut pool = pool(kind);
        let kept = pool.kept[usize::from(class)].pop_back();
        let dirty = kept.is_some();
        if dirty {
            pool.idle -= size;
        }
        let idle = match kept.or_else(|| pool.empty[usize::from(class)].pop()) {
            Some(idle) => idle,
            None => pool.cut(size)?,
        };
        pool.in_use += size;
        pool.peak = pool.in_use.max(pool.peak - fall(pool.peak, size));
        let segment = &pool.segments[idle.segment as usize];
        // SAFETY: `offset` plus the block's size is within the segment's map, by `cut`.
        let at = unsafe { segment.map.as_mut_ptr().add(idle.offset) };
        let (fd, bytes) = (segment.file.as_ref().map_or(-1, File::as_raw_fd), segment.map.len() as u64);
        drop(pool);
        let place = Place { fd, segment: bytes, offset: idle.offset as u64 };
        let mut block = Block { at, class, kind, segment: idle.segment, place };
        if dirty && fill == Fill::Zero {
            block.bytes_mut()[..len].fill(0);
        }
        Ok(block)
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the block's memory is mapped for ever, initialised (the system gives zeros), and owned by `self`; other processes write
        // to it only while a collective has it lent to them, when nobody here looks at it (see `shared`).
        unsafe { std::slice::from_raw_parts(self.at, 1 << self.class) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.at, 1 << self.class) }
    }

    /// Who may look into it.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is, for the others. (Of a private one this is nowhere.)
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let size = 1usize << self.class;
        let mut pool = pool(self.kind);
        pool.in_use -= size;
        pool.idle += size;
        pool.drops += 1;
        let idle = Idle { segment: self.segment, offset: self.place.offset as usize, since: pool.drops };
        pool.kept[usize::from(self.class)].push_back(idle);
        // (A quarter more, so that a loop does not give back what it takes again in its next step.)
        while pool.in_use + pool.idle > (pool.peak + pool.peak / 4).max(KEPT) && pool.give_back() {}
    }
}

/// By how much the most that was in use falls when a block is taken: a thousandth, or a bit of its length if that is less, so that it lasts from one
/// step of a loop to the next; but not so little that a program that needs small blocks only keeps for ever what it once used.
fn fall(peak: usize, size: usize) -> usize {
    (peak / 1024).min((size / 32).max(peak / 65536))
}

impl Pool {
    const fn new(kind: Kind) -> Pool {
        Pool {
            kind,
            segments: Vec::new(),
            open: None,
            kept: [const { VecDeque::new() }; 64],
            empty: [const { Vec::new() }; 64],
            in_use: 0,
            idle: 0,
            drops: 0,
            peak: 0,
        }
    }

    /// The pages of the block that has been idle longest go back to the system; false if none could be given.
    fn give_back(&mut self) -> bool {
        let oldest = |(class, kept): (usize, &VecDeque<Idle>)| Some((kept.front()?.since, class));
        let Some((_, class)) = self.kept.iter().enumerate().filter_map(oldest).min() else { return false };
        let Some(idle) = self.kept[class].pop_front() else { return false };
        let size = 1usize << class;
        let advice = match self.kind {
            Kind::Shared => Advice::LinuxRemove,
            Kind::Private => Advice::LinuxDontNeed,
        };
        // SAFETY: the block lies within the segment's map, on page boundaries, and nobody uses it; it reads as zeros then.
        let gone = unsafe {
            let at = self.segments[idle.segment as usize].map.as_mut_ptr().add(idle.offset);
            rustix::mm::madvise(at.cast(), size, advice)
        };
        if gone.is_err() {
            self.kept[class].push_front(idle);
            return false;
        }
        self.idle -= size;
        self.empty[class].push(idle);
        true
    }

    /// A block that was never used.
    fn cut(&mut self, size: usize) -> io::Result<Idle> {
        if size > SEGMENT / 2 {
            let segment = self.add(size)?;
            let used = &mut self.segments[segment as usize].used;
            let offset = *used;
            *used += size;
            return Ok(Idle { segment, offset, since: 0 });
        }
        let segment = match self.open {
            Some(open) if self.segments[open as usize].used + size <= SEGMENT => open,
            _ => {
                let segment = self.add(SEGMENT - HEADER)?;
                self.open = Some(segment);
                segment
            }
        };
        let used = &mut self.segments[segment as usize].used;
        let offset = *used;
        *used += size;
        Ok(Idle { segment, offset, since: 0 })
    }

    /// A segment with room for blocks of so many bytes.
    fn add(&mut self, room: usize) -> io::Result<u32> {
        let segment = match self.kind {
            Kind::Shared => Pool::shared(room + HEADER)?,
            Kind::Private => Pool::private(room)?,
        };
        self.segments.push(segment);
        Ok(self.segments.len() as u32 - 1)
    }

    fn private(room: usize) -> io::Result<Segment> {
        let map = MmapRaw::from(MmapOptions::new().len(room + LARGE_PAGE).no_reserve_swap().map_anon()?);
        // (Without large pages it works as well, but slower.)
        // SAFETY: the map is this process's own, and the advice does not change what is in it.
        let _ = unsafe { rustix::mm::madvise(map.as_mut_ptr().cast(), map.len(), Advice::LinuxHugepage) };
        let used = (map.as_ptr() as usize).wrapping_neg() % LARGE_PAGE;
        Ok(Segment { file: None, map, used })
    }

    fn shared(len: usize) -> io::Result<Segment> {
        let fd = rustix::fs::memfd_create("aeolian-pool", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(fd);
        file.set_len(len as u64)?;
        let map = MmapOptions::new().map_raw(&file)?;
        let header = SegmentHeader { magic: MAGIC, len: len as u64, token: *token()? };
        // SAFETY: the map is page-aligned, longer than the header, and nobody else knows of it yet.
        unsafe { map.as_mut_ptr().cast::<SegmentHeader>().write(header) };
        Ok(Segment { file: Some(file), map, used: HEADER })
    }
}

/// The segments of another process of this node, opened as they are needed.
pub(crate) struct Foreign {
    pid: u32,
    token: [u8; 16],
    maps: HashMap<i32, MmapRaw>,
}

impl Foreign {
    /// Those of the process that has told this token.
    pub(crate) fn new(pid: u32, token: [u8; 16]) -> Foreign {
        Foreign { pid, token, maps: HashMap::new() }
    }

    /// This process's own token, to be told to the others.
    pub(crate) fn own_token() -> io::Result<[u8; 16]> {
        token().copied()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn token(&self) -> [u8; 16] {
        self.token
    }

    /// The address here of `len` bytes at a place there.
    pub(crate) fn address(&mut self, place: Place, len: u64) -> io::Result<*mut u8> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
        let map = match self.maps.entry(place.fd) {
            std::collections::hash_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let path = format!("/proc/{}/fd/{}", self.pid, place.fd);
                let file = File::options().read(true).write(true).open(path)?;
                let have = file.metadata()?.len();
                if have != place.segment || have < HEADER as u64 {
                    return Err(bad("a segment does not have the length that its owner told"));
                }
                let map = MmapOptions::new().map_raw(&file)?;
                // SAFETY: page-aligned and longer than the header, which is written once, before anybody is told of the segment.
                let header = unsafe { map.as_ptr().cast::<SegmentHeader>().read() };
                if header.magic != MAGIC || header.token != self.token || header.len != have {
                    return Err(bad("what was opened is not a segment of that rank"));
                }
                free.insert(map)
            }
        };
        let end = place.offset.checked_add(len).filter(|&end| end <= map.len() as u64);
        if map.len() as u64 != place.segment || end.is_none() || place.offset < HEADER as u64 {
            return Err(bad("a buffer reaches beyond its segment"));
        }
        // SAFETY: the offset was checked to be inside the map.
        Ok(unsafe { map.as_mut_ptr().add(place.offset as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_reused_and_seen_by_others() {
        let mut block = Block::new(10_000, Fill::Zero, Kind::Shared).unwrap();
        assert!(block.bytes()[..10_000].iter().all(|&b| b == 0));
        block.bytes_mut().fill(7);
        let mut mate = Foreign::new(std::process::id(), Foreign::own_token().unwrap());
        let there = mate.address(block.place(), 10_000).unwrap();
        // SAFETY: the address of 10,000 bytes that nobody writes to now.
        let seen = unsafe { std::slice::from_raw_parts(there, 10_000) };
        assert!(seen.iter().all(|&b| b == 7) && there != block.at);
        let beyond = Place { offset: block.place().segment - 5, ..block.place() };
        assert!(mate.address(beyond, 10_000).is_err());
        assert!(
            Foreign::new(std::process::id(), [9; 16]).address(block.place(), 1).is_err(),
            "another token"
        );
        drop(block);
        let again = Block::new(9_000, Fill::Zero, Kind::Shared).unwrap();
        assert!(again.bytes()[..9_000].iter().all(|&b| b == 0));
    }

    /// What a small loop uses stays, though much was used before it: else it would touch fresh pages in every step.
    #[test]
    fn the_pages_that_were_idle_longest_go_first() {
        let mut pool = Pool::new(Kind::Shared);
        for (class, since) in [(20, 1), (16, 2), (20, 3)] {
            let mut idle = pool.cut(1 << class).unwrap();
            idle.since = since;
            pool.kept[class].push_back(idle);
            pool.idle += 1 << class;
        }
        assert!(pool.give_back());
        assert_eq!((pool.kept[20].len(), pool.kept[16].len(), pool.empty[20].len()), (1, 1, 1));
        assert_eq!(pool.idle, (1 << 20) + (1 << 16));
        assert!(pool.give_back() && pool.give_back() && !pool.give_back());
        assert_eq!((pool.idle, pool.empty[20].len(), pool.empty[16].len()), (0, 2, 1));
    }

    #[test]
    fn what_was_in_use_lasts_a_step_and_not_for_ever() {
        let after = |peak: usize, size: usize, blocks: usize| {
            (0..blocks).fold(peak, |peak, _| peak - fall(peak, size))
        };
        // As much is taken again, and once more: a quarter more than this is kept.
        for (peak, size) in [(160 << 20, 32 << 10), (1 << 30, 256 << 10), (4 << 30, 4 << 20)] {
            assert!(after(peak, size, 2 * peak / size) > peak / 5 * 4, "{peak} bytes, blocks of {size}");
        }
        assert!(after(4 << 30, 4 << 10, 200_000) < 1 << 29);
        assert_eq!(after(0, 4 << 10, 10), 0);
    }

    #[test]
    fn a_block_of_its_own_segment_and_many_at_once() {
        let big = Block::new((SEGMENT / 2) + 1, Fill::Zero, Kind::Shared).unwrap();
        assert_eq!(big.place().offset, HEADER as u64);
        let mut blocks: Vec<Block> =
            (0..100).map(|i| Block::new(POOL_FROM << (i % 5), Fill::Stale, Kind::Shared).unwrap()).collect();
        for (i, block) in blocks.iter_mut().enumerate() {
            block.bytes_mut().fill(i as u8);
        }
        assert!(blocks.iter().enumerate().all(|(i, b)| b.bytes().iter().all(|&x| x == i as u8)), "disjoint");
    }
}
