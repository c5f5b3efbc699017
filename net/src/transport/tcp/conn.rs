//! One connection between two ranks: packets to records to bytes, and back.
//!
//! A message starts a record of its own: header, and its bytes if they are few. The bytes of a long message follow in
//! records of their own, which are read straight into the message's buffer and checked there; the message is handed on
//! only when all of them were right.

#[cfg(any(test, fuzzing))]
pub mod damaged;

use super::answer::Watch;
use super::guard::{Guard, LEN};
use crate::buffer::Buf;
use crate::error::{NetError, Result};
use crate::transport::frame::{self, Header};
use crate::transport::{Arrival, Packet};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;

/// Bodies up to this length travel in the record of their header.
const INLINE: usize = 8 << 10;
/// Prepared bytes ahead of the socket.
const AHEAD: usize = 1 << 20;
/// Size of the reading buffer.
const READ: usize = 128 << 10;

/// Bytes ready for the socket: `prefix`, then `large` bytes of the front body.
struct Piece {
    prefix: Vec<u8>,
    /// Range of the body that is its last piece's owner.
    body: std::ops::Range<usize>,
    /// This piece ends the message whose body it borrows.
    last: bool,
}

pub(super) struct Conn {
    pub(super) peer: u32,
    pub(super) stream: TcpStream,
    epoch: u32,
    guard: Guard,
    // Outgoing.
    queue: VecDeque<Packet>,
    /// Bodies that pieces borrow from, oldest first.
    bodies: VecDeque<Buf>,
    pieces: VecDeque<Piece>,
    ahead: usize,
    /// Bytes of the front piece that are sent.
    sent: usize,
    /// The packet that is being cut: its offset so far.
    cut: Option<usize>,
    seq_out: u32,
    record_out: u64,
    // Incoming.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    part: Option<Part>,
    seq_in: u32,
    record_in: u64,
    plain: Vec<u8>,
    /// The peer closed its side.
    pub(super) closed: bool,
    pub(super) watch: Watch,
}

/// A long message under way.
struct Part {
    header: Header,
    body: Buf,
    have: usize,
    /// A plain record of it under way: its check, its length, how much of it is there.
    record: Option<([u8; 16], usize, usize)>,
}

