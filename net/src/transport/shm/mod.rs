//! Shared memory between the ranks of one node.
//!
//! Every rank owns one *segment*: anonymous memory (`memfd`) with one ring for each rank of its node, into which that
//! rank writes and which only the owner reads ([`ring`] has the protocol). A peer opens the segment and the owner's
//! doorbell through `/proc/PID/fd`, with the numbers that came through the authenticated job master, and checks a token
//! in its header. Nothing has a name in any file system: when the processes end, however they end, nothing is left.

pub mod ring;
mod segment;

use super::bell::{Bell, Ringer, fall_asleep};
use super::frame::{self, Header};
use super::{Arrival, Packet, Transport, TransportKind};
use crate::buffer::Buf;
use crate::error::{NetError, Result};
use ring::{Consumer, Producer};
use segment::Segment;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a rank tells its node-mates so that they can open its segment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ShmCard {
    /// Number of the segment's memfd in the owner's process.
    pub segment_fd: i32,
    /// Number of the doorbell's reading end in the owner's process.
    pub bell_fd: i32,
    /// Rings in the segment (ranks on the node at most).
    pub rings: u32,
    /// Bytes of each ring.
    pub ring_bytes: u32,
    /// Proof that the right segment was opened.
    pub token: [u8; 16],
}

/// A segment made before it is known who else is on the node.
pub struct Own {
    segment: Segment,
    bell: Bell,
    card: ShmCard,
}

/// Ring size for so many ranks: larger rings move large messages faster, but a node has `ranks` squared of them.
/// (Pages that are never used are never allocated.)
pub fn ring_bytes(ranks: u32) -> u32 {
    match ranks {
        0..=4 => 512 << 10,
        5..=8 => 256 << 10,
        9..=16 => 128 << 10,
        17..=64 => 64 << 10,
        _ => 32 << 10,
    }
}

impl Own {
    /// Makes this rank's segment for a node of at most `rings` ranks.
    pub fn new(rings: u32) -> Result<Own> {
        Own::with_ring_bytes(rings, ring_bytes(rings))
    }

    fn with_ring_bytes(rings: u32, ring_bytes: u32) -> Result<Own> {
        let bell = Bell::new()?;
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(|e| NetError::Os {
            what: "asking for randomness".into(),
            source: std::io::Error::other(e.to_string()),
        })?;
        let segment = Segment::create(rings, ring_bytes, &token)?;
        let card = ShmCard {
            segment_fd: segment.fd().as_raw_fd(),
            bell_fd: bell.fd().as_raw_fd(),
            rings,
            ring_bytes,
            token,
        };
        Ok(Own { segment, bell, card })
    }

    /// What the others need.
    pub fn card(&self) -> &ShmCard {
        &self.card
    }
}

struct Peer {
    rank: u32,
    pid: u32,
    segment: Segment,
    ringer: Ringer,
    // Outgoing: what does not fit the ring yet.
    out: Producer,
    queue: VecDeque<Packet>,
    head: Option<[u8; frame::LEN]>,
    sent: usize,
    seq_out: u32,
    // Incoming: the message being put together.
    inc: Consumer,
    part: Option<(Header, Buf, usize)>,
    seq_in: u32,
}

/// This rank's wire to its node-mates.
pub struct Shm {
    rank: u32,
    epoch: u32,
    own: Segment,
    bell: Bell,
    peers: Vec<Peer>,
    /// rank -> index into `peers`
    index: Vec<Option<u32>>,
    unsent: usize,
}

impl Shm {
    /// Opens the segments of the node-mates. `mates` is the same sorted list on every rank of the node and holds this
    /// rank too: `(rank, pid, card)`.
    pub fn connect(own: Own, rank: u32, size: u32, epoch: u32, mates: &[(u32, u32, ShmCard)]) -> Result<Shm> {
        let slot = |r: u32| mates.iter().position(|m| m.0 == r);
        let Some(my_slot) = slot(rank) else {
            return Err(NetError::Internal(format!("rank {rank} is not on its own node's list")));
        };
        if mates.iter().any(|m| (m.2.rings as usize) < mates.len()) {
            return Err(NetError::Internal(
                "a shared segment has fewer rings than its node has ranks".into(),
            ));
        }
        let mut peers = Vec::with_capacity(mates.len());
        let mut index = vec![None; size as usize];
        for (their_slot, (r, pid, card)) in mates.iter().enumerate().filter(|(_, m)| m.0 != rank) {
            let open = |e| cannot_open(*r, *pid, e);
            let segment = Segment::open(*pid, card).map_err(open)?;
            let ringer = Ringer::open(*pid, card.bell_fd).map_err(open)?;
            index[*r as usize] = Some(peers.len() as u32);
            peers.push(Peer {
                rank: *r,
                pid: *pid,
                out: segment.producer(my_slot as u32),
                inc: own.segment.consumer(their_slot as u32),
                segment,
                ringer,
                queue: VecDeque::new(),
                head: None,
                sent: 0,
                seq_out: 0,
                part: None,
                seq_in: 0,
            });
        }
        Ok(Shm { rank, epoch, own: own.segment, bell: own.bell, peers, index, unsent: 0 })
    }
}

