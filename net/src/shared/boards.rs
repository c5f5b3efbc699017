//! The boards: how their memory is laid out, and how ranks open each other's.

use super::INLINE;
use crate::error::{NetError, Result};
use crate::fences;
use crate::pool::{Block, Fill, Foreign, Kind, Place};
use crate::private;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Calls that may be under way at once.
pub(crate) const SLOTS: usize = 8;

/// Bytes of a place on the board: its head, its directory, small parts.
pub(super) const SLOT: usize = 8 << 10;

/// In front of the places: the calls that this rank is done with, one for each place.
pub(super) const FRONT: usize = 128;

/// Where a place's entries begin, if there are several; the bytes of a single part.
pub(super) const ENTRIES: usize = 64;

/// The bytes are on the board itself, at this offset of the place.
pub(super) const ON_BOARD: i32 = -1;

/// The bytes are at this address: threads of one process.
pub(super) const AT_ADDRESS: i32 = -2;

/// The bytes are in the head itself, in place of `offset` and what follows.
pub(super) const IN_HEAD: i32 = -3;

/// The bytes are at this address of their owner's private memory.
pub(super) const AT_PRIVATE: i32 = -4;

/// Where the bytes in a head begin.
pub(super) const HEAD_BYTES: usize =
    offset_of!(Slot, only) + offset_of!(Entry, place) + offset_of!(Placed, offset);

#[repr(C, align(64))]
pub(super) struct Front {
    pub(super) done: [AtomicU64; SLOTS],
    /// Number of the last collective that the rank has called, and its name: for those who have not, at the end.
    pub(super) call: AtomicU64,
    pub(super) name: [AtomicU64; NAME / 8],
    /// 1 if the rank can read the [private] memory of all others.
    ///
    /// [private]: crate::private
    pub(super) reads: AtomicU32,
    /// The latest call that the rank has left while others might still have read its private memory.
    pub(super) withdrawn: AtomicU64,
}

/// Bytes of a collective's name that are kept.
pub(super) const NAME: usize = 24;

/// The head of a place: one cache line, which is all of it if there is nothing but one part of a few bytes.
#[repr(C, align(64))]
pub(super) struct Slot {
    pub(super) ticket: AtomicU64,
    pub(super) entries: AtomicU32,
    /// Fingerprint of ids and lengths.
    pub(super) shape: AtomicU32,
    /// The only entry; of several, where they are. Its owner writes it before the ticket; others read it after that.
    pub(super) only: UnsafeCell<Entry>,
}

/// A [`Place`] as it is written down.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
pub(super) struct Placed {
    pub(super) fd: i32,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) len: u64,
    pub(super) to: u32,
    pub(super) place: Placed,
}

pub(super) const ENTRY: usize = size_of::<Entry>();
/// Entries that fit a place on the board beside small parts.
pub(super) const FIT: usize = (SLOT - ENTRIES - INLINE) / (ENTRY + 16);

const _: () = assert!(size_of::<Slot>() == ENTRIES && FRONT >= size_of::<Front>() && FIT > 50);
const _: () = assert!(HEAD_BYTES.is_multiple_of(16));

/// A board as its node-mates open it.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct BoardCard {
    fd: i32,
    segment: u64,
    offset: u64,
    token: [u8; 16],
    /// Whether it can do with [light fences](crate::fences).
    light: bool,
    /// Where its private memory is [read](crate::private) first.
    probe: u64,
}

pub(super) struct Mate {
    pub(super) job_rank: u32,
    board: *mut u8,
    /// Of a process.
    pub(super) foreign: Option<Foreign>,
    /// Of a thread, which may end before this one.
    _shelf: Option<Arc<Shelf>>,
}

/// The memory of a board.
struct Shelf {
    block: Block,
    at: *mut u8,
}

// SAFETY: memory that all ranks write and read by the rules of this module, through atomics and what they order.
unsafe impl Send for Shelf {}
// SAFETY: as above.
unsafe impl Sync for Shelf {}

/// Where threads of this process find each other's boards: by address.
static SHELVES: Mutex<BTreeMap<u64, Weak<Shelf>>> = Mutex::new(BTreeMap::new());

fn shelves() -> MutexGuard<'static, BTreeMap<u64, Weak<Shelf>>> {
    SHELVES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The boards of a world's ranks, as one of them sees them.
pub(crate) struct Boards {
    pub(super) rank: u32,
    own: Arc<Shelf>,
    pub(super) threads: bool,
    pub(super) mates: Vec<Mate>,
    /// Number of the last exposure that was reserved.
    last: Cell<u64>,
    /// Those that this rank is done with before its place is free.
    early: RefCell<BTreeSet<u64>>,
    /// The calls that all ranks are done with, of each place, when this rank last looked.
    all_done: [Cell<u64>; SLOTS],
    /// All ranks can do with light fences.
    light: bool,
    /// All others have said that they can read this rank's private memory.
    read_by_all: Cell<bool>,
}

