//! The engine of a rank: routes messages onto wires, keeps what has arrived for whoever asks, and bounds both.
//!
//! # Flow control
//!
//! For each edge and peer the sender counts the bytes (plus [`MESSAGE_COST`] a message) that the receiver has not yet
//! *taken*. While that is below the window a message of any size may go; otherwise [`Engine::post`] hands it back as
//! full. The receiver returns credit when it has taken half a window. So what can pile up for one edge from one peer is
//! a window plus one message, however slow the receiver is, and edges cannot block one another.

use crate::buffer::Buf;
use crate::error::{NetError, Result};
use crate::mpi::Begun;
use crate::transport::{Arrival, Kind, Packet, Transport, TransportKind};
use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

/// What a message costs of the window beside its bytes, so that empty messages are bounded too.
pub const MESSAGE_COST: u64 = 64;

/// Default window of an edge to one peer.
pub const WINDOW: u64 = 4 << 20;

/// Number of an edge on the wire: the group's context in the upper half, the edge's place in it in the lower.
pub(crate) fn edge_number(context: u16, place: u16) -> u32 {
    u32::from(context) << 16 | u32::from(place)
}

/// The first edges of a context: that of collectives, that of events, and that of the collectives inside each node. The others are programs' own.
pub(crate) const FIRST_EDGES: u16 = 3;

/// Whether an edge is of collectives (or events).
pub(crate) fn is_of_collectives(edge: u32) -> bool {
    (edge as u16) < FIRST_EDGES
}

/// What to be sent is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The window bounds it.
    Stream,
    /// Of a collective, whose number is the upper half of the tag. If the receiver has been sent one of a later call already, the
    /// window does not stop it: a receiver takes calls in their order, so it may wait for this one while the later
    /// one fills the window.
    Call,
}

/// A message as a receiver gets it.
#[derive(Debug)]
pub struct Message {
    /// The rank that sent it.
    pub from: u32,
    /// The sender's word about it.
    pub tag: u64,
    /// Its bytes.
    pub body: Buf,
}

/// Counters of what a rank has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// Messages sent to other ranks.
    pub messages_sent: u64,
    /// Bytes in them.
    pub bytes_sent: u64,
    /// Messages received from other ranks.
    pub messages_received: u64,
    /// Bytes in them.
    pub bytes_received: u64,
}

#[derive(Default)]
struct Context {
    edges: Vec<EdgeState>,
    opened: usize,
}

#[derive(Default)]
struct EdgeState {
    /// Nobody here asks for messages any more: what still comes is dropped.
    closed: bool,
    arrived: VecDeque<Message>,
    /// peer -> latest call of which it was sent a message
    latest: Vec<u32>,
    /// peer -> bytes under way to it that it has not taken
    outstanding: Vec<u64>,
    /// peer -> bytes taken since credit was last returned to it
    taken: Vec<u64>,
}

pub(crate) struct Engine {
    rank: u32,
    size: u32,
    wires: Vec<Box<dyn Transport>>,
    /// rank -> index into `wires`
    route: Vec<Option<u8>>,
    contexts: Vec<Context>,
    /// Of all edges; all ranks have the same.
    window: u64,
    scratch: Vec<Arrival>,
    /// A message was posted or taken since the last [`Engine::progress`]: whoever does that in turn with it is not idle.
    used: Cell<bool>,
    pub(crate) traffic: Traffic,
}

/// The outcome of a post.
pub(crate) enum Posted {
    Done,
    Full(Buf),
}

fn cost(len: usize) -> u64 {
    len as u64 + MESSAGE_COST
}

/// Whether either moved anything, or the first thing that went wrong.
fn first_error(a: Result<bool>, b: Result<bool>) -> Result<bool> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok(a || b),
        (Err(e), _) | (Ok(_), Err(e)) => Err(e),
    }
}

impl Engine {
    pub(crate) fn new(rank: u32, size: u32, wires: Vec<(Box<dyn Transport>, Vec<u32>)>) -> Engine {
        let mut route = vec![None; size as usize];
        let mut list = Vec::new();
        for (wire, peers) in wires {
            for p in peers {
                route[p as usize] = Some(list.len() as u8);
            }
            list.push(wire);
        }
        Engine {
            rank,
            size,
            wires: list,
            route,
            contexts: Vec::new(),
            window: WINDOW,
            scratch: Vec::new(),
            used: Cell::new(false),
            traffic: Traffic::default(),
        }
    }