/// True if the process has ended, or is ending: it has no memory any more. (A process that nobody has waited for yet is
/// still there, but its descriptors are not, and whoever is not root is told that he may not look.)
fn has_ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/statm")).map_or(true, |pages| pages.starts_with("0 "))
}

/// Why the memory or the doorbell of `rank` cannot be opened. If it has died meanwhile, that is what is told: whoever
/// follows it down should not be blamed, nor the settings.
fn cannot_open(rank: u32, pid: u32, e: std::io::Error) -> NetError {
    use rustix::io::Errno;
    let what = format!("cannot open the shared memory of rank {rank} (pid {pid}) through /proc: {e}");
    match Errno::from_io_error(&e) {
        Some(Errno::NOENT | Errno::SRCH | Errno::NXIO) => {
            NetError::Lost { peer: format!("rank {rank}"), what }
        }
        Some(Errno::ACCESS | Errno::PERM) if has_ended(pid) => {
            NetError::Lost { peer: format!("rank {rank}"), what }
        }
        Some(Errno::ACCESS | Errno::PERM) => NetError::Config {
            what,
            help:
                "if /proc is hidden between processes here, run with AEOLIAN_TRANSPORT=tcp (--transport tcp)"
                    .into(),
        },
        Some(_) => NetError::Os { what, source: e },
        None => NetError::Protocol { peer: format!("rank {rank} (shared memory)"), what },
    }
}

impl Peer {
    /// Writes as much of the queue as the ring takes. Returns (anything moved, messages completed).
    fn push(&mut self, epoch: u32) -> (bool, usize) {
        let (mut moved, mut done) = (false, 0);
        while let Some(packet) = self.queue.front() {
            if self.head.is_none() {
                let header = Header {
                    epoch,
                    seq: self.seq_out,
                    edge: packet.edge,
                    kind: packet.kind,
                    tag: packet.tag,
                    len: packet.body.len() as u64,
                };
                self.head = Some(header.encode());
                self.sent = 0;
            }
            let head = self.head.as_ref().map_or(&[][..], |h| &h[..]);
            let total = frame::LEN + packet.body.len();
            while self.sent < total {
                let wrote = if self.sent < frame::LEN {
                    self.out.write2(&head[self.sent..], &packet.body)
                } else {
                    self.out.write2(&[], &packet.body[self.sent - frame::LEN..])
                };
                if wrote == 0 {
                    return (moved, done);
                }
                self.sent += wrote;
                moved = true;
                self.ringer.ring_if_asleep(self.segment.asleep());
            }
            self.queue.pop_front();
            self.head = None;
            self.seq_out = self.seq_out.wrapping_add(1);
            done += 1;
        }
        self.out.satisfied();
        (moved, done)
    }

    fn pull(&mut self, rank: u32, epoch: u32, inbox: &mut Vec<Arrival>) -> Result<bool> {
        let mut moved = false;
        loop {
            if self.part.is_none() {
                let mut head = [0; frame::LEN];
                if !self.inc.read_exact(&mut head) {
                    break;
                }
                moved = true;
                let header =
                    Header::decode(&head, epoch, self.seq_in).map_err(|what| NetError::Protocol {
                        peer: format!("rank {} (shared memory, read by rank {rank})", self.rank),
                        what,
                    })?;
                self.seq_in = self.seq_in.wrapping_add(1);
                let body = frame::room_for(&header, self.rank)?;
                self.part = Some((header, body, 0));
            }
            let Some((_, body, have)) = &mut self.part else { break };
            while *have < body.len() {
                let got = self.inc.read(&mut body[*have..]);
                if got == 0 {
                    break;
                }
                *have += got;
                moved = true;
                if self.inc.writer_waits() {
                    self.ringer.ring_if_asleep(self.segment.asleep());
                }
            }
            if *have < body.len() {
                break;
            }
            if let Some((h, body, _)) = self.part.take() {
                inbox.push(Arrival {
                    from: self.rank,
                    packet: Packet { kind: h.kind, edge: h.edge, tag: h.tag, body },
                });
            }
        }
        if moved && self.inc.writer_waits() {
            self.ringer.ring_if_asleep(self.segment.asleep());
        }
        Ok(moved)
    }
}

