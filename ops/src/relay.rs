//! [`Relay`]: messages of an operator by the nodes.
//!
//! Directly, each rank with sources sends to each rank with targets: on `n` nodes of `p` ranks up to `n * p` messages a rank, however little each has to
//! say. By node it sends to one rank with targets of each other node (by its own place among those with sources of its node, modulo their number) what all ranks there
//! are to get, and that one passes it on inside the node: `n - 1` messages between nodes and `p` inside, and marks alike.
//!
//! # On the wire
//!
//! Small batches travel in *bundles*: each as a frame of its slot, its rank of origin and its length, and its bytes. A large batch goes alone; inside the
//! node a message that says its origin goes just before it. Batches for all targets go to each node once, and have no origin.
//!
//! Marks take the same steps. A rank that passes on tells the ranks of its node that all have come to a barrier (or have finished) when all have from which it
//! takes, itself among them; until then it takes nothing more from those that have. So each step is aligned as a whole edge is
//! otherwise ([`Carrier`](crate::carrier::Carrier)), and what an operator sees is the same.
//!
//! # No deadlock
//!
//! A message waits for room at most on the second step, whose messages a rank takes whatever it has to pass on itself: steps in one order cannot wait for
//! one another in a circle (Dally and Seitz, "Deadlock-free message routing in multiprocessor interconnection networks", 1987).

use crate::carrier::{Marks, State};
use crate::dataflow::Dataflow;
use crate::memory::Reservation;
use crate::plan::LogicalPlan;
use crate::record::{Reader, Record, Writer};
use crate::tags::{Kind, Tags};
use aeolian_net::{Buf, Edge, Layout, Message, NetError, TrySendError, World};
use std::collections::BTreeSet;

/// Bytes before each batch in a bundle.
const FRAME: usize = 16;

/// Something is wrong with a message, or with the wires.
pub(crate) enum Trouble {
    /// What this rank sent is nothing that it could send.
    Odd(u32),
    Net(NetError),
}

impl From<NetError> for Trouble {
    fn from(e: NetError) -> Trouble {
        Trouble::Net(e)
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// Batches in one message.
#[derive(Default)]
struct Bundle {
    bytes: Buf,
    filled: usize,
}

/// A bundle that has come.
#[derive(Default)]
pub(crate) struct Frames {
    bytes: Buf,
    at: usize,
}

/// One batch of a bundle.
pub(crate) struct Frame {
    pub(crate) slot: u32,
    pub(crate) origin: u32,
    pub(crate) bytes: std::ops::Range<usize>,
}

impl Frames {
    pub(crate) fn of(bytes: Buf) -> Frames {
        Frames { bytes, at: 0 }
    }

    /// The next frame, `None` after the last; an error if there is none where one should be.
    pub(crate) fn next(&mut self) -> std::result::Result<Option<Frame>, ()> {
        let next = self.peek()?;
        self.at = next.as_ref().map_or(self.at, |frame| frame.bytes.end);
        Ok(next)
    }

    /// The same, which stays the next one.
    fn peek(&self) -> std::result::Result<Option<Frame>, ()> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let (slot, rest) = rest.split_first_chunk().ok_or(())?;
        let (origin, rest) = rest.split_first_chunk().ok_or(())?;
        let (len, rest) = rest.split_first_chunk().ok_or(())?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(drop)?;
        if len > rest.len() {
            return Err(());
        }
        let start = self.at + FRAME;
        let (slot, origin) = (u32::from_le_bytes(*slot), u32::from_le_bytes(*origin));
        Ok(Some(Frame { slot, origin, bytes: start..start + len }))
    }

    pub(crate) fn bytes(&self, frame: &Frame) -> &[u8] {
        &self.bytes[frame.bytes.clone()]
    }
}

/// A rank to which messages go, and the bundle that is being filled for it.
struct Hop {
    /// What is found by: the node, or the rank.
    number: u32,
    rank: u32,
    bundle: Bundle,
}

/// All hops of one step.
struct Hops {
    hops: Vec<Hop>,
    /// Bytes of a bundle.
    most: usize,
    room: Reservation,
}

impl Hops {
    /// Of these ranks, by ascending numbers.
    fn new(flow: &Dataflow, ranks: Vec<(u32, u32)>) -> Hops {
        let hop = |(number, rank)| Hop { number, rank, bundle: Bundle::default() };
        let hops: Vec<Hop> = ranks.into_iter().map(hop).collect();
        Hops { most: flow.batch_bytes(hops.len()), hops, room: flow.memory().reserve() }
    }

