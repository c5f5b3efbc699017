//! The contract between the engine and a wire, and the wires.
//!
//! # What a wire promises
//!
//! * **Order**: messages from one rank to another arrive in the order in which they were posted, each exactly once and
//!   unaltered, or the wire returns an error that names the peer. There is no order between different senders.
//! * **Never blocks**: [`Transport::post`] and [`Transport::progress`] return at once. Nothing moves unless one of
//!   them is called; no wire has a thread.
//! * **Owns what it carries**: a posted buffer belongs to the wire until it has left; a received one belongs to the
//!   engine from the moment it is put into the inbox.
//! * **Any size**: a message may have zero bytes or many GiB. A wire cuts it as it must and allocates for the receiver
//!   only as bytes arrive.
//! * **Bounded by the engine**: the engine posts no more than a window of bytes a peer and edge that the receiver has
//!   not yet taken (see `engine`), so a wire's queue to a peer is bounded without a limit of its own.
//! * **Waiting**: between [`Transport::arm`] and [`Transport::disarm`] the wire makes its [`Transport::wait_fd`]
//!   readable when `progress` could do something. A wire that has no such descriptor (MPI) is polled with short sleeps.
//! * **Ending**: [`Transport::close`] is called once all ranks are known to have received everything.
//!
//! A wire checks what comes in (length, kind, sequence, job epoch) before it hands it on: a damaged or foreign frame
//! is an error, never a message.

mod bell;
pub mod frame;
pub mod local;
pub mod mpi;
pub mod shm;
pub mod tcp;

pub(crate) use bell::{Bell, Ringer};
pub use local::LocalWaker;

use crate::buffer::Buf;
use crate::error::Result;
use crate::mpi::Begun;
use std::os::fd::BorrowedFd;

/// What kind of wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// This rank to itself.
    Myself,
    /// Threads of one process.
    Local,
    /// Processes of one node, through shared memory.
    Shm,
    /// Sockets.
    Tcp,
    /// The MPI library that was loaded at run time.
    Mpi,
}

impl std::fmt::Display for TransportKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TransportKind::Myself => "self",
            TransportKind::Local => "local",
            TransportKind::Shm => "shm",
            TransportKind::Tcp => "tcp",
            TransportKind::Mpi => "mpi",
        })
    }
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message of the user of an edge.
    Data = 0,
    /// The receiver has taken this many bytes of the edge (body: one `u64`): the sender's window opens.
    Credit = 1,
}

impl Kind {
    pub(crate) fn from_u8(value: u8) -> Option<Kind> {
        match value {
            0 => Some(Kind::Data),
            1 => Some(Kind::Credit),
            _ => None,
        }
    }
}

/// A message without its peer.
#[derive(Debug)]
pub struct Packet {
    /// What it is for.
    pub kind: Kind,
    /// Its stream.
    pub edge: u32,
    /// The user's word about it (operation, sequence): carried, not interpreted.
    pub tag: u64,
    /// Its bytes.
    pub body: Buf,
}

/// A message that has arrived.
#[derive(Debug)]
pub struct Arrival {
    /// The rank that sent it.
    pub from: u32,
    /// The message.
    pub packet: Packet,
}

/// A wire to some of the other ranks. The module's text is the contract.
pub trait Transport: Send {
    /// What kind of wire.
    fn kind(&self) -> TransportKind;

    /// Takes a message for `peer` (a rank that this wire serves) and starts it on its way.
    fn post(&mut self, peer: u32, packet: Packet) -> Result<()>;

    /// Moves what can be moved now; complete messages go to `inbox`. True if anything moved.
    fn progress(&mut self, inbox: &mut Vec<Arrival>) -> Result<bool>;

    /// True if nothing that was posted waits on this side any more.
    fn idle(&self) -> bool;

    /// A descriptor to sleep on, if the wire has one.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>>;

    /// About to sleep: from now on make `wait_fd` readable when there is work. The caller calls `progress` once more
    /// after this and before it sleeps.
    fn arm(&mut self) {}

    /// Awake again.
    fn disarm(&mut self) {}

    /// The process that `peer` is, if it can read this one's memory and be read; `None` for a thread of this one.
    fn process_of(&self, _peer: u32) -> Option<u32> {
        None
    }

    /// Wakes `peer` if it sleeps: something was written for it beside the wire, in shared memory, and a full fence put after it.
    fn nudge(&self, _peer: u32) {}

    /// MPI's own broadcasts, on a wire that has them.
    fn begun(&mut self) -> Option<&mut Begun<Buf>> {
        None
    }

    /// The world ends in good order.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
