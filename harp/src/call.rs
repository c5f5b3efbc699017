//! What all collectives share: a call's *ticket*, and how it sends and receives.
//!
//! A ticket names the call: operation, how manieth collective it is in this world, and a fingerprint of what all ranks
//! must agree on (element type, combiner, root). It travels in the tag of every message of the call; a message of the same
//! number with another ticket means that the ranks have parted ways, and says where each one is. Calls of other numbers
//! may be under way at the same time; their messages wait.
//!
//! A collective is an `async` function of a [`Call`] that never waits but for messages. [`blocking`] polls it until it ends,
//! [`starting`] hands it to the world, which polls it in every later call.

use crate::codec::{Encoded, Head, encode, encode_owned};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::far::levels::{self, Level};
use crate::table::{Parts, Table};
use aeolian_net::shared::Exposure;
use aeolian_net::{Buf, Edge, NetError, OpName, TrySendError, World};
use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

macro_rules! ops {
    ($($op:ident $name:literal $exposures:literal),* $(,)?) => {
        /// The collectives by number, as it stands in tags.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Op { $($op),* }

        static OPS: &[OpName] = &[$(OpName($name)),*];

        /// How many times each shows something to ranks that share memory.
        const EXPOSURES: &[u64] = &[$($exposures),*];
    };
}

ops! {
    Barrier "barrier" 1, Broadcast "broadcast" 1, Reduce "reduce" 1, Allreduce "allreduce" 1, Gather "gather" 1, Allgather "allgather" 1,
    Scatter "scatter" 1, Alltoall "alltoall" 1, Regroup "regroup" 1, Aggregate "aggregate" 2, Push "push" 2, Pull "pull" 3, Rotate "rotate" 1,
    Join "join" 2, Scan "scan" 1, Exscan "exscan" 1, Split "split" 1,
    RegroupKv "regroup_kv" 1, AllreduceKv "allreduce_kv" 1, ReduceKv "reduce_kv" 1, BroadcastKv "broadcast_kv" 1,
    GroupByKey "group_by_key" 1,
    AllreduceSlice "allreduce_slice" 2, ReduceSlice "reduce_slice" 2, BroadcastSlice "broadcast_slice" 1, AllgatherSlice "allgather_slice" 1,
}

/// 24 bits of what all ranks must agree on. Eight bytes at a time: it is made for every call.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> u32 {
    let mut hash = 0u64;
    let mut mix = |word: u64| hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        words.iter().for_each(|w| mix(u64::from_le_bytes(*w)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mix(u64::from_le_bytes(last));
        mix(part.len() as u64);
    }
    (hash >> 40) as u32
}

/// The fingerprint of a call on a table: its element type and combiner, and what else must agree.
pub(crate) fn agree<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>, more: &[u8]) -> u32 {
    if more.is_empty() { table.names() } else { fingerprint(&[&table.names().to_le_bytes(), more]) }
}

fn describe(tag: u64) -> String {
    let name = OPS.get((tag >> 24 & 0xff) as usize).map_or("an unknown operation", |op| op.0);
    format!("{name} #{}", tag >> 32)
}

/// One collective call of this rank.
pub(crate) struct Call {
    world: World,
    edge: Edge,
    seq: u64,
    tag: u64,
    /// Whether all ranks of the world share memory.
    near: bool,
    first: bool,
    /// Numbers of the exposures that are left.
    exposures: Cell<(u64, u64)>,
    /// What was shown the short way, for the long one to go on with.
    kept: Cell<Option<Exposure>>,
    /// From so many bytes on a partition may go by MPI's own broadcast.
    mpi_from: Cell<usize>,
    /// The part of it inside this rank's node, if the world has several and some of them several ranks.
    level: Option<Level>,
}

/// From so many bytes on MPI's own broadcast is the faster one (`docs/src/measurements.md`).
const MPI_FROM: usize = 64 << 10;

/// As above, of a slice, which has to be copied before and after: in pieces that overlaps with the way, MPI gets it as a whole.
pub(crate) const MPI_FROM_OF_SLICES: usize = 16 << 20;

