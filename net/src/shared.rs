//! What the ranks of one node show each other during a collective, instead of sending it.
//!
//! Each rank has a *board* that all ranks of its world can read (a block of the pool; for threads, plain memory). For a
//! collective it writes there what it has, small parts with their bytes, large ones as the places where they lie in its pool, and then the call's
//! ticket, which makes the rest visible. The others wait for the ticket, take what they need, one pass over its memory, and
//! say that they are done; then the rank has its buffers back ([`Exposure::poll_reclaim`]). No byte is copied in between, and no
//! system call is made unless somebody sleeps.
//!
//! A board has eight places, used in turn by the calls of a world, so that several may be under way. A place is written again when all
//! ranks have said that they are done with the call before.
//!
//! # Why this is sound
//!
//! What is lent belongs to the [`Exposure`] until every rank is done with it, so no reference to it exists in its owner. A rank that ends
//! before (an error, a panic) leaks its lent buffers: they are never used again while others may look. Others get slices of it only
//! through an exposure of the same call, whose ticket they have seen; the release of the ticket and of `done` order all accesses. Ranges that
//! ranks write in each other's memory ([`Exposure::rewrite`]) are disjoint by their rank.

use crate::buffer::Buf;
use crate::error::{NetError, Result};
use crate::pool::{Block, Fill, Foreign, Place};
use crate::world::World;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Calls that may be under way at once.
pub(crate) const SLOTS: usize = 8;

/// Bytes of a place on the board: its ticket, its directory, small parts.
const SLOT: usize = 8 << 10;

/// In front of the places: the calls that this rank is done with, one for each place.
const FRONT: usize = 128;

/// Where a place's entries begin.
const ENTRIES: usize = 64;

/// Parts are written to the board up to this length in all.
pub const INLINE: usize = 4 << 10;

/// The part is for all ranks.
pub const ALL: u32 = u32::MAX;

/// The chunk of a [`Exposure::rewrite`]: both operands and the result stay in the first-level cache.
const CHUNK: usize = 16 << 10;

/// The bytes are on the board itself, at this offset of the place.
const ON_BOARD: i32 = -1;

/// The bytes are at this address: threads of one process.
const AT_ADDRESS: i32 = -2;

#[repr(C, align(64))]
struct Front {
    done: [AtomicU64; SLOTS],
    /// Number of the last collective that the rank has called, and its name: for those who have not, at the end.
    call: AtomicU64,
    name: [AtomicU64; NAME / 8],
}

/// Bytes of a collective's name that are kept.
const NAME: usize = 24;

#[repr(C, align(64))]
struct Slot {
    ticket: AtomicU64,
    entries: AtomicU32,
    /// Fingerprint of ids and lengths.
    shape: AtomicU32,
    /// Where the directory is, if it does not fit here.
    directory: Placed,
}

/// A [`Place`] as it is written down.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Placed {
    fd: i32,
    pad: u32,
    segment: u64,
    offset: u64,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Entry {
    id: u64,
    len: u64,
    to: u32,
    pad: u32,
    place: Placed,
}

const ENTRY: usize = size_of::<Entry>();
/// Entries that fit a place on the board beside small parts.
const FIT: usize = (SLOT - ENTRIES - INLINE) / (ENTRY + 16);

const _: () = assert!(size_of::<Slot>() <= ENTRIES && FRONT >= size_of::<Front>() && FIT > 50);

/// Something to show.
pub enum Part<'a> {
    /// To be copied to the board, if it is small.
    Copied(&'a [u8]),
    /// To be lent: read where it lies.
    Lent(Buf),
}

/// What another rank shows.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Its id.
    pub id: u64,
    /// The rank that it is for, or [`ALL`].
    pub to: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// A board as its node-mates open it.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct BoardCard {
    fd: i32,
    segment: u64,
    offset: u64,
    token: [u8; 16],
}

struct Mate {
    job_rank: u32,
    board: *mut u8,
    /// Of a process.
    foreign: Option<Foreign>,
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
    rank: u32,
    own: Arc<Shelf>,
    threads: bool,
    mates: Vec<Mate>,
    /// Number of the last exposure that was reserved.
    last: Cell<u64>,
    /// Those that this rank is done with before its place is free.
    early: RefCell<BTreeSet<u64>>,
}

/// Of two ranks one has called a collective more.
pub(crate) struct Uneven {
    pub(crate) ours: String,
    pub(crate) peer: u32,
    pub(crate) theirs: String,
}

