//! The collectives, one a file, and what they share: a call's *ticket*.
//!
//! A ticket names the call: operation, how manieth collective it is on this rank, and a fingerprint of what all ranks
//! must agree on (element type, combiner, root). It travels in the tag of every message of the call; a message with
//! another ticket than expected means that the ranks have parted ways, and says where each one is.

pub(crate) mod allgather;
pub(crate) mod allreduce;
pub(crate) mod barrier;
pub(crate) mod broadcast;
pub(crate) mod gather;
pub(crate) mod reduce;

use crate::error::{HarpError, Result};
use aeolian_net::{Buf, Edge, NetError, OpName, World};

/// The collectives by number, as it stands in tags.
static OPS: [OpName; 6] = [
    OpName("barrier"),
    OpName("broadcast"),
    OpName("reduce"),
    OpName("allreduce"),
    OpName("gather"),
    OpName("allgather"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Barrier,
    Broadcast,
    Reduce,
    Allreduce,
    Gather,
    Allgather,
}

/// One collective call of this rank.
pub(crate) struct Call<'w> {
    world: &'w mut World,
    edge: Edge,
    tag: u64,
}

/// 24 bits of what all ranks must agree on (FNV-1a).
pub(crate) fn fingerprint(parts: &[&[u8]]) -> u32 {
    let mut hash = 0x811c_9dc5u32;
    for byte in parts.iter().flat_map(|p| p.iter().chain(std::iter::once(&0xff))) {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    (hash >> 24) ^ (hash & 0xff_ffff)
}

pub(crate) fn describe(tag: u64) -> String {
    let name = OPS.get((tag >> 24 & 0xff) as usize).map_or("an unknown operation", |op| op.0);
    format!("{name} #{}", tag >> 32)
}

impl<'w> Call<'w> {
    pub(crate) fn new(world: &'w mut World, op: Op, agree: u32) -> Call<'w> {
        let (edge, seq) = world.next_collective();
        let tag = (seq & 0xffff_ffff) << 32 | (op as u64) << 24 | u64::from(agree & 0xff_ffff);
        world.enter(&OPS[op as usize], seq);
        Call { world, edge, tag }
    }

    pub(crate) fn rank(&self) -> u32 {
        self.world.rank()
    }

    pub(crate) fn size(&self) -> u32 {
        self.world.size()
    }

    pub(crate) fn root(&self, root: u32) -> Result<u32> {
        if root < self.size() { Ok(root) } else { Err(HarpError::Root { root, size: self.size() }) }
    }

    pub(crate) fn send(&mut self, to: u32, body: Buf) -> Result<()> {
        Ok(self.world.send(self.edge, to, self.tag, body)?)
    }

    pub(crate) fn recv(&mut self, from: u32) -> Result<Buf> {
        let message = self.world.recv_from(self.edge, from)?;
        if message.tag == self.tag {
            return Ok(message.body);
        }
        let differ = if (message.tag ^ self.tag) >> 24 == 0 {
            " with another element type, combiner or root"
        } else {
            ""
        };
        let error = NetError::Mismatch {
            rank: self.rank(),
            ours: describe(self.tag),
            peer: from,
            theirs: describe(message.tag) + differ,
        };
        self.world.fail(aeolian_net::exit::MISMATCH, error.to_string(), "");
        Err(error.into())
    }

    /// Sends to one rank and receives from another, whichever comes first.
    pub(crate) fn exchange(&mut self, peer: u32, body: Buf) -> Result<Buf> {
        // The window always takes a first message, however long; at most one of ours is under way here.
        self.send(peer, body)?;
        self.recv(peer)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.world.leave();
    }
}