/// Runs a collective to its end.
pub(crate) fn blocking<T>(
    world: &mut World,
    op: Op,
    agree: u32,
    body: impl AsyncFnOnce(&Call) -> Result<T>,
) -> Result<T> {
    let call = Call::begin(world, op, agree)?;
    call.enter(op);
    let outcome = world.run(async {
        call.open().await?;
        body(&call).await.map_err(|e| call.of_job(e))
    });
    world.leave();
    outcome
}

/// Starts a collective that later calls into the world move on.
pub(crate) fn starting<T: 'static>(
    world: &World,
    op: Op,
    agree: u32,
    body: impl AsyncFnOnce(&Call) -> Result<T> + 'static,
) -> Result<Pending<T>> {
    let call = Call::begin(world, op, agree)?;
    let name = Some((&OPS[op as usize], call.seq));
    Ok(world.spawn(name, async move {
        call.open().await?;
        body(&call).await.map_err(|e| call.of_job(e))
    }))
}

/// A collective under way; see [`aeolian_net::Pending`].
pub type Pending<T> = aeolian_net::Pending<T, HarpError>;

impl Call {
    pub(crate) fn begin(world: &World, op: Op, agree: u32) -> Result<Call> {
        let (edge, seq) = world.next_collective()?;
        let mut call = Call::numbered(world, op, agree, (edge, seq), EXPOSURES[op as usize]);
        let exposures = levels::exposures(op, |op| EXPOSURES[op as usize]);
        if exposures > 0
            && let Some(nodes) = world.nodes()
        {
            let node = world.on_node(&nodes);
            let number = (node.join_collective(seq), seq);
            call.level = Some(Level::new(nodes, Call::numbered(&node, op, agree, number, exposures)));
        }
        Ok(call)
    }

    /// The call `seq` on the stream `edge` of a world; it shows something `count` times if the ranks share memory.
    fn numbered(world: &World, op: Op, agree: u32, (edge, seq): (Edge, u64), count: u64) -> Call {
        let tag = (seq & 0xffff_ffff) << 32 | (op as u64) << 24 | u64::from(agree & 0xff_ffff);
        let near = world.shares_memory();
        let first = if near { world.reserve_exposures(count, &OPS[op as usize]) } else { 0 };
        let exposures = Cell::new((first, if near { first + count } else { 0 }));
        let (world, kept) = (world.handle(), Cell::new(None));
        let mpi_from = Cell::new(MPI_FROM);
        Call { world, edge, seq, tag, near, first: first == 1, exposures, kept, mpi_from, level: None }
    }