    fn hop(&self, number: u32) -> Option<usize> {
        self.hops.binary_search_by_key(&number, |hop| hop.number).ok()
    }

    /// Puts a batch into a bundle; false if there is no room.
    fn put(&mut self, way: &Way, hop: usize, slot: u32, origin: u32, batch: &[u8]) -> Result<bool> {
        let needed = FRAME + batch.len();
        if self.hops[hop].bundle.filled + needed > self.hops[hop].bundle.bytes.len() {
            if !self.flush_one(way, hop)? {
                return Ok(false);
            }
            let most = self.most.max(needed);
            self.room.take(most as u64);
            self.hops[hop].bundle = Bundle { bytes: Buf::private(most), filled: 0 };
        }
        let Bundle { bytes, filled } = &mut self.hops[hop].bundle;
        let (head, body) = bytes[*filled..*filled + needed].split_at_mut(FRAME);
        head[..4].copy_from_slice(&slot.to_le_bytes());
        head[4..8].copy_from_slice(&origin.to_le_bytes());
        head[8..].copy_from_slice(&(batch.len() as u64).to_le_bytes());
        body.copy_from_slice(batch);
        *filled += needed;
        Ok(true)
    }

    /// Sends what is in a bundle; false if there is no room.
    fn flush_one(&mut self, way: &Way, hop: usize) -> Result<bool> {
        let Hop { rank, bundle, .. } = &mut self.hops[hop];
        if bundle.filled == 0 {
            return Ok(true);
        }
        let mut bytes = std::mem::take(&mut bundle.bytes);
        let whole = bytes.len();
        bytes.truncate(bundle.filled);
        match way.send(*rank, Kind::Bundle, 0, bytes)? {
            None => {
                *bundle = Bundle::default();
                self.room.shrink(whole as u64);
                Ok(true)
            }
            // (It is not filled further: it has no room any more.)
            Some(bytes) => {
                self.room.shrink((whole - bytes.len()) as u64);
                bundle.bytes = bytes;
                Ok(false)
            }
        }
    }

    fn flush(&mut self, way: &Way) -> Result<bool> {
        for hop in 0..self.hops.len() {
            if !self.flush_one(way, hop)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// On which messages go.
struct Way {
    world: World,
    edge: Edge,
    tags: Tags,
}

impl Way {
    /// Sends a message, or gives it back if there is no room.
    fn send(&self, to: u32, kind: Kind, slot: u32, bytes: Buf) -> Result<Option<Buf>> {
        match self.world.try_send(self.edge, to, self.tags.tag(kind, slot), bytes) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(bytes)) => Ok(Some(bytes)),
            Err(TrySendError::Failed(e)) => Err(e.into()),
        }
    }
}

/// What is being passed on.
enum InHand {
    Bundle {
        from: u32,
        frames: Frames,
    },
    /// A batch for one rank, which may know its origin already.
    Alone {
        slot: u32,
        origin: u32,
        to: u32,
        bytes: Buf,
        is_announced: bool,
    },
    /// A batch for all, which so many have.
    ForAll {
        bytes: Buf,
        sent: usize,
    },
    /// The mark of all from which this rank takes.
    Mark {
        kind: Kind,
        body: Buf,
        sent: usize,
    },
}

/// How an edge's messages go by the nodes, as one rank has it.
pub(crate) struct Relay {
    way: Way,
    places: Places,
    /// Its rank of each other node with targets, if this rank has sources; and the ranks of this node that have targets.
    away: Hops,
    near: Hops,
    /// Other nodes' ranks with sources that send here, ascending.
    feeders: Vec<u32>,
    /// feeder -> how far it is
    fed: Vec<State>,
    /// How far this rank's own sources are; `None` if there are none.
    own: Option<State>,
    /// Of both, those that are not open.
    held: usize,
    marks: Marks,
    in_hand: Option<InHand>,
    is_over: bool,
}

/// Where sources and targets are.
struct Places {
    rank: u32,
    /// rank -> its node
    node_of: Vec<u32>,
    /// rank with sources -> its place among those of its node
    place: Vec<usize>,
    /// node -> its ranks with targets
    targets: Vec<Vec<u32>>,
    /// Ranks with sources, ascending.
    sources: Vec<u32>,
}

impl Places {
    fn new(world: &World, plan: &LogicalPlan) -> Places {
        let Layout { node_of, hosts } = world.layout();
        let mut targets = vec![Vec::new(); hosts.len()];
        plan.target_ranks().into_iter().for_each(|rank| targets[node_of[rank as usize] as usize].push(rank));
        let (mut place, mut so_far) = (vec![0; node_of.len()], vec![0; hosts.len()]);
        let sources = plan.source_ranks();
        for source in &sources {
            let so_far = &mut so_far[node_of[*source as usize] as usize];
            place[*source as usize] = *so_far;
            *so_far += 1;
        }
        Places { rank: world.rank(), node_of: node_of.clone(), place, targets, sources }
    }

