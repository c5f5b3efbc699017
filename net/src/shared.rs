//! What the ranks of one node show each other during a collective, instead of sending it.
//!
//! Each rank has a *board* that all ranks of its world can read (a block of the pool; for threads, plain memory). For a
//! collective it writes there what it has, small parts with their bytes, large ones as the places where they lie in its pool, and then the call's
//! ticket, which makes the rest visible. The others wait for the ticket, take what they need, one pass over its memory, and
//! say that they are done; then the rank has its buffers back ([`Exposure::poll_reclaim`]). No byte is copied in between, and no
//! system call is made unless somebody sleeps. (A long slice of the program's own memory, [`Part::Private`], the others have the system copy.)
//!
//! A board has eight places, used in turn by the calls of a world, so that several may be under way. A place is written again when all
//! ranks have said that they are done with the call before.
//!
//! # Why this is sound
//!
//! What is lent belongs to the [`Exposure`] until every rank is done with it, so no reference to it exists in its owner. A rank that ends
//! before (an error, a panic) leaks its lent buffers: they are never used again while others may look. Others get slices of it only
//! through an exposure of the same call, whose ticket they have seen; the release of the ticket and of `done` order all accesses. Ranges that
//! ranks write in each other's memory ([`Exposure::rewrite`], [`Exposure::permute`], [`Exposure::swap`]) are disjoint by their rank; a rank
//! that ends before it has written its own does not say that it is done ([`Exposure::owe`]).
//!
//! Private memory nobody touches by its address: the system reads it, whatever is there. That it is still what was shown follows from the owner's waiting for
//! all to be done. One that does not, because it fails, marks the call as withdrawn before it lets go; a reader looks for the mark after each read, as one of a
//! sequence lock does, and with it takes nothing.

mod boards;
mod brief;
mod exposure;

pub use brief::{Brief, Glance, View};
pub use exposure::{Exposure, share};

pub(crate) use boards::Boards;

use crate::buffer::Buf;
use crate::error::{NetError, Result};
use crate::world::World;
use smallvec::SmallVec;

/// Parts are written to the board up to this length in all.
pub const INLINE: usize = 4 << 10;

/// The part is for all ranks.
pub const ALL: u32 = u32::MAX;

/// Something to show.
pub enum Part<'a> {
    /// To be copied to the board, if it is small.
    Copied(&'a [u8]),
    /// To be lent: read where it lies.
    Lent(Buf),
    /// As lent, but what is small enough to be copied to the board does not come back.
    Given(Buf),
    /// A slice of this process's own memory, to be left alone until all are done ([`Exposure::poll_reclaim`]): if it is long, and the system
    /// allows it, others copy from it by [`Exposure::fetch`]. Else it is as `Copied`.
    Private(&'a [u8]),
}

/// What a rank shows: id, the rank that it is for or [`ALL`], bytes.
pub type Shows<'a> = SmallVec<[(u64, u32, Part<'a>); 1]>;

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
}
