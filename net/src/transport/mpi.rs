//! The MPI that was loaded at run time, as a wire.
//!
//! A message goes as one MPI message if it is short, its header behind its bytes, so that these need not be moved to be alone; else as
//! two: the header, then the bytes as they lie, so that long messages are not copied. MPI keeps the order of messages between two ranks, so the second
//! always belongs to the first.

use super::frame::{self, Header};
use super::{Arrival, Packet, Transport, TransportKind};
use crate::buffer::Buf;
use crate::error::{NetError, Result};
use crate::mpi::{Begun, Buffer, Completion, Engine, Mpi};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Bodies up to this length travel with their header.
const INLINE: usize = 8 << 10;

/// Longer bodies go in pieces of this length, so that a message under way is seen to be: who sees nothing move for the hang
/// time-out takes it for a deadlock.
const PIECE: usize = 64 << 20;

/// How long the last messages may take when the world ends.
const LAST_MESSAGES: Duration = Duration::from_secs(30);

/// MPI tags: bytes with header, header alone, bytes alone.
const WHOLE: u32 = 0;
const HEAD: u32 = 1;
const BODY: u32 = 2;

// SAFETY: a Buf's bytes are on the heap or in a map of their own, and stay where they are when it moves.
unsafe impl Buffer for Buf {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn with_len(len: usize) -> Self {
        Buf::stale(len)
    }
}

#[derive(Clone, Copy, Default)]
struct Flow {
    seq_out: u32,
    seq_in: u32,
    expected: Option<Header>,
}

/// This rank's wire through MPI.
pub struct MpiWire {
    /// It goes before the engine, on whose MPI it stands.
    begun: Option<Begun<Buf>>,
    engine: Option<Engine<Buf>>,
    epoch: u32,
    flows: Vec<Flow>,
}

impl MpiWire {
    /// Takes over an initialised MPI. Every rank must call it.
    pub fn new(mut mpi: Mpi, epoch: u32) -> Result<MpiWire> {
        mpi.set_chunk_limit(PIECE);
        let flows = vec![Flow::default(); mpi.size() as usize];
        let begun = Some(Begun::new(&mpi)?);
        Ok(MpiWire { begun, engine: Some(Engine::new(mpi)), epoch, flows })
    }

    fn engine(&mut self) -> Result<&mut Engine<Buf>> {
        self.engine.as_mut().ok_or_else(|| NetError::Usage("MPI has been finalized".into()))
    }
}

fn whole(header: &Header, body: &[u8]) -> Buf {
    let mut buf = Buf::stale(frame::LEN + body.len());
    buf[..body.len()].copy_from_slice(body);
    buf[body.len()..].copy_from_slice(&header.encode());
    buf
}

fn accept(flow: &mut Flow, epoch: u32, from: u32, tag: u32, mut buf: Buf) -> Result<Option<Packet>> {
    let broken = |what: String| NetError::Protocol { peer: format!("rank {from} (MPI)"), what };
    if tag == BODY {
        return match flow.expected.take() {
            Some(h) if h.len == buf.len() as u64 => {
                Ok(Some(Packet { kind: h.kind, edge: h.edge, tag: h.tag, body: buf }))
            }
            Some(h) => Err(broken(format!("{} bytes where {} were announced", buf.len(), h.len))),
            None => Err(broken("bytes without a header".into())),
        };
    }
    let Some((rest, head)) = buf.split_last_chunk::<{ frame::LEN }>() else {
        return Err(broken(format!("a message of {} bytes without a header", buf.len())));
    };
    if flow.expected.is_some() {
        return Err(broken("a header where bytes were due".into()));
    }
    let header = Header::decode(head, epoch, flow.seq_in).map_err(broken)?;
    flow.seq_in = flow.seq_in.wrapping_add(1);
    if tag == HEAD {
        flow.expected = Some(header);
        return Ok(None);
    }
    let len = rest.len();
    if len as u64 != header.len {
        return Err(broken(format!("{len} bytes where {} were announced", header.len)));
    }
    buf.truncate(len);
    Ok(Some(Packet { kind: header.kind, edge: header.edge, tag: header.tag, body: buf }))
}

impl Transport for MpiWire {
    fn kind(&self) -> TransportKind {
        TransportKind::Mpi
    }

    fn post(&mut self, peer: u32, packet: Packet) -> Result<()> {
        let epoch = self.epoch;
        let flow = &mut self.flows[peer as usize];
        let header = Header {
            epoch,
            seq: flow.seq_out,
            edge: packet.edge,
            kind: packet.kind,
            tag: packet.tag,
            len: packet.body.len() as u64,
        };
        flow.seq_out = flow.seq_out.wrapping_add(1);
        let engine = self.engine()?;
        if packet.body.len() <= INLINE {
            return engine.post_send(peer, WHOLE, whole(&header, &packet.body));
        }
        engine.post_send(peer, HEAD, whole(&header, &[]))?;
        engine.post_send(peer, BODY, packet.body)
    }

    fn progress(&mut self, inbox: &mut Vec<Arrival>) -> Result<bool> {
        let (epoch, flows) = (self.epoch, &mut self.flows);
        let Some(engine) = &mut self.engine else { return Ok(false) };
        let mut result = Ok(());
        let before = engine.requests_done();
        engine.poll(&mut |completion| {
            if let Completion::Received { source, tag, buf } = completion
                && result.is_ok()
            {
                match accept(&mut flows[source as usize], epoch, source, tag, buf) {
                    Ok(Some(packet)) => inbox.push(Arrival { from: source, packet }),
                    Ok(None) => {}
                    Err(e) => result = Err(e),
                }
            }
        })?;
        result?;
        let came = match &mut self.begun {
            Some(begun) => begun.poll()?,
            None => false,
        };
        Ok(came || engine.requests_done() > before)
    }

    fn idle(&self) -> bool {
        self.engine.as_ref().is_none_or(|e| e.sends_in_flight() == 0)
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn begun(&mut self) -> Option<&mut Begun<Buf>> {
        self.begun.as_mut()
    }

    fn close(&mut self) -> Result<()> {
        if let Some(begun) = self.begun.take() {
            begun.finalize()?;
        }
        match self.engine.take() {
            Some(engine) => engine.finalize(LAST_MESSAGES),
            None => Ok(()),
        }
    }
}