    /// The next edge of a context: every rank of it opens them in the same order, so numbers agree without a word.
    pub(crate) fn open_edge(&mut self, context: u16) -> Result<u32> {
        let state = self.context(context);
        let place = u16::try_from(state.opened)
            .map_err(|_| {
                NetError::Usage(
                    "more than 65536 edges of one world\n  help: use operators again (`reset`) instead of making new ones in a loop, or make \
                     another world of the same ranks"
                        .into(),
                )
            })?;
        state.opened += 1;
        let number = edge_number(context, place);
        self.edge_at(number);
        Ok(number)
    }

    /// This rank neither sends nor takes anything on an edge any more. (Its number is not given again: other ranks may not be as far.)
    pub(crate) fn close_edge(&mut self, edge: u32) {
        if let Ok(state) = self.opened(edge) {
            *state = EdgeState { closed: true, ..EdgeState::default() };
        }
    }

    /// Another window for all edges.
    pub(crate) fn set_window(&mut self, bytes: u64) {
        self.window = bytes;
    }

    fn context(&mut self, context: u16) -> &mut Context {
        let at = usize::from(context);
        if self.contexts.len() <= at {
            self.contexts.resize_with(at + 1, Context::default);
        }
        &mut self.contexts[at]
    }

    fn edge_at(&mut self, number: u32) -> &mut EdgeState {
        let size = self.size as usize;
        let place = (number & 0xffff) as usize;
        let edges = &mut self.context((number >> 16) as u16).edges;
        if edges.len() <= place {
            edges.resize_with(place + 1, EdgeState::default);
        }
        let edge = &mut edges[place];
        if edge.outstanding.is_empty() && !edge.closed {
            edge.outstanding = vec![0; size];
            edge.taken = vec![0; size];
            edge.latest = vec![0; size];
        }
        edge
    }

    /// The state of an edge that this rank has opened.
    fn opened(&mut self, number: u32) -> Result<&mut EdgeState> {
        let place = (number & 0xffff) as usize;
        match self.contexts.get_mut((number >> 16) as usize) {
            Some(context) if place < context.opened && !context.edges[place].closed => {
                Ok(&mut context.edges[place])
            }
            _ => Err(NetError::Usage(format!("edge {number} was never opened, or is closed"))),
        }
    }

    pub(crate) fn kind_to(&self, peer: u32) -> TransportKind {
        match self.route.get(peer as usize).copied().flatten() {
            Some(wire) => self.wires[wire as usize].kind(),
            None => TransportKind::Myself,
        }
    }

    pub(crate) fn process_of(&self, peer: u32) -> Option<u32> {
        self.wires[usize::from((*self.route.get(peer as usize)?)?)].process_of(peer)
    }

    /// Wakes a rank of this node if it sleeps.
    pub(crate) fn nudge(&self, peer: u32) {
        // What this rank has shown may be what another operation of it waits for.
        self.used.set(true);
        if let Some(wire) = self.route.get(peer as usize).copied().flatten() {
            self.wires[usize::from(wire)].nudge(peer);
        }
    }

    /// MPI's own broadcasts, if a wire has them.
    pub(crate) fn begun(&mut self) -> Option<&mut Begun<Buf>> {
        self.wires.iter_mut().find_map(|w| w.begun())
    }

    /// True if some wire cannot wake a sleeper.
    pub(crate) fn polled(&self) -> bool {
        self.wires.iter().any(|w| w.wait_fd().is_none())
    }

    pub(crate) fn post(&mut self, edge: u32, to: u32, tag: u64, body: Buf, class: Class) -> Result<Posted> {
        if to >= self.size {
            return Err(NetError::Usage(format!("no rank {to} in a world of {}", self.size)));
        }
        let cost = cost(body.len());
        let (rank, route, window) = (self.rank, self.route[to as usize], self.window);
        let state = self.opened(edge)?;
        let outstanding = &mut state.outstanding[to as usize];
        if class == Class::Call {
            let (call, latest) = ((tag >> 32) as u32, &mut state.latest[to as usize]);
            let older = (call.wrapping_sub(*latest) as i32) < 0;
            if !older && *outstanding >= window {
                return Ok(Posted::Full(body));
            }
            if !older {
                *latest = call;
            }
        } else if *outstanding >= window {
            return Ok(Posted::Full(body));
        }
        *outstanding += cost;
        match route {
            None => state.arrived.push_back(Message { from: rank, tag, body }),
            Some(wire) => {
                self.traffic.messages_sent += 1;
                self.traffic.bytes_sent += body.len() as u64;
                self.wires[wire as usize].post(to, Packet { kind: Kind::Data, edge, tag, body })?;
            }
        }
        self.used.set(true);
        Ok(Posted::Done)
    }