    fn mine(&self) -> u32 {
        self.node_of[self.rank as usize]
    }

    /// The rank of a node that takes what a rank of another node sends there; `None` if it has no targets.
    fn taker(&self, source: u32, node: u32) -> Option<u32> {
        let targets = &self.targets[node as usize];
        targets.get(self.place[source as usize] % targets.len().max(1)).copied()
    }

    /// The rank from which those of this node get what a rank sends.
    fn giver(&self, source: u32) -> Option<u32> {
        match self.node_of[source as usize] == self.mine() {
            true => Some(source),
            false => self.taker(source, self.mine()),
        }
    }
}

impl Relay {
    pub(crate) fn new(flow: &Dataflow, edge: Edge, plan: &LogicalPlan) -> Relay {
        let world = flow.world().handle();
        let places = Places::new(&world, plan);
        let (rank, mine) = (places.rank, places.mine());
        let is_source = places.sources.binary_search(&rank).is_ok();
        let other = |node: &u32| is_source && *node != mine;
        let nodes = (0..places.targets.len() as u32).filter(other);
        let away = nodes.map(|node| (node, places.taker(rank, node)));
        let far =
            |source: &u32| places.node_of[*source as usize] != mine && places.giver(*source) == Some(rank);
        Relay {
            away: Hops::new(flow, away.filter_map(|(node, rank)| Some((node, rank?))).collect()),
            near: Hops::new(flow, places.targets[mine as usize].iter().map(|rank| (*rank, *rank)).collect()),
            feeders: places.sources.iter().copied().filter(far).collect(),
            fed: Vec::new(),
            own: is_source.then_some(State::Open),
            held: 0,
            marks: Vec::new(),
            in_hand: None,
            is_over: false,
            way: Way { world, edge, tags: Tags::default() },
            places,
        }
    }

    /// As at the beginning of a round.
    pub(crate) fn open(&mut self, tags: Tags) {
        self.way.tags = tags;
        self.fed = vec![State::Open; self.feeders.len()];
        self.own = self.own.map(|_| State::Open);
        self.held = 0;
        self.is_over = self.takes_from() == 0;
    }

    /// Ranks from which this one takes, itself among them.
    fn takes_from(&self) -> usize {
        self.feeders.len() + usize::from(self.own.is_some())
    }

    /// The ranks of this node, ascending, from which its ranks with targets get all messages.
    pub(crate) fn givers(&self) -> Vec<u32> {
        let givers = self.places.sources.iter().filter_map(|source| self.places.giver(*source));
        let givers: BTreeSet<u32> = givers.collect();
        givers.into_iter().collect()
    }

    /// Whether a rank is on this node.
    pub(crate) fn is_near(&self, rank: u32) -> bool {
        self.places.node_of[rank as usize] == self.places.mine()
    }