const BOARD: usize = FRONT + SLOTS * SLOT;

impl Boards {
    /// This rank's board, before the others' are known.
    pub(crate) fn new(rank: u32, threads: bool) -> Result<Boards> {
        let mut block =
            Block::new(BOARD, Fill::Zero).map_err(NetError::os("making a board of shared memory"))?;
        let at = block.bytes_mut().as_mut_ptr();
        let own = Arc::new(Shelf { block, at });
        if threads {
            let mut shelves = shelves();
            shelves.retain(|_, shelf| shelf.strong_count() > 0);
            shelves.insert(at as u64, Arc::downgrade(&own));
        }
        Ok(Boards { rank, own, threads, mates: Vec::new(), last: Cell::new(0), early: RefCell::default() })
    }

    pub(crate) fn card(&self) -> Result<BoardCard> {
        let token = Foreign::own_token().map_err(NetError::os("asking for randomness"))?;
        if self.threads {
            let address = self.own.at as u64;
            return Ok(BoardCard { fd: AT_ADDRESS, segment: 0, offset: address, token });
        }
        let Place { fd, segment, offset } = self.own.block.place();
        Ok(BoardCard { fd, segment, offset, token })
    }

    /// Opens the boards of all ranks, this one's among them: `(rank in the job, its process, card)`.
    pub(crate) fn open(&mut self, cards: Vec<(u32, Option<u32>, BoardCard)>) -> Result<()> {
        let mut mates = Vec::with_capacity(cards.len());
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
        Ok(())
    }

    pub(crate) fn ready(&self) -> bool {
        !self.mates.is_empty()
    }

    fn front(&self, rank: usize) -> &Front {
        // SAFETY: every board begins with a front, aligned as blocks are (a page), and only atomics in it are touched.
        unsafe { &*self.mates[rank].board.cast::<Front>() }
    }

    fn slot(&self, rank: usize, seq: u64) -> *mut u8 {
        let at = FRONT + (seq as usize % SLOTS) * SLOT;
        // SAFETY: inside the board, whose length was checked.
        unsafe { self.mates[rank].board.add(at) }
    }