    /// Moves what can be moved; true if anything did, or was posted or taken before.
    pub(crate) fn progress(&mut self) -> Result<bool> {
        let mut outcome = Ok(self.used.take());
        let mut scratch = std::mem::take(&mut self.scratch);
        for wire in &mut self.wires {
            outcome = first_error(outcome, wire.progress(&mut scratch));
        }
        // What has come is kept even if a wire failed, on which it may not have come at all.
        for arrival in scratch.drain(..) {
            outcome = first_error(outcome, self.accept(arrival).map(|()| true));
        }
        self.scratch = scratch;
        outcome
    }

    fn accept(&mut self, Arrival { from, packet }: Arrival) -> Result<()> {
        let broken = |what: String| NetError::Protocol { peer: format!("rank {from}"), what };
        if from >= self.size {
            return Err(broken(format!("a message of a rank outside this world of {}", self.size)));
        }
        let Packet { kind, edge, tag, body } = packet;
        // (It may be one that this rank has not opened yet.)
        if self.edge_at(edge).closed {
            return Ok(());
        }
        match kind {
            Kind::Data => {
                self.traffic.messages_received += 1;
                self.traffic.bytes_received += body.len() as u64;
                self.edge_at(edge).arrived.push_back(Message { from, tag, body });
            }
            Kind::Credit => {
                let back = body.cast::<u64>().first().copied().unwrap_or(0);
                let outstanding = &mut self.edge_at(edge).outstanding[from as usize];
                *outstanding = outstanding.checked_sub(back).ok_or_else(|| {
                    broken(format!("credit of {back} bytes on edge {edge}, more than was sent"))
                })?;
            }
        }
        Ok(())
    }

    /// Takes the oldest message of the edge for which `wanted` is true.
    pub(crate) fn take(&mut self, edge: u32, wanted: impl Fn(&Message) -> bool) -> Result<Option<Message>> {
        let state = self.opened(edge)?;
        let Some(at) = state.arrived.iter().position(wanted) else { return Ok(None) };
        let Some(message) = state.arrived.remove(at) else { return Ok(None) };
        let from = message.from as usize;
        let (cost, window) = (cost(message.body.len()), self.window);
        let Some(wire) = self.route[from] else {
            self.opened(edge)?.outstanding[from] -= cost;
            self.used.set(true);
            return Ok(Some(message));
        };
        let taken = &mut self.opened(edge)?.taken[from];
        *taken += cost;
        if *taken >= window / 2 {
            let back = std::mem::take(taken);
            let body = Buf::from_slice(&back.to_le_bytes());
            self.wires[wire as usize].post(from as u32, Packet { kind: Kind::Credit, edge, tag: 0, body })?;
        }
        self.used.set(true);
        Ok(Some(message))
    }

    /// The tag of the oldest message of the edge from `from`.
    pub(crate) fn first_tag(&self, edge: u32, from: u32) -> Option<u64> {
        let edges = &self.contexts.get((edge >> 16) as usize)?.edges;
        edges.get((edge & 0xffff) as usize)?.arrived.iter().find(|m| m.from == from).map(|m| m.tag)
    }

    /// A message of a group's collectives, or of those inside its nodes, that nobody has taken.
    pub(crate) fn stray(&self) -> Option<&Message> {
        let of_calls = self.contexts.iter().flat_map(|c| [c.edges.first(), c.edges.get(2)]).flatten();
        of_calls.into_iter().find_map(|e| e.arrived.front())
    }

    /// True if everything that was posted has left this rank.
    pub(crate) fn idle(&self) -> bool {
        self.wires.iter().all(|w| w.idle())
    }

    /// From now on whoever has something for this rank wakes it. Look for work once more, then [`Engine::sleep`].
    pub(crate) fn arm(&mut self) {
        self.wires.iter_mut().for_each(|w| w.arm());
    }