/// Of two ranks one has called a collective more.
pub(crate) struct Uneven {
    pub(crate) ours: String,
    pub(crate) peer: u32,
    pub(crate) theirs: String,
}

pub(super) const BOARD: usize = FRONT + SLOTS * SLOT;

impl Boards {
    /// This rank's board, before the others' are known.
    pub(crate) fn new(rank: u32, threads: bool) -> Result<Boards> {
        let mut block = Block::new(BOARD, Fill::Zero, Kind::Shared)
            .map_err(NetError::os("making a board of shared memory"))?;
        let at = block.bytes_mut().as_mut_ptr();
        let own = Arc::new(Shelf { block, at });
        if threads {
            let mut shelves = shelves();
            shelves.retain(|_, shelf| shelf.strong_count() > 0);
            shelves.insert(at as u64, Arc::downgrade(&own));
        }
        Ok(Boards {
            rank,
            own,
            threads,
            mates: Vec::new(),
            last: Cell::new(0),
            early: RefCell::default(),
            all_done: Default::default(),
            light: false,
            read_by_all: Cell::new(false),
        })
    }

    pub(crate) fn card(&self) -> Result<BoardCard> {
        let token = Foreign::own_token().map_err(NetError::os("asking for randomness"))?;
        let light = fences::can_be_light();
        let probe = private::probe()?;
        if self.threads {
            let address = self.own.at as u64;
            return Ok(BoardCard { fd: AT_ADDRESS, segment: 0, offset: address, token, light, probe });
        }
        let Place { fd, segment, offset } = self.own.block.place();
        Ok(BoardCard { fd, segment, offset, token, light, probe })
    }