    fn head(&self, rank: usize, seq: u64) -> &Slot {
        // SAFETY: a place begins with a slot header on a 64-byte boundary. Its plain field is written before the ticket is released and read
        // after it was acquired.
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
    fn say_done(&self, mut seq: u64) {
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

    /// True once every rank is done with call `seq`.
    fn all_done(&self, seq: u64) -> bool {
        let place = seq as usize % SLOTS;
        (0..self.mates.len()).all(|r| self.front(r).done[place].load(Ordering::Acquire) >= seq)
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

fn cannot_open(rank: u32, e: std::io::Error) -> NetError {
    NetError::Os {
        what: format!(
            "cannot open the memory that rank {rank} shares (if /proc is hidden between processes here, or the address space limited, run with --transport tcp)"
        ),
        source: e,
    }
}

/// What this rank shows in one call, and what it sees of the others.
pub struct Exposure {
    world: World,
    seq: u64,
    tag: u64,
    /// With where its bytes were shown, if not in it.
    lent: Vec<(Buf, Option<*mut u8>)>,
    /// Some of it was written by the others.
    rewritten: bool,
    /// Small parts that did not fit the board, and the directory.
    staged: Vec<Buf>,
    seen: Vec<Option<Vec<Seen>>>,
    done: bool,
}

#[derive(Clone, Copy)]
struct Seen {
    id: u64,
    to: u32,
    len: usize,
    at: *mut u8,
}

impl World {
    /// True if all ranks of this world can read each other's memory, and there is more than one.
    pub fn shares_memory(&self) -> bool {
        self.in_threads().is_some()
    }

    /// Whether the boards of this world are open.
    pub fn boards_open(&self) -> bool {
        self.boards().as_ref().is_some_and(Boards::ready)
    }

    /// What the others need to open this rank's board, to be sent to each of them.
    ///
    /// # Errors
    /// [`NetError::Usage`] unless [`World::shares_memory`].
    pub fn board_card(&self) -> Result<Buf> {
        let Some(threads) = self.in_threads() else {
            return Err(NetError::Usage("the ranks of this world do not share memory".into()));
        };
        let mut boards = self.boards_mut();
        let boards = match &mut *boards {
            Some(boards) => boards,
            none => {
                self.keep_boards();
                let boards = none.insert(Boards::new(self.rank(), threads)?);
                let (exposure, call) = self.reserved_so_far();
                boards.reserved(exposure, call);
                boards
            }
        };
        let bytes = postcard::to_stdvec(&boards.card()?).map_err(|e| NetError::Internal(e.to_string()))?;
        Ok(Buf::from_slice(&bytes))
    }

    /// Opens the boards of all ranks with their [cards](World::board_card), by rank.
    ///
    /// # Errors
    /// [`NetError::Os`] if the memory of a rank cannot be opened, [`NetError::Protocol`] if a card makes no sense.
    pub fn open_boards(&self, cards: &[Buf]) -> Result<()> {
        let mut list = Vec::with_capacity(cards.len());
        for (rank, card) in (0..self.size()).zip(cards) {
            let job_rank = self.job_rank(rank)?;
            let card = postcard::from_bytes(card).map_err(|e| NetError::Protocol {
                peer: format!("rank {job_rank}"),
                what: format!("the card of its board does not decode: {e}"),
            })?;
            list.push((job_rank, self.process_of(job_rank), card));
        }
        match self.boards_mut().as_mut() {
            Some(boards) if list.len() == self.size() as usize => boards.open(list),
            _ => Err(NetError::Usage("boards are opened with the cards of all ranks".into())),
        }
    }

    /// A reserved exposure is not used: this rank is done with it.
    pub fn skip_exposure(&self, seq: u64) {
        if let Some(boards) = self.boards().as_ref().filter(|b| b.ready()) {
            boards.say_done(seq);
        }
        self.nudge_all();
    }

    /// Shows parts `(id, rank that it is for or ALL, bytes)` to all ranks of this world in the collective `seq`; `tag` is its ticket. `None` while a call long
    /// before is not done everywhere: try again. `parts` is asked only once that is so.
    ///
    /// Boards must be [open](World::open_boards).
    pub fn try_expose<'a>(
        &self,
        seq: u64,
        tag: u64,
        shape: u32,
        parts: impl FnOnce() -> Vec<(u64, u32, Part<'a>)>,
    ) -> Result<Option<Exposure>> {
        let boards = self.boards();
        let Some(boards) = boards.as_ref().filter(|b| b.ready()) else {
            return Err(NetError::Internal("boards are not open".into()));
        };
        if seq > SLOTS as u64 && !boards.all_done(seq - SLOTS as u64) {
            return Ok(None);
        }
        let me = boards.rank as usize;
        let mut exposure = Exposure {
            world: self.handle(),
            seq,
            tag,
            lent: Vec::new(),
            rewritten: false,
            staged: Vec::new(),
            seen: vec![None; boards.mates.len()],
            done: false,
        };
        let mut own = Vec::new();
        let slot = boards.slot(me, seq);
        let parts = parts();
        let fits = parts.len() <= FIT;
        let lies_open = |buf: &Buf| !buf.is_empty() && (boards.threads || buf.block().is_some());
        let address = |buf: &Buf| match buf.block().filter(|_| !boards.threads) {
            Some(block) => Ok(placed(block.place())),
            None if boards.threads => {
                Ok(Placed { fd: AT_ADDRESS, pad: 0, segment: 0, offset: buf.as_ptr() as u64 })
            }
            None => Err(no_memory()),
        };
        // Where the bytes go that do not lie open: on the board while there is room, then all into one buffer that does.
        let mut at = ENTRIES + if fits { parts.len() * ENTRY } else { 0 };
        let mut overflow = 0;
        let mut places = Vec::with_capacity(parts.len());
        for (_, _, part) in &parts {
            let len = match part {
                Part::Lent(buf) if lies_open(buf) => {
                    places.push(Home::Open);
                    continue;
                }
                Part::Lent(buf) => buf.len(),
                Part::Copied(bytes) => bytes.len(),
            };
            let start = at.next_multiple_of(16);
            if start + len <= SLOT {
                places.push(Home::Board(start));
                at = start + len;
            } else {
                places.push(Home::Staged(overflow));
                overflow = (overflow + len).next_multiple_of(64);
            }
        }
        let mut staged = Buf::empty();
        let mut staged_at = None;
        if overflow > 0 {
            staged = Buf::stale(overflow.max(crate::pool::POOL_FROM));
            staged_at = Some(address(&staged)?);
        }
        let mut entries = Vec::with_capacity(parts.len());
        for ((id, to, part), home) in parts.into_iter().zip(places) {
            let bytes = match &part {
                Part::Copied(bytes) => bytes,
                Part::Lent(buf) => &buf[..],
            };
            let len = bytes.len();
            let (shown_at, place) = match home {
                Home::Open => (None, None),
                Home::Board(start) => {
                    // SAFETY: `start + len` is inside this rank's own place, which no other rank reads before the next ticket.
                    let to = unsafe { slot.add(start) };
                    // SAFETY: as above; the bytes are elsewhere.
                    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, len) };
                    (Some(to), Some(Placed { fd: ON_BOARD, pad: 0, segment: 0, offset: start as u64 }))
                }
                Home::Staged(start) => {
                    staged[start..start + len].copy_from_slice(bytes);
                    let to = staged[start..].as_mut_ptr();
                    (Some(to), staged_at.map(|all| Placed { offset: all.offset + start as u64, ..all }))
                }
            };
            let mut lent = match part {
                Part::Lent(buf) => Some(buf),
                Part::Copied(_) => None,
            };
            let place = match (place, &lent) {
                (Some(place), _) => place,
                (None, Some(buf)) => address(buf)?,
                (None, None) => return Err(no_memory()),
            };
            let own_at = shown_at.or_else(|| lent.as_mut().map(|buf| buf.as_mut_ptr()));
            own.push(Seen { id, to, len, at: own_at.unwrap_or(slot) });
            if let Some(buf) = lent {
                exposure.lent.push((buf, shown_at));
            }
            entries.push(Entry { id, len: len as u64, to, pad: 0, place });
        }
        if overflow > 0 {
            exposure.staged.push(staged);
        }
        let head = boards.head(me, seq);
        let count = entries.len();
        if fits {
            // SAFETY: `FIT` entries end before the place does; nobody reads them before the ticket.
            unsafe {
                std::ptr::copy_nonoverlapping(entries.as_ptr(), slot.add(ENTRIES).cast::<Entry>(), count);
            }
        } else {
            let bytes = count * ENTRY;
            let mut directory = Buf::stale(bytes.max(crate::pool::POOL_FROM));
            let directory_at = address(&directory)?;
            // SAFETY: plain integers without padding, to a buffer of enough bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(entries.as_ptr().cast::<u8>(), directory.as_mut_ptr(), bytes);
            }
            // SAFETY: this rank's own place; nobody reads it before the ticket.
            unsafe { std::ptr::addr_of_mut!((*slot.cast::<Slot>()).directory).write(directory_at) };
            exposure.staged.push(directory);
        }
        exposure.seen[me] = Some(own);
        head.entries.store(count as u32, Ordering::Relaxed);
        head.shape.store(shape, Ordering::Relaxed);
        head.ticket.store(tag, Ordering::Release);
        self.nudge_all();
        Ok(Some(exposure))
    }
}

/// Where the bytes of a part lie for the others.
enum Home {
    /// Where they are.
    Open,
    /// On the board, from this offset of the place on.
    Board(usize),
    /// In the staged buffer, from this offset on.
    Staged(usize),
}

fn no_memory() -> NetError {
    NetError::Os {
        what: "the system gives no memory that the ranks of this node could share (limits?)".into(),
        source: std::io::Error::from(std::io::ErrorKind::OutOfMemory),
    }
}

fn placed(place: Place) -> Placed {
    Placed { fd: place.fd, pad: 0, segment: place.segment, offset: place.offset }
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
        let boards = self.world.boards();
        let boards = boards.as_ref()?;
        (0..self.seen.len() as u32).find_map(|rank| {
            let ticket = boards.head(rank as usize, self.seq).ticket.load(Ordering::Acquire);
            ((ticket ^ self.tag) >> 32 == 0 && ticket != self.tag).then_some((rank, ticket))
        })
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
        let directory = head.directory;
        let job_rank = boards.mates[rank].job_rank;
        let broken = |what: String| NetError::Protocol { peer: format!("rank {job_rank} (its board)"), what };
        let slot = boards.slot(rank, self.seq);
        let threads = boards.threads;
        let mate = &mut boards.mates[rank];
        let mut address = |place: Placed, len: u64| -> Result<*mut u8> {
            match place.fd {
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
                _ => Err(broken(format!("a part at a place of kind {}", place.fd))),
            }
        };
        let from = if count <= FIT {
            // SAFETY: the entries follow the header.
            unsafe { slot.add(ENTRIES) }
        } else {
            address(directory, (count * ENTRY) as u64)?
        };
        let mut seen = Vec::with_capacity(count);
        for i in 0..count {
            // SAFETY: `count` entries are there, by the check of `address` or by `FIT`; they were written before the ticket.
            let entry = unsafe { from.cast::<Entry>().add(i).read() };
            let at = address(entry.place, entry.len)?;
            seen.push(Seen { id: entry.id, to: entry.to, len: entry.len as usize, at });
        }
        self.seen[rank] = Some(seen);
        Ok(true)
    }