    /// The ranks of other nodes that this one sends to.
    pub(crate) fn away(&self) -> impl Iterator<Item = u32> {
        self.away.hops.iter().map(|hop| hop.rank)
    }

    /// The ranks of this node with targets.
    pub(crate) fn near(&self) -> impl Iterator<Item = u32> {
        self.near.hops.iter().map(|hop| hop.rank)
    }

    /// Sends a batch to a rank of another node, or gives it back if there is no room.
    pub(crate) fn send(&mut self, to: u32, slot: u32, bytes: Buf) -> Result<Option<Buf>> {
        let hop = self.away.hop(self.places.node_of[to as usize]).ok_or(Trouble::Odd(to))?;
        if bytes.len() + FRAME <= self.away.most / 4 {
            let is_taken = self.away.put(&self.way, hop, slot, self.places.rank, &bytes)?;
            return Ok((!is_taken).then_some(bytes));
        }
        match self.away.flush_one(&self.way, hop)? {
            true => self.way.send(self.away.hops[hop].rank, Kind::Batch, slot, bytes),
            false => Ok(Some(bytes)),
        }
    }

    /// Whether a rank of this node has been told whose its next batch is, and has not got that yet.
    pub(crate) fn has_announced_to(&self, rank: u32) -> bool {
        matches!(&self.in_hand, Some(InHand::Alone { to, is_announced: true, .. }) if *to == rank)
    }

    /// Sends all bundles that go to other nodes; false if there is no room.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        self.away.flush(&self.way)
    }

    /// This rank's own sources are at a barrier, or have finished, and all other nodes have heard it.
    pub(crate) fn close(&mut self, kind: Kind, body: &[u8]) -> Result<()> {
        self.own = Some(self.hear(kind, body).ok_or(Trouble::Odd(self.places.rank))?);
        Ok(())
    }

    /// One more of those from which this rank takes is at a barrier, or has finished, with these marks. `None` if there are no marks.
    fn hear(&mut self, kind: Kind, body: &[u8]) -> Option<State> {
        if kind == Kind::Barrier {
            let marks: Marks = Vec::get(&mut Reader::new(body))?;
            self.marks.extend(marks);
        }
        self.held += 1;
        Some(State::of(kind))
    }

    /// Whether this rank's own sources are at a barrier, or have finished, and its node does not know it yet: what they give now is after that.
    pub(crate) fn is_closing(&self) -> bool {
        match self.own {
            Some(State::Finished) => !self.is_over,
            own => own == Some(State::AtBarrier),
        }
    }

    /// Nothing is left to pass on.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Passes on what has come from other nodes; true if anything moved. `ranks`: slot -> the rank of its target.
    pub(crate) fn progress(&mut self, ranks: &[u32]) -> Result<bool> {
        let mut moved = false;
        while !self.is_over {
            if self.in_hand.is_some() {
                if !self.pass_on(ranks)? {
                    break;
                }
                self.in_hand = None;
            } else if self.held == self.takes_from() {
                if !self.near.flush(&self.way)? {
                    break;
                }
                self.in_hand = Some(self.mark_of_all());
            } else {
                let (feeders, fed) = (&self.feeders, &self.fed);
                let is_open = |from| feeders.binary_search(&from).is_ok_and(|at| fed[at] == State::Open);
                let next = match feeders.is_empty() {
                    true => None,
                    false => self.way.world.try_recv_among(self.way.edge, is_open)?,
                };
                let Some(message) = next else { break };
                self.in_hand = self.take(message, ranks)?;
            }
            moved = true;
        }
        Ok(moved)
    }