    /// Opens the boards of all ranks, this one's among them: `(rank in the job, its process, card)`.
    pub(crate) fn open(&mut self, cards: Vec<(u32, Option<u32>, BoardCard)>) -> Result<()> {
        let mut mates = Vec::with_capacity(cards.len());
        let light = cards.iter().all(|(_, _, card)| card.light);
        let mut reads = !self.threads;
        for (at, (job_rank, pid, card)) in cards.into_iter().enumerate() {
            if at == self.rank as usize {
                mates.push(Mate { job_rank, board: self.own.at, foreign: None, _shelf: None });
                continue;
            }
            let mate = match pid {
                Some(pid) => {
                    let mut foreign = Foreign::new(pid, card.token);
                    let place = Place { fd: card.fd, segment: card.segment, offset: card.offset };
                    let board = foreign.address(place, BOARD as u64).map_err(|e| cannot_open(job_rank, e))?;
                    reads = reads && private::can_read(&foreign, card.probe);
                    Mate { job_rank, board, foreign: Some(foreign), _shelf: None }
                }
                None => {
                    let Some(shelf) = shelves().get(&card.offset).and_then(Weak::upgrade) else {
                        return Err(NetError::Protocol {
                            peer: format!("rank {job_rank}"),
                            what: "its board is not in this process".into(),
                        });
                    };
                    Mate { job_rank, board: shelf.at, foreign: None, _shelf: Some(shelf) }
                }
            };
            mates.push(mate);
        }
        // All or none: boards are ready once there are mates.
        self.mates = mates;
        self.light = light;
        self.front(self.rank as usize).reads.store(reads.into(), Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn ready(&self) -> bool {
        !self.mates.is_empty()
    }

    pub(crate) fn light(&self) -> bool {
        self.light
    }

    /// Whether all others can read this rank's private memory, as far as they have said.
    pub(super) fn read_by_all(&self) -> bool {
        if !self.threads && !self.read_by_all.get() {
            let reads = |rank| self.front(rank).reads.load(Ordering::Relaxed) == 1;
            self.read_by_all.set((0..self.mates.len()).all(reads));
        }
        self.read_by_all.get()
    }

    /// This rank leaves call `seq`, and what it has shown of its private memory will be something else.
    pub(super) fn withdraw(&self, seq: u64) {
        self.front(self.rank as usize).withdrawn.store(seq, Ordering::Relaxed);
        // Whoever reads bytes that are written after this will see the mark.
        fence(Ordering::SeqCst);
    }

    /// Whether what has been read of a rank's private memory in call `seq` may be something else.
    pub(super) fn withdrew(&self, rank: usize, seq: u64) -> bool {
        fence(Ordering::SeqCst);
        self.front(rank).withdrawn.load(Ordering::Relaxed) >= seq
    }

    pub(super) fn front(&self, rank: usize) -> &Front {
        // SAFETY: every board begins with a front, aligned as blocks are (a page), and only atomics in it are touched.
        unsafe { &*self.mates[rank].board.cast::<Front>() }
    }

    pub(super) fn slot(&self, rank: usize, seq: u64) -> *mut u8 {
        let at = FRONT + (seq as usize % SLOTS) * SLOT;
        // SAFETY: inside the board, whose length was checked.
        unsafe { self.mates[rank].board.add(at) }
    }

    pub(super) fn head(&self, rank: usize, seq: u64) -> &Slot {
        // SAFETY: a place begins with a slot header on a 64-byte boundary, all of which others may change meanwhile: atomics and a cell.
        unsafe { &*self.slot(rank, seq).cast::<Slot>() }
    }

    /// This rank will use exposures up to this number, for that collective.
    pub(crate) fn reserved(&self, exposure: u64, (call, name): (u64, &'static str)) {
        self.last.set(exposure);
        // SAFETY: the board begins with its front, of which only atomics are touched.
        let front = unsafe { &*self.own.at.cast::<Front>() };
        front.call.store(call, Ordering::Relaxed);
        let mut bytes = [0; NAME];
        bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        for (to, from) in front.name.iter().zip(bytes.as_chunks::<8>().0) {
            to.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
        }
    }

    /// The last collective that a rank has called.
    fn last_call(&self, rank: usize) -> String {
        let front = self.front(rank);
        let bytes = front.name.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        let name: Vec<u8> = bytes.take_while(|b| *b != 0).collect();
        format!("{} #{}", String::from_utf8_lossy(&name), front.call.load(Ordering::Relaxed))
    }

    /// At the end: a rank that has called more collectives than this one, or fewer. What nobody waited for has not been missed before.
    pub(crate) fn uneven(&self) -> Option<Uneven> {
        let mine = self.last.get();
        self.mates.iter().enumerate().find_map(|(rank, mate)| {
            let done = self.front(rank).done.iter().map(|d| d.load(Ordering::Acquire)).max().unwrap_or(0);
            let (ours, theirs) = match done.cmp(&mine) {
                std::cmp::Ordering::Equal => return None,
                std::cmp::Ordering::Less => (self.last_call(self.rank as usize), "its end".into()),
                std::cmp::Ordering::Greater => ("its end".into(), self.last_call(rank)),
            };
            Some(Uneven { ours, peer: mate.job_rank, theirs })
        })
    }

    /// This rank is done with call `seq`. What is said of a place before the call that has it is over (a later call was refused) waits for
    /// that.
    pub(super) fn say_done(&self, mut seq: u64) {
        let done = &self.front(self.rank as usize).done[seq as usize % SLOTS];
        let mut early = self.early.borrow_mut();
        if seq > SLOTS as u64 && done.load(Ordering::Relaxed) < seq - SLOTS as u64 {
            early.insert(seq);
            return;
        }
        done.store(seq, Ordering::Release);
        while early.remove(&(seq + SLOTS as u64)) {
            seq += SLOTS as u64;
            done.store(seq, Ordering::Release);
        }
    }

    /// The ticket of a rank that is in a call of that number, but another one.
    pub(super) fn parted(&self, seq: u64, tag: u64) -> Option<(u32, u64)> {
        (0..self.mates.len() as u32).find_map(|rank| {
            let ticket = self.head(rank as usize, seq).ticket.load(Ordering::Acquire);
            ((ticket ^ tag) >> 32 == 0 && ticket != tag).then_some((rank, ticket))
        })
    }

    /// True once every rank is done with call `seq`.
    pub(super) fn all_done(&self, seq: u64) -> bool {
        let place = seq as usize % SLOTS;
        if self.all_done[place].get() >= seq {
            return true;
        }
        let done = |place: usize, r: usize| self.front(r).done[place].load(Ordering::Acquire);
        if !(0..self.mates.len()).all(|r| done(place, r) >= seq) {
            return false;
        }
        // The lines are here now: what they say of the other places saves a look at each of the next calls.
        for (known, place) in self.all_done.iter().zip(0..) {
            known.set((0..self.mates.len()).map(|r| done(place, r)).min().unwrap_or(0));
        }
        true
    }
}

impl Drop for Boards {
    fn drop(&mut self) {
        // Another process may look at this board for a while yet: its memory is not used for anything else.
        if !self.threads {
            std::mem::forget(self.own.clone());
        }
    }
}

pub(super) fn cannot_open(rank: u32, e: std::io::Error) -> NetError {
    NetError::Os {
        what: format!(
            "cannot open the memory that rank {rank} shares (if /proc is hidden between processes here, or the address space limited, run with --transport tcp)"
        ),
        source: e,
    }
}
