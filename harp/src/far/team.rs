//! [`Team`]: the ranks that an algorithm runs on, by their places in it.

use crate::call::Call;
use crate::choice::Choice;
use crate::codec::{self, Encoded, encode_owned};
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::table::Parts;
use aeolian_net::Buf;
use aeolian_net::mpi::Flavor;

/// All ranks of a call, or some, in an order; this rank is one of them.
pub(crate) struct Team<'c> {
    call: &'c Call,
    /// Place -> rank of the call; none if they are the same.
    ranks: Option<Vec<u32>>,
    me: u32,
}

impl<'c> Team<'c> {
    /// All ranks of the call.
    pub(crate) fn all(call: &'c Call) -> Team<'c> {
        Team { call, ranks: None, me: call.rank() }
    }

    /// These ranks of the call, if this one is among them.
    pub(crate) fn of(call: &'c Call, ranks: Vec<u32>) -> Option<Team<'c>> {
        let me = ranks.iter().position(|&rank| rank == call.rank())? as u32;
        Some(Team { call, ranks: Some(ranks), me })
    }

    /// This rank's place.
    pub(crate) fn me(&self) -> u32 {
        self.me
    }

    pub(crate) fn size(&self) -> u32 {
        self.ranks.as_ref().map_or(self.call.size(), |ranks| ranks.len() as u32)
    }

    /// The rank of the call at a place.
    pub(crate) fn rank(&self, place: u32) -> u32 {
        self.ranks.as_ref().map_or(place, |ranks| ranks[place as usize])
    }

    /// The bounds between algorithms.
    pub(crate) fn choice(&self) -> Choice {
        Choice::of(self.call.world())
    }

    /// What the member at `place` has sent is not what was due.
    pub(crate) fn broken(&self, place: u32, what: impl Into<String>) -> HarpError {
        HarpError::Decode { rank: self.rank(place), what: what.into() }
    }

    pub(crate) async fn send(&self, to: u32, body: Buf) -> Result<()> {
        self.call.send(self.rank(to), body).await
    }

    pub(crate) async fn recv(&self, from: u32) -> Result<Buf> {
        self.call.recv(self.rank(from)).await
    }

    pub(crate) async fn send_encoded(&self, to: u32, encoded: Encoded) -> Result<()> {
        self.call.send_encoded(self.rank(to), encoded).await
    }

    /// Whose MPI's own broadcasts the members may use: if they are all ranks of a job that has an MPI.
    pub(crate) fn mpi(&self) -> Option<Flavor> {
        self.call.world().mpi_broadcasts().filter(|_| self.ranks.is_none())
    }

    /// From so many bytes on they broadcast by it.
    pub(crate) fn mpi_from(&self) -> usize {
        self.call.mpi_from().get()
    }

    /// MPI's own broadcasts of several buffers, each from the member that has its bytes. All give the same lengths in the same order.
    pub(crate) async fn broadcast_by_mpi(&self, bufs: Vec<(Buf, u32)>) -> Result<Vec<Buf>> {
        match bufs.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(self.call.world().broadcast_by_mpi(self.call.number(), bufs).await?),
        }
    }

    /// Sends partitions that are not needed here any more.
    pub(crate) async fn send_parts<D: Data>(&self, to: u32, parts: Parts<D>) -> Result<()> {
        self.send_encoded(to, encode_owned::<D>(parts)?).await
    }

    /// Receives partitions, however they were sent.
    pub(crate) async fn recv_parts<D: Data>(&self, from: u32) -> Result<Parts<D>> {
        self.call.recv_parts::<D>(self.rank(from)).await
    }

    /// Receives the messages of partitions as they are.
    pub(crate) async fn recv_encoded(&self, from: u32) -> Result<Encoded> {
        let head = self.recv(from).await?;
        let mut apart = Vec::new();
        for _ in codec::apart(&head, self.rank(from))? {
            apart.push(self.recv(from).await?);
        }
        Ok(Encoded { head, apart })
    }
}
