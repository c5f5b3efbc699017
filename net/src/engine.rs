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
use crate::transport::{Arrival, Kind, Packet, Transport, TransportKind};
use std::collections::VecDeque;
use std::time::Duration;

/// What a message costs of the window beside its bytes, so that empty messages are bounded too.
pub const MESSAGE_COST: u64 = 64;

/// Default window of an edge to one peer.
pub const WINDOW: u64 = 4 << 20;

/// Edges are numbered densely and by all ranks alike; a peer may be this many ahead of us, not more.
const EDGE_AHEAD: usize = 1 << 16;

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
struct EdgeState {
    arrived: VecDeque<Message>,
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
    edges: Vec<EdgeState>,
    opened: usize,
    scratch: Vec<Arrival>,
    /// A message was posted or taken since the last [`Engine::progress`]: whoever does that in turn with it is not idle.
    used: bool,
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
            edges: Vec::new(),
            opened: 0,
            scratch: Vec::new(),
            used: false,
            traffic: Traffic::default(),
        }
    }

    /// The next edge: every rank opens edges in the same order, so numbers agree without a word.
    pub(crate) fn open_edge(&mut self) -> u32 {
        self.opened += 1;
        self.edge_at(self.opened - 1);
        self.opened as u32 - 1
    }

    fn edge_at(&mut self, id: usize) -> &mut EdgeState {
        if self.edges.len() <= id {
            self.edges.resize_with(id + 1, EdgeState::default);
        }
        let edge = &mut self.edges[id];
        if edge.outstanding.is_empty() {
            edge.outstanding = vec![0; self.size as usize];
            edge.taken = vec![0; self.size as usize];
        }
        edge
    }

    pub(crate) fn kind_to(&self, peer: u32) -> TransportKind {
        match self.route.get(peer as usize).copied().flatten() {
            Some(wire) => self.wires[wire as usize].kind(),
            None => TransportKind::Myself,
        }
    }

    /// True if some wire cannot wake a sleeper.
    pub(crate) fn polled(&self) -> bool {
        self.wires.iter().any(|w| w.wait_fd().is_none())
    }

    pub(crate) fn post(&mut self, edge: u32, to: u32, tag: u64, body: Buf) -> Result<Posted> {
        if to >= self.size {
            return Err(NetError::Usage(format!("no rank {to} in a world of {}", self.size)));
        }
        if edge as usize >= self.opened {
            return Err(NetError::Usage(format!("edge {edge} was never opened")));
        }
        let cost = cost(body.len());
        let state = &mut self.edges[edge as usize];
        let outstanding = &mut state.outstanding[to as usize];
        if *outstanding >= WINDOW {
            return Ok(Posted::Full(body));
        }
        *outstanding += cost;
        self.used = true;
        match self.route[to as usize] {
            None => state.arrived.push_back(Message { from: to, tag, body }),
            Some(wire) => {
                self.traffic.messages_sent += 1;
                self.traffic.bytes_sent += body.len() as u64;
                self.wires[wire as usize].post(to, Packet { kind: Kind::Data, edge, tag, body })?;
            }
        }
        Ok(Posted::Done)
    }

    /// Moves what can be moved; true if anything did, or was posted or taken before.
    pub(crate) fn progress(&mut self) -> Result<bool> {
        let mut outcome = Ok(std::mem::take(&mut self.used));
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
        if edge as usize > self.opened + EDGE_AHEAD {
            return Err(broken(format!("edge {edge}, but this rank has opened {} only", self.opened)));
        }
        let state = self.edge_at(edge as usize);
        match kind {
            Kind::Data => {
                self.traffic.messages_received += 1;
                self.traffic.bytes_received += body.len() as u64;
                self.edges[edge as usize].arrived.push_back(Message { from, tag, body });
            }
            Kind::Credit => {
                let back = body.cast::<u64>().first().copied().unwrap_or(0);
                let outstanding = &mut state.outstanding[from as usize];
                *outstanding = outstanding.checked_sub(back).ok_or_else(|| {
                    broken(format!("credit of {back} bytes on edge {edge}, more than was sent"))
                })?;
            }
        }
        Ok(())
    }

    /// Takes the oldest message of the edge, or the oldest one from `from`.
    pub(crate) fn take(&mut self, edge: u32, from: Option<u32>) -> Result<Option<Message>> {
        let Some(state) = self.edges.get_mut(edge as usize) else {
            return Err(NetError::Usage(format!("edge {edge} was never opened")));
        };
        let message = match from {
            None => state.arrived.pop_front(),
            Some(from) => match state.arrived.iter().position(|m| m.from == from) {
                Some(at) => state.arrived.remove(at),
                None => None,
            },
        };
        let Some(message) = message else { return Ok(None) };
        self.used = true;
        let from = message.from as usize;
        let cost = cost(message.body.len());
        match self.route[from] {
            None => state.outstanding[from] -= cost,
            Some(wire) => {
                state.taken[from] += cost;
                if state.taken[from] >= WINDOW / 2 {
                    let back = std::mem::take(&mut state.taken[from]);
                    let body = Buf::from_slice(&back.to_le_bytes());
                    self.wires[wire as usize]
                        .post(from as u32, Packet { kind: Kind::Credit, edge, tag: 0, body })?;
                }
            }
        }
        Ok(Some(message))
    }

    /// True if everything that was posted has left this rank.
    pub(crate) fn idle(&self) -> bool {
        self.wires.iter().all(|w| w.idle())
    }

    /// Sleeps until a wire has something to do, `wake` rings, or the time is over. Returns true if there was work at the
    /// last look before the sleep.
    pub(crate) fn sleep(&mut self, wake: Option<&crate::transport::Bell>, limit: Duration) -> Result<bool> {
        self.wires.iter_mut().for_each(|w| w.arm());
        let moved = self.progress()?;
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
            match rustix::event::poll(&mut fds, Some(&limit)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(NetError::os("waiting for messages")(e.into())),
            }
        }
        self.wires.iter_mut().for_each(|w| w.disarm());
        if let Some(bell) = wake {
            bell.clear();
        }
        Ok(moved)
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
        std::iter::from_fn(|| engine.take(edge, None).unwrap().map(|m| m.tag)).collect()
    }

    #[test]
    fn what_came_on_one_wire_survives_the_failure_of_another() {
        let lost = || Err(NetError::Lost { peer: "rank 2".into(), what: "closed".into() });
        let mut engine =
            engine(vec![vec![Ok(vec![arrival(1, 0, 10)])], vec![lost()], vec![Ok(vec![arrival(3, 0, 30)])]]);
        let edge = engine.open_edge();
        assert_eq!(engine.progress().unwrap_err().lost_rank(), Some(2));
        assert_eq!(tags(&mut engine, edge), [10, 30]);
        assert!(engine.progress().unwrap(), "messages were taken");
        assert!(!engine.progress().unwrap());
    }

    #[test]
    fn a_message_that_is_refused_takes_no_other_with_it() {
        let foreign = arrival(9, 0, 0);
        let mut engine = engine(vec![vec![Ok(vec![arrival(1, 0, 1), foreign, arrival(1, 0, 2)])]]);
        let edge = engine.open_edge();
        assert!(matches!(engine.progress(), Err(NetError::Protocol { .. })));
        assert_eq!(tags(&mut engine, edge), [1, 2]);
        assert!(engine.progress().unwrap(), "told once; messages were taken");
        assert!(!engine.progress().unwrap());
    }
}