    /// The fingerprint of a rank's shape; only after it was [polled](Exposure::poll_one).
    pub fn shape(&self, rank: u32) -> u32 {
        let boards = self.world.boards();
        boards.as_ref().map_or(0, |b| b.head(rank as usize, self.seq).shape.load(Ordering::Relaxed))
    }

    /// What a rank shows, by ascending place in what it gave; nothing before it was [polled](Exposure::poll_one), or after [`Exposure::done`].
    pub fn shown(&self, rank: u32) -> impl ExactSizeIterator<Item = Shown<'_>> {
        let seen = self.seen.get(rank as usize).and_then(Option::as_deref).filter(|_| !self.done);
        seen.unwrap_or(&[]).iter().map(|s| Shown {
            id: s.id,
            to: s.to,
            // SAFETY: mapped memory of this length, that its owner has lent to this call until this rank is done with it, which ends
            // this borrow (`done` takes `&mut self`).
            bytes: unsafe { std::slice::from_raw_parts(s.at, s.len) },
        })
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
        let mut at = Vec::with_capacity(size);
        let mut len = None;
        for seen in &self.seen {
            let Some(s) = seen.as_ref().and_then(|s| s.get(part)) else {
                return Err(NetError::Internal(format!("part {part} is not shown by all ranks")));
            };
            if *len.get_or_insert(s.len) != s.len {
                return Err(NetError::Internal(format!("part {part} has several lengths")));
            }
            at.push(s.at);
        }
        let len = len.unwrap_or(0);
        let rank = self.world.rank() as usize;
        // Shares begin at whole cache lines of whole elements.
        let unit = element.max(1) * 64;
        let units = len.div_ceil(unit);
        let bound = |r: usize| (units * r / size * unit).min(len);
        let (mut from, end) = (bound(rank), bound(rank + 1));
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
                        std::ptr::copy_nonoverlapping(at[0].add(from), scratch.as_mut_ptr(), n);
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
                    Some(root) => std::ptr::copy_nonoverlapping(to, at[root as usize].add(from), n),
                    None => {
                        for other in &at[1..] {
                            std::ptr::copy_nonoverlapping(to, other.add(from), n);
                        }
                    }
                }
            }
            from += n;
        }
        Ok(())
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
    pub fn poll_reclaim(&mut self) -> Option<Vec<Buf>> {
        self.done();
        let all = self.world.boards().as_ref().is_some_and(|b| b.all_done(self.seq));
        if !all {
            return None;
        }
        let lent = std::mem::take(&mut self.lent).into_iter().map(|(mut buf, shown)| {
            if let Some(at) = shown.filter(|_| self.rewritten) {
                // SAFETY: the bytes of this buffer were copied to `at`, on this rank's place or in a staged buffer, both of which are still this
                // exposure's, and nobody else touches them any more.
                unsafe { std::ptr::copy_nonoverlapping(at, buf.as_mut_ptr(), buf.len()) };
            }
            buf
        });
        let lent = lent.collect();
        self.staged.clear();
        Some(lent)
    }

    /// True if nothing was lent or is to come back: the rank need not wait for the others to be done.
    pub fn is_on_board(&self) -> bool {
        self.lent.is_empty() && self.staged.is_empty()
    }
}

impl Drop for Exposure {
    fn drop(&mut self) {
        self.done();
        if self.is_on_board() {
            return;
        }
        // Others may still look: what was lent is never used again.
        let all = self.world.boards().as_ref().is_some_and(|b| b.all_done(self.seq));
        if !all {
            std::mem::take(&mut self.lent).into_iter().for_each(std::mem::forget);
            std::mem::take(&mut self.staged).into_iter().for_each(std::mem::forget);
        }
    }
}