    /// Brings the boards together on which ranks that share memory show each other what they have.
    pub(crate) async fn open(&self) -> Result<()> {
        self.open_boards().await?;
        match &self.level {
            Some(level) => level.lift(level.node().open_boards().await),
            None => Ok(()),
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Whether all ranks of the world share memory.
    pub(crate) fn near(&self) -> bool {
        self.near
    }

    /// The part of it inside this rank's node, if the world has several and some of them several ranks.
    pub(crate) fn level(&self) -> Option<&Level> {
        self.level.as_ref()
    }

    /// From so many bytes on a partition may go by MPI's own broadcast. All ranks must say the same.
    pub(crate) fn mpi_from(&self) -> &Cell<usize> {
        &self.mpi_from
    }

    /// Whether it is the first call of its world that may show something.
    pub(crate) fn is_first(&self) -> bool {
        self.first
    }

    /// Number and ticket of this call's next exposure.
    pub(crate) fn next_exposure(&self) -> Result<(u64, u64)> {
        let (next, end) = self.exposures.get();
        if next >= end {
            return Err(HarpError::Net(NetError::Internal(format!(
                "{} shows more than it has reserved",
                describe(self.tag)
            ))));
        }
        let coming = self.coming_exposure();
        self.exposures.set((next + 1, end));
        Ok(coming)
    }

    /// As [`next_exposure`](Call::next_exposure), without using it.
    pub(crate) fn coming_exposure(&self) -> (u64, u64) {
        let next = self.exposures.get().0;
        (next, (next & 0xffff_ffff) << 32 | self.tag & 0xffff_ffff)
    }

    pub(crate) fn keep(&self, exposure: Exposure) {
        self.kept.set(Some(exposure));
    }

    pub(crate) fn kept(&self) -> Option<Exposure> {
        self.kept.take()
    }

    /// How manieth collective of its world it is.
    pub(crate) fn number(&self) -> u64 {
        self.seq
    }

    /// Tells whoever watches.
    pub(crate) fn enter(&self, op: Op) {
        self.world.enter(&OPS[op as usize], self.seq);
    }

    /// The error with the rank that it names numbered as in the whole job.
    pub(crate) fn of_job(&self, mut error: HarpError) -> HarpError {
        if let HarpError::Lengths { from: Some(rank), .. } | HarpError::Decode { rank, .. } = &mut error {
            *rank = self.world.job_rank(*rank).unwrap_or(*rank);
        }
        error
    }

    /// The ranks are in different calls.
    pub(crate) fn parted(&self, from: u32, ticket: u64) -> HarpError {
        self.mismatch(from, self.tag & !0xffff_ffff | ticket & 0xffff_ffff)
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

    /// Hands a message over, once the receiver has room for it.
    pub(crate) async fn send(&self, to: u32, body: Buf) -> Result<()> {
        let mut body = Some(body);
        poll_fn(|_| {
            let Some(b) = body.take() else { return Poll::Ready(Ok(())) };
            match self.world.try_send_call(self.edge, to, self.tag, b) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TrySendError::Full(b)) => {
                    body = Some(b);
                    Poll::Pending
                }
                Err(TrySendError::Failed(e)) => Poll::Ready(Err(e.into())),
            }
        })
        .await
    }

    /// The next message of this call from a rank.
    pub(crate) async fn recv(&self, from: u32) -> Result<Buf> {
        let message = poll_fn(|_| match self.world.try_recv_call(self.edge, from, self.seq) {
            Ok(None) => Poll::Pending,
            Ok(Some(message)) => Poll::Ready(Ok(message)),
            Err(e) => Poll::Ready(Err(e)),
        })
        .await?;
        if message.tag == self.tag { Ok(message.body) } else { Err(self.mismatch(from, message.tag)) }
    }

    fn mismatch(&self, from: u32, tag: u64) -> HarpError {
        let differ = if (tag ^ self.tag) >> 24 == 0 {
            " with another element type, combiner, root or partitioner"
        } else {
            ""
        };
        let error = NetError::Mismatch {
            rank: self.world.job_rank(self.rank()).unwrap_or(u32::MAX),
            ours: describe(self.tag),
            peer: self.world.job_rank(from).unwrap_or(u32::MAX),
            theirs: describe(tag) + differ,
        };
        self.world.fail(aeolian_net::exit::MISMATCH, error.to_string(), "");
        error.into()
    }

    /// Sends the messages of partitions.
    pub(crate) async fn send_encoded(&self, to: u32, encoded: Encoded) -> Result<()> {
        self.send(to, encoded.head).await?;
        for buf in encoded.apart {
            self.send(to, buf).await?;
        }
        Ok(())
    }

    /// Sends partitions that are not needed here any more.
    pub(crate) async fn send_parts<D: Data>(&self, to: u32, parts: Parts<D>) -> Result<()> {
        self.send_encoded(to, encode_owned::<D>(parts)?).await
    }

    /// Sends a copy of a table.
    pub(crate) async fn send_table<D: Data, C: Combiner<D::Unit>>(
        &self,
        to: u32,
        table: &Table<D, C>,
    ) -> Result<()> {
        self.send_encoded(to, encode::<D>(table.iter())?).await
    }

    /// Receives partitions, however they were sent.
    pub(crate) async fn recv_parts<D: Data>(&self, from: u32) -> Result<Parts<D>> {
        let head = Head::<D>::decode(&self.recv(from).await?, from)?;
        let mut apart = Vec::with_capacity(head.apart.len().min(1024));
        for _ in 0..head.apart.len() {
            apart.push(self.recv(from).await?);
        }
        head.with(apart, from)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (next, end) = self.exposures.get();
        (next..end).for_each(|number| self.world.skip_exposure(number));
        self.world.end_collective(self.seq);
    }
}