    /// Sleeps until a wire has something to do, `wake` rings, or the time is over. Returns whether there was work at the
    /// last look before the sleep, and whether a wire woke it: then another rank has done something.
    pub(crate) fn sleep(
        &mut self,
        wake: Option<&crate::transport::Bell>,
        limit: Duration,
    ) -> Result<(bool, bool)> {
        self.arm();
        let moved = self.progress()?;
        let mut woken = false;
        if !moved {
            let mut fds: Vec<_> = self
                .wires
                .iter()
                .filter_map(|w| w.wait_fd())
                .chain(wake.map(|b| b.fd()))
                .map(|fd| rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN))
                .collect();
            let limit = rustix::event::Timespec {
                tv_sec: limit.as_secs() as i64,
                tv_nsec: limit.subsec_nanos() as i64,
            };
            let wires = fds.len() - usize::from(wake.is_some());
            match rustix::event::poll(&mut fds, Some(&limit)) {
                Ok(_) => woken = fds[..wires].iter().any(|fd| !fd.revents().is_empty()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(NetError::os("waiting for messages")(e.into())),
            }
        }
        self.wires.iter_mut().for_each(|w| w.disarm());
        if let Some(bell) = wake {
            bell.clear();
        }
        Ok((moved, woken))
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        for wire in &mut self.wires {
            wire.close()?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine(rank {} of {}, {} wires)", self.rank, self.size, self.wires.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::BorrowedFd;

    /// A wire on which these things come, one a call.
    struct Script(VecDeque<Result<Vec<Arrival>>>);

    impl Transport for Script {
        fn kind(&self) -> TransportKind {
            TransportKind::Local
        }
        fn post(&mut self, _: u32, _: Packet) -> Result<()> {
            Ok(())
        }
        fn progress(&mut self, inbox: &mut Vec<Arrival>) -> Result<bool> {
            let came = self.0.pop_front().unwrap_or(Ok(Vec::new()))?;
            let moved = !came.is_empty();
            inbox.extend(came);
            Ok(moved)
        }
        fn idle(&self) -> bool {
            true
        }
        fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    fn arrival(from: u32, edge: u32, tag: u64) -> Arrival {
        Arrival { from, packet: Packet { kind: Kind::Data, edge, tag, body: Buf::empty() } }
    }

    fn engine(wires: Vec<Vec<Result<Vec<Arrival>>>>) -> Engine {
        let size = wires.len() as u32 + 1;
        let wires = wires.into_iter().zip(1..).map(|(script, peer)| -> (Box<dyn Transport>, _) {
            (Box::new(Script(script.into())), vec![peer])
        });
        Engine::new(0, size, wires.collect())
    }

    fn tags(engine: &mut Engine, edge: u32) -> Vec<u64> {
        std::iter::from_fn(|| engine.take(edge, |_| true).unwrap().map(|m| m.tag)).collect()
    }

    #[test]
    fn what_came_on_one_wire_survives_the_failure_of_another() {
        let lost = || Err(NetError::Lost { peer: "rank 2".into(), what: "closed".into() });
        let mut engine =
            engine(vec![vec![Ok(vec![arrival(1, 0, 10)])], vec![lost()], vec![Ok(vec![arrival(3, 0, 30)])]]);
        let edge = engine.open_edge(0).unwrap();
        assert_eq!(engine.progress().unwrap_err().lost_rank(), Some(2));
        assert_eq!(tags(&mut engine, edge), [10, 30]);
        assert!(engine.progress().unwrap(), "messages were taken");
        assert!(!engine.progress().unwrap());
    }

    #[test]
    fn a_peer_may_be_far_ahead_and_what_comes_on_a_closed_edge_is_dropped() {
        let credit = |edge| {
            let packet =
                Packet { kind: Kind::Credit, edge, tag: 0, body: Buf::from_slice(&1u64.to_le_bytes()) };
            Arrival { from: 1, packet }
        };
        let script = vec![Ok(vec![arrival(1, 5000, 7)]), Ok(vec![arrival(1, 0, 1), credit(0)])];
        let mut engine = engine(vec![script]);
        let first = engine.open_edge(0).unwrap();
        engine.progress().unwrap();
        engine.close_edge(first);
        engine.progress().unwrap();
        assert!(
            engine.take(first, |_| true).is_err()
                && engine.post(first, 1, 0, Buf::empty(), Class::Stream).is_err()
        );
        let later = (0..5000).map(|_| engine.open_edge(0).unwrap()).last().unwrap();
        assert_eq!((later, tags(&mut engine, later)), (5000, vec![7]));
    }

    #[test]
    fn a_message_that_is_refused_takes_no_other_with_it() {
        let foreign = arrival(9, 0, 0);
        let mut engine = engine(vec![vec![Ok(vec![arrival(1, 0, 1), foreign, arrival(1, 0, 2)])]]);
        let edge = engine.open_edge(0).unwrap();
        assert!(matches!(engine.progress(), Err(NetError::Protocol { .. })));
        assert_eq!(tags(&mut engine, edge), [1, 2]);
        assert!(engine.progress().unwrap(), "told once; messages were taken");
        assert!(!engine.progress().unwrap());
    }
}