impl Shm {
    fn peer(&self, rank: u32) -> Option<&Peer> {
        self.index.get(rank as usize).copied().flatten().map(|at| &self.peers[at as usize])
    }
}

impl Transport for Shm {
    fn kind(&self) -> TransportKind {
        TransportKind::Shm
    }

    fn post(&mut self, peer: u32, packet: Packet) -> Result<()> {
        let Some(at) = self.index.get(peer as usize).copied().flatten() else {
            return Err(NetError::Internal(format!("rank {peer} is not on the node of rank {}", self.rank)));
        };
        let peer = &mut self.peers[at as usize];
        peer.queue.push_back(packet);
        self.unsent += 1;
        if peer.queue.len() == 1 {
            self.unsent -= peer.push(self.epoch).1;
        }
        Ok(())
    }

    fn progress(&mut self, inbox: &mut Vec<Arrival>) -> Result<bool> {
        let mut moved = false;
        for peer in &mut self.peers {
            moved |= peer.pull(self.rank, self.epoch, inbox)?;
            if !peer.queue.is_empty() {
                let (m, done) = peer.push(self.epoch);
                moved |= m;
                self.unsent -= done;
            }
        }
        Ok(moved)
    }

    fn idle(&self) -> bool {
        self.unsent == 0
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.fd())
    }

    fn process_of(&self, peer: u32) -> Option<u32> {
        self.peer(peer).map(|p| p.pid)
    }

    fn nudge(&self, peer: u32) {
        if let Some(peer) = self.peer(peer) {
            peer.ringer.ring_after_fence(peer.segment.asleep());
        }
    }

    fn arm(&mut self) {
        fall_asleep(self.own.asleep());
    }

    fn disarm(&mut self) {
        self.own.asleep().store(0, std::sync::atomic::Ordering::Relaxed);
        self.bell.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ranks: u32) -> Vec<Shm> {
        wires(ranks, ring_bytes(ranks))
    }

    fn wires(ranks: u32, ring_bytes: u32) -> Vec<Shm> {
        let pid = std::process::id();
        let owns: Vec<Own> = (0..ranks).map(|_| Own::with_ring_bytes(ranks, ring_bytes).unwrap()).collect();
        let mates: Vec<_> = owns.iter().zip(0..).map(|(o, r)| (r, pid, o.card().clone())).collect();
        owns.into_iter().zip(0..).map(|(o, r)| Shm::connect(o, r, ranks, 5, &mates).unwrap()).collect()
    }

    #[test]
    fn messages_of_all_sizes_arrive_in_order() {
        let mut wires = pair(2);
        let (mut b, mut a) = (wires.pop().unwrap(), wires.pop().unwrap());
        let sizes = [0usize, 1, 31, 32, 33, 100_000, 512 << 10, (512 << 10) + 1, 3 << 20, 0, 7];
        for (i, &n) in sizes.iter().enumerate() {
            let body = Buf::from_slice(&(0..n).map(|x| (x * 7 + i) as u8).collect::<Vec<_>>());
            a.post(1, Packet { kind: super::super::Kind::Data, edge: 4, tag: i as u64, body }).unwrap();
        }
        let mut inbox = Vec::new();
        let mut rounds = 0;
        while inbox.len() < sizes.len() {
            a.progress(&mut Vec::new()).unwrap();
            b.progress(&mut inbox).unwrap();
            rounds += 1;
            assert!(rounds < 10_000);
        }
        assert!(a.idle());
        for (i, m) in inbox.iter().enumerate() {
            assert_eq!((m.from, m.packet.edge, m.packet.tag), (0, 4, i as u64));
            assert_eq!(m.packet.body.len(), sizes[i]);
            assert!(m.packet.body.iter().enumerate().all(|(x, &v)| v == (x * 7 + i) as u8));
        }
    }

    #[test]
    fn a_length_that_no_memory_holds_is_an_error_of_its_sender() {
        let mut wires = pair(2);
        let (mut b, mut a) = (wires.pop().unwrap(), wires.pop().unwrap());
        let header = Header {
            epoch: 5,
            seq: 0,
            edge: 0,
            kind: super::super::Kind::Data,
            tag: 0,
            len: frame::MAX_BODY,
        };
        assert_eq!(a.peers[0].out.write2(&header.encode(), &[]), frame::LEN);
        let err = b.progress(&mut Vec::new()).unwrap_err().to_string();
        assert!(err.contains("bytes of rank 0"), "{err}");
    }

    #[test]
    fn another_epoch_is_refused_before_its_message_is_read() {
        let mut wires = pair(2);
        wires[0].epoch = 6;
        let (mut b, mut a) = (wires.pop().unwrap(), wires.pop().unwrap());
        a.post(1, Packet { kind: super::super::Kind::Data, edge: 0, tag: 0, body: Buf::empty() }).unwrap();
        let err = b.progress(&mut Vec::new()).unwrap_err().to_string();
        assert!(err.contains("epoch"), "{err}");
    }

    /// Two ranks that sleep whenever there is nothing to do, through rings that every message fills: a ring that is not
    /// rung, by the reader for a starved writer or by the writer for a sleeping reader, costs a whole second.
    #[test]
    fn nobody_sleeps_through_a_message_or_through_room_for_one() {
        use crate::engine::{Class, Engine, Posted};
        use std::time::{Duration, Instant};
        const ROUNDS: usize = 3000;
        // Shorter than a ring, longer than one, and empty.
        let len = |i: usize| [0, 1, 990, 1024, 5000, 20_000][i % 6];
        let start = Instant::now();
        let threads: Vec<_> = wires(2, 1 << 10)
            .into_iter()
            .zip(0u32..)
            .map(|(wire, rank)| {
                std::thread::spawn(move || {
                    let other = 1 - rank;
                    let mut engine = Engine::new(rank, 2, vec![(Box::new(wire), vec![other])]);
                    let edge = engine.open_edge(0).unwrap();
                    let (mut sent, mut got, mut slept) = (0, 0, 0);
                    while sent < ROUNDS || got < ROUNDS || !engine.idle() {
                        let mut moved = false;
                        // Never far ahead, so that both wait for each other all the time.
                        if sent < ROUNDS && sent <= got + 2 {
                            let body = Buf::from_slice(&vec![sent as u8; len(sent)]);
                            assert!(matches!(
                                engine.post(edge, other, sent as u64, body, Class::Stream).unwrap(),
                                Posted::Done
                            ));
                            (sent, moved) = (sent + 1, true);
                        }
                        moved |= engine.progress().unwrap();
                        while let Some(m) = engine.take(edge, |m| m.from == other).unwrap() {
                            assert_eq!((m.tag, m.body.len()), (got as u64, len(got)));
                            assert!(m.body.iter().all(|&v| v == got as u8));
                            (got, moved) = (got + 1, true);
                        }
                        if !moved {
                            let asleep = Instant::now();
                            engine.sleep(None, Duration::from_secs(1)).unwrap();
                            slept += 1;
                            assert!(
                                asleep.elapsed() < Duration::from_millis(950),
                                "rank {rank} was not woken"
                            );
                        }
                    }
                    slept
                })
            })
            .collect();
        let slept: Vec<usize> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(slept.iter().all(|&n| n > 10), "they are to sleep: {slept:?} times");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[test]
    fn a_mate_that_has_died_is_lost_and_no_fault_of_the_settings() {
        let own = Own::new(2).unwrap();
        let card = own.card().clone();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        assert!(!has_ended(pid) && !has_ended(std::process::id()));
        let denied = || std::io::Error::from_raw_os_error(libc::EACCES);
        assert!(matches!(cannot_open(1, pid, denied()), NetError::Config { .. }));
        child.kill().unwrap();
        while !has_ended(pid) {
            std::thread::yield_now();
        }
        // Before anybody has waited for it, and after.
        assert_eq!(cannot_open(1, pid, denied()).lost_rank(), Some(1));
        child.wait().unwrap();
        assert_eq!(cannot_open(1, pid, denied()).lost_rank(), Some(1));
        let mates = [(0, std::process::id(), card.clone()), (1, pid, card)];
        let err = Shm::connect(own, 0, 2, 5, &mates).err().unwrap();
        assert_eq!(err.lost_rank(), Some(1), "{err}");
    }

    #[test]
    fn what_is_neither_gone_nor_forbidden_is_called_by_its_name() {
        let full = std::io::Error::from_raw_os_error(libc::EMFILE);
        assert!(matches!(cannot_open(1, std::process::id(), full), NetError::Os { .. }));
        let own = Own::new(2).unwrap();
        let mut card = own.card().clone();
        card.token[0] ^= 1;
        let me = std::process::id();
        let mates = [(0, me, own.card().clone()), (1, me, card)];
        let err = Shm::connect(own, 0, 2, 5, &mates).err().unwrap();
        assert!(matches!(err, NetError::Protocol { .. }), "{err}");
    }
}