fn word(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

impl Conn {
    pub(super) fn new(peer: u32, stream: TcpStream, epoch: u32, guard: Guard) -> Conn {
        Conn {
            peer,
            stream,
            epoch,
            guard,
            queue: VecDeque::new(),
            bodies: VecDeque::new(),
            pieces: VecDeque::new(),
            ahead: 0,
            sent: 0,
            cut: None,
            seq_out: 0,
            record_out: 0,
            buffer: vec![0; READ],
            start: 0,
            end: 0,
            part: None,
            seq_in: 0,
            record_in: 0,
            plain: Vec::new(),
            closed: false,
            watch: Watch::default(),
        }
    }

    pub(super) fn idle(&self) -> bool {
        self.queue.is_empty() && self.pieces.is_empty()
    }

    pub(super) fn push(&mut self, packet: Packet) {
        self.queue.push_back(packet);
    }

    /// Cuts packets into pieces until enough bytes are ahead of the socket.
    fn prepare(&mut self) -> Result<()> {
        while self.ahead < AHEAD {
            let Some(packet) = self.queue.front() else { return Ok(()) };
            let len = packet.body.len();
            let (small, at) = match self.cut {
                Some(at) => (None, at),
                None => {
                    let header = Header {
                        epoch: self.epoch,
                        seq: self.seq_out,
                        edge: packet.edge,
                        kind: packet.kind,
                        tag: packet.tag,
                        len: len as u64,
                    };
                    (Some(header.encode()), 0)
                }
            };
            let inline = small.is_some() && len <= INLINE;
            let upto = match small {
                Some(_) if inline => len,
                Some(_) => 0,
                None => len.min(at + self.guard.max_record()),
            };
            // Short records of several messages share one piece, so that one write carries them all.
            let share = self.pieces.len() > 1
                && self
                    .pieces
                    .back()
                    .is_some_and(|p| p.body.is_empty() && !p.last && p.prefix.len() < READ / 2);
            if !share {
                self.pieces.push_back(Piece { prefix: Vec::new(), body: 0..0, last: false });
            }
            let Some(piece) = self.pieces.back_mut() else { return Ok(()) };
            let before = piece.prefix.len();
            let head = small.as_ref().map_or(&[][..], |h| &h[..]);
            if inline {
                let mut both = [0; frame::LEN + INLINE];
                both[..frame::LEN].copy_from_slice(head);
                both[frame::LEN..frame::LEN + len].copy_from_slice(&packet.body);
                self.guard.seal(self.record_out, &both[..frame::LEN + len], &[], &mut piece.prefix)?;
            } else if !self.guard.seal(self.record_out, head, &packet.body[at..upto], &mut piece.prefix)? {
                piece.body = at..upto;
            }
            self.record_out += 1;
            self.ahead += piece.prefix.len() - before + piece.body.len();
            if upto == len {
                self.cut = None;
                self.seq_out = self.seq_out.wrapping_add(1);
                let Some(packet) = self.queue.pop_front() else { return Ok(()) };
                if !inline && !self.guard.encrypts() {
                    piece.last = true;
                    self.bodies.push_back(packet.body);
                }
            } else {
                self.cut = Some(upto);
            }
        }
        Ok(())
    }

    /// Writes what the socket takes. True if anything went.
    pub(super) fn write(&mut self) -> Result<bool> {
        let mut moved = false;
        loop {
            self.prepare()?;
            if self.pieces.is_empty() || self.closed {
                return Ok(moved);
            }
            let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(32);
            let (mut skip, mut body_at) = (self.sent, 0);
            for piece in self.pieces.iter().take(16) {
                // A body that is still being cut is the front packet's; finished ones wait in `bodies`.
                let body = self.bodies.get(body_at).or(self.queue.front().map(|p| &p.body));
                let large = body.map_or(&[][..], |b| b.get(piece.body.clone()).unwrap_or(&[]));
                for part in [&piece.prefix[..], large] {
                    let gone = skip.min(part.len());
                    skip -= gone;
                    if gone < part.len() {
                        parts.push(IoSlice::new(&part[gone..]));
                    }
                }
                body_at += usize::from(piece.last);
            }
            match (&self.stream).write_vectored(&parts) {
                Ok(0) => {
                    self.closed = true;
                    return Ok(moved);
                }
                Ok(n) => {
                    moved = true;
                    self.ahead -= n;
                    self.sent += n;
                    while let Some(piece) = self.pieces.front() {
                        let whole = piece.prefix.len() + piece.body.len();
                        if self.sent < whole {
                            break;
                        }
                        self.sent -= whole;
                        if piece.last {
                            self.bodies.pop_front();
                        }
                        self.pieces.pop_front();
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(moved),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.closed = true;
                    return Ok(moved);
                }
            }
        }
    }

    fn broken(&self, what: impl Into<String>) -> NetError {
        NetError::Protocol { peer: format!("rank {} (TCP)", self.peer), what: what.into() }
    }

    /// Reads what the socket has; complete messages go to `inbox`. True if anything came.
    pub(super) fn read(&mut self, inbox: &mut Vec<Arrival>) -> Result<bool> {
        let mut moved = false;
        // A few rounds a call: one busy peer must not keep the others waiting.
        for _ in 0..8 {
            if self.closed {
                break;
            }
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if self.end == self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let direct = match &mut self.part {
                Some(Part { body, have, record: Some((_, len, got)), .. }) if self.start == self.end => {
                    let at = *have + *got;
                    &mut body[at..*have + *len]
                }
                _ => &mut [][..],
            };
            let wanted = direct.len();
            let mut parts = [IoSliceMut::new(direct), IoSliceMut::new(&mut self.buffer[self.end..])];
            let room: usize = parts.iter().map(|p| p.len()).sum();
            let n = match (&self.stream).read_vectored(&mut parts) {
                Ok(0) => {
                    self.closed = true;
                    break;
                }
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.closed = true;
                    break;
                }
            };
            moved = true;
            if let Some(Part { record: Some((_, _, got)), .. }) = &mut self.part {
                *got += n.min(wanted);
            }
            self.end += n.saturating_sub(wanted);
            self.parse(inbox)?;
            if n < room {
                break;
            }
        }
        Ok(moved)
    }

    /// Takes whole records out of the reading buffer and the part under way.
    fn parse(&mut self, inbox: &mut Vec<Arrival>) -> Result<()> {
        loop {
            // 1. A plain record of a long message: fill it, check it in place.
            if let Some(part) = &mut self.part
                && let Some((check, len, got)) = &mut part.record
            {
                let n = (self.end - self.start).min(*len - *got);
                let at = part.have + *got;
                part.body[at..at + n].copy_from_slice(&self.buffer[self.start..self.start + n]);
                self.start += n;
                *got += n;
                if *got < *len {
                    return Ok(());
                }
                let payload = &part.body[part.have..part.have + *len];
                if !self.guard.verify(self.record_in, &check[..self.guard.check_len()], payload) {
                    return Err(self.damaged());
                }
                part.have += *len;
                part.record = None;
                self.record_in += 1;
                self.hand_on(inbox);
                continue;
            }
            // 2. The head of a record.
            let head = LEN + self.guard.check_len();
            let there = self.end - self.start;
            if there < head {
                return Ok(());
            }
            let len = word(&self.buffer[self.start..]);
            if len > self.guard.max_announced() || len == 0 {
                return Err(self.broken(format!("a record of {len} bytes")));
            }
            // The first record of a message has its header and few bytes. One that announced more might never fit the
            // reading buffer.
            if self.part.is_none() && len > frame::LEN + INLINE + self.guard.overhead() {
                return Err(self.broken(format!("a record of {len} bytes where a message begins")));
            }
            let mut check = [0; 16];
            let check_len = self.guard.check_len();
            check[..check_len].copy_from_slice(&self.buffer[self.start + LEN..self.start + head]);
            if let Some(part) = &mut self.part
                && !self.guard.encrypts()
            {
                if len > part.body.len() - part.have {
                    return Err(self.broken("a record longer than its message"));
                }
                part.record = Some((check, len, 0));
                self.start += head;
                continue;
            }
            // 3. A record that is taken whole: a message's header, with its bytes if they are few; or any encrypted one.
            if there < head + len {
                return Ok(());
            }
            let payload = self.start + head..self.start + head + len;
            self.start = payload.end;
            let mut plain = std::mem::take(&mut self.plain);
            plain.clear();
            if self.guard.encrypts() {
                if self.guard.open(&self.buffer[payload], &mut plain).is_err() {
                    return Err(self.damaged());
                }
            } else {
                if !self.guard.verify(self.record_in, &check[..check_len], &self.buffer[payload.clone()]) {
                    return Err(self.damaged());
                }
                plain.extend_from_slice(&self.buffer[payload]);
            }
            self.record_in += 1;
            match &mut self.part {
                Some(part) => {
                    let rest = &mut part.body[part.have..];
                    if plain.len() > rest.len() {
                        return Err(self.broken("a record longer than its message"));
                    }
                    rest[..plain.len()].copy_from_slice(&plain);
                    part.have += plain.len();
                }
                None => self.start_message(&plain)?,
            }
            self.plain = plain;
            self.hand_on(inbox);
        }
    }

    fn damaged(&self) -> NetError {
        self.broken(format!(
            "record {} was changed on the way (memory, network card or an attacker): its check does not fit",
            self.record_in
        ))
    }

    fn start_message(&mut self, record: &[u8]) -> Result<()> {
        let Some((head, rest)) = record.split_first_chunk::<{ frame::LEN }>() else {
            return Err(self.broken("a message without its header"));
        };
        let header = Header::decode(head, self.epoch, self.seq_in).map_err(|e| self.broken(e))?;
        let fits =
            if header.len as usize <= INLINE { rest.len() as u64 == header.len } else { rest.is_empty() };
        if !fits {
            return Err(self.broken(format!("{} bytes where {} were announced", rest.len(), header.len)));
        }
        self.seq_in = self.seq_in.wrapping_add(1);
        let mut body = frame::room_for(&header, self.peer)?;
        body[..rest.len()].copy_from_slice(rest);
        self.part = Some(Part { header, body, have: rest.len(), record: None });
        Ok(())
    }

    fn hand_on(&mut self, inbox: &mut Vec<Arrival>) {
        if self.part.as_ref().is_some_and(|p| p.have == p.body.len())
            && let Some(Part { header: h, body, .. }) = self.part.take()
        {
            inbox.push(Arrival {
                from: self.peer,
                packet: Packet { kind: h.kind, edge: h.edge, tag: h.tag, body },
            });
        }
    }
}