    /// What a message of another node's rank is.
    fn take(&mut self, message: Message, ranks: &[u32]) -> Result<Option<InHand>> {
        let Message { from, tag, body } = message;
        let odd = || Trouble::Odd(from);
        let (kind, slot) = self.way.tags.read(tag).ok_or_else(odd)?;
        Ok(match kind {
            Kind::Bundle => Some(InHand::Bundle { from, frames: Frames::of(body) }),
            Kind::ForAll => Some(InHand::ForAll { bytes: body, sent: 0 }),
            Kind::Batch => {
                let to = self.near_target(slot, ranks).ok_or_else(odd)?.1;
                Some(InHand::Alone { slot, origin: from, to, bytes: body, is_announced: false })
            }
            Kind::Barrier | Kind::End => {
                let at = self.feeders.binary_search(&from).map_err(|_| odd())?;
                self.fed[at] = self.hear(kind, &body).ok_or_else(odd)?;
                None
            }
            Kind::Origin | Kind::Watermark => return Err(odd()),
        })
    }

    /// The hop to the target of a slot, and its rank, if that is on this node.
    fn near_target(&self, slot: u32, ranks: &[u32]) -> Option<(usize, u32)> {
        let rank = *ranks.get(slot as usize)?;
        Some((self.near.hop(rank)?, rank))
    }

    /// What tells the ranks of this node that all from which this one takes are at a barrier, or have finished.
    fn mark_of_all(&mut self) -> InHand {
        let is_end = self.fed.iter().chain(&self.own).all(|state| *state == State::Finished);
        let mut marks = std::mem::take(&mut self.marks);
        marks.sort_by_key(|mark| mark.0);
        let mut body = Buf::zeroed(if is_end { 0 } else { marks.size() });
        // (They are as long as they say.)
        let _ = marks.put(&mut Writer::new(&mut body, 0));
        InHand::Mark { kind: if is_end { Kind::End } else { Kind::Barrier }, body, sent: 0 }
    }

    /// Passes on what is in hand; false if there is no room for all of it.
    fn pass_on(&mut self, ranks: &[u32]) -> Result<bool> {
        match self.in_hand.take() {
            None => {}
            Some(InHand::Bundle { from, mut frames }) => {
                while let Some(frame) = frames.peek().map_err(|()| Trouble::Odd(from))? {
                    let hop = self.near_target(frame.slot, ranks).ok_or(Trouble::Odd(from))?.0;
                    if !self.near.put(&self.way, hop, frame.slot, from, frames.bytes(&frame))? {
                        self.in_hand = Some(InHand::Bundle { from, frames });
                        return Ok(false);
                    }
                    frames.at = frame.bytes.end;
                }
            }
            Some(InHand::Alone { slot, origin, to, bytes, mut is_announced }) => {
                let hop = self.near.hop(to).ok_or(Trouble::Odd(origin))?;
                // What the same rank has sent before goes first.
                if !is_announced && self.near.flush_one(&self.way, hop)? {
                    is_announced = self.way.send(to, Kind::Origin, origin, Buf::empty())?.is_none();
                }
                let left =
                    if is_announced { self.way.send(to, Kind::Batch, slot, bytes)? } else { Some(bytes) };
                if let Some(bytes) = left {
                    self.in_hand = Some(InHand::Alone { slot, origin, to, bytes, is_announced });
                    return Ok(false);
                }
            }
            Some(InHand::ForAll { mut bytes, mut sent }) => {
                while let Some(hop) = self.near.hops.get(sent) {
                    let is_last = sent + 1 == self.near.hops.len();
                    let one = if is_last { std::mem::take(&mut bytes) } else { bytes.clone() };
                    if let Some(one) = self.way.send(hop.rank, Kind::ForAll, 0, one)? {
                        let bytes = if is_last { one } else { bytes };
                        self.in_hand = Some(InHand::ForAll { bytes, sent });
                        return Ok(false);
                    }
                    sent += 1;
                }
            }
            Some(InHand::Mark { kind, body, mut sent }) => {
                while let Some(hop) = self.near.hops.get(sent) {
                    if self.way.send(hop.rank, kind, 0, body.clone())?.is_some() {
                        self.in_hand = Some(InHand::Mark { kind, body, sent });
                        return Ok(false);
                    }
                    sent += 1;
                }
                self.is_over = kind == Kind::End;
                if !self.is_over {
                    self.held = 0;
                    for state in self.fed.iter_mut().chain(&mut self.own) {
                        state.reopen();
                        self.held += usize::from(*state != State::Open);
                    }
                }
            }
        }
        Ok(true)
    }
}
