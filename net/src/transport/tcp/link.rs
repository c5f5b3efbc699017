//! A connection until its other end has proven itself: the handshake, one step at a time.

#[cfg(any(test, fuzzing))]
pub mod damaged;

use super::mesh::MeshConfig;
use crate::error::{NetError, Result};
use crate::noise::{Established, Handshake, Role};
use rustix::event::PollFlags;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const MAX_HANDSHAKE: usize = 128;
const UNPROVEN_BYTES: usize = 512;
const UNPROVEN_TIME: Duration = Duration::from_secs(5);
/// How long a peer may go on hanging up on us before the proof, from the first time on, and how often we call again.
pub(super) const HANG_UPS: Duration = Duration::from_secs(8);
const CALL_AGAIN: Duration = Duration::from_millis(100);

/// A peer to be called again.
pub(super) struct Again {
    pub(super) peer: u32,
    pub(super) address: SocketAddr,
    /// When it first hung up.
    pub(super) hung_up: Instant,
    pub(super) at: Instant,
}

pub(super) enum Progress {
    Waiting,
    Done(u32, Box<Established>),
}

/// A connection whose other end has not proven itself yet.
pub(super) struct Link {
    pub(super) stream: TcpStream,
    /// The rank that was called and where, on the calling side.
    pub(super) wants: Option<(u32, SocketAddr)>,
    /// The system has not said yet whether the call gets through.
    pub(super) ringing: bool,
    /// `poll` has something for it, or has not been asked yet.
    pub(super) ready: bool,
    /// When a peer that was called first hung up.
    pub(super) hung_up: Option<Instant>,
    pub(super) shake: Option<Handshake>,
    /// The keys, while the caller's sign of life is awaited.
    pub(super) keys: Option<(u32, Established)>,
    pub(super) input: Vec<u8>,
    pub(super) since: Instant,
    pub(super) until: Instant,
}

impl Link {
    /// Calls a rank; does not wait until it answers.
    pub(super) fn call(peer: u32, address: SocketAddr, hung_up: Option<Instant>) -> Result<Link> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = socket_with(family, SocketType::STREAM, flags, None)
            .map_err(|e| NetError::os(format!("making a socket to call rank {peer}"))(e.into()))?;
        match connect(&stream, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(unreachable(peer, address, &e.into())),
        }
        let mut link = Link::new(stream.into(), Some((peer, address)))?;
        link.ringing = true;
        link.hung_up = hung_up;
        Ok(link)
    }

    /// What `poll` is to wait for.
    pub(super) fn awaits(&self) -> PollFlags {
        if self.ringing { PollFlags::OUT } else { PollFlags::IN }
    }

    /// Sends the first message once the call has got through. False if that is not known yet.
    fn got_through(&mut self, config: &MeshConfig, context: &[u8]) -> Result<bool> {
        let (true, Some((peer, address))) = (self.ringing, self.wants) else { return Ok(true) };
        if let Ok(Some(e)) | Err(e) = self.stream.take_error() {
            return Err(unreachable(peer, address, &e));
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(e) => return Err(unreachable(peer, address, &e)),
        }
        if self.stream.local_addr().is_ok_and(|own| own == address) {
            // Nobody listens at a port of our own host, and the system has connected us with ourselves.
            return Err(unreachable(peer, address, &ErrorKind::ConnectionRefused.into()));
        }
        self.ringing = false;
        self.introduce(peer, config, context)?;
        Ok(true)
    }

    /// Sends the first message.
    fn introduce(&mut self, peer: u32, config: &MeshConfig, context: &[u8]) -> Result<()> {
        let mut shake = Handshake::new(Role::Initiator, &config.secret, context)?;
        let hello = [config.rank.to_le_bytes(), peer.to_le_bytes()].concat();
        self.send(&shake.write(&hello)?)?;
        self.shake = Some(shake);
        Ok(())
    }

    /// After `error`: when to call again, if it was the peer that hung up and this has not lasted too long.
    pub(super) fn call_again(self, error: NetError) -> Result<Again> {
        let now = Instant::now();
        let hung_up = self.hung_up.unwrap_or(now);
        match (error, self.wants) {
            (NetError::Lost { .. }, Some((peer, address)))
                if !self.ringing && now.saturating_duration_since(hung_up) < HANG_UPS =>
            {
                Ok(Again { peer, address, hung_up, at: now + CALL_AGAIN })
            }
            (error, _) => Err(error),
        }
    }

    pub(super) fn new(stream: TcpStream, wants: Option<(u32, SocketAddr)>) -> Result<Link> {
        stream.set_nodelay(true).map_err(NetError::os("setting TCP_NODELAY"))?;
        stream.set_nonblocking(true).map_err(NetError::os("setting a socket to non-blocking"))?;
        Ok(Link::over(stream, wants))
    }

    /// Over a stream that is set up.
    fn over(stream: TcpStream, wants: Option<(u32, SocketAddr)>) -> Link {
        let since = Instant::now();
        let until = since + UNPROVEN_TIME;
        Link {
            stream,
            wants,
            ringing: false,
            ready: true,
            hung_up: None,
            shake: None,
            keys: None,
            input: Vec::new(),
            since,
            until,
        }
    }

    pub(super) fn outgoing(&self) -> bool {
        self.wants.is_some()
    }

    /// Sends one handshake message (far shorter than a fresh socket's buffer).
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let mut bytes = (message.len() as u16).to_le_bytes().to_vec();
        bytes.extend_from_slice(message);
        (&self.stream).write_all(&bytes).map_err(|e| match e.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                self.cut_off("it cut the connection during the handshake")
            }
            _ => NetError::os("sending a handshake")(e),
        })
    }

    pub(super) fn stranger(&self, what: &str) -> NetError {
        let peer = match self.wants {
            Some((rank, _)) => format!("whoever listens at the address of rank {rank}"),
            None => "an unknown peer".into(),
        };
        NetError::NotAllowed { peer, what: what.into() }
    }

    fn cut_off(&self, what: &str) -> NetError {
        let peer = self.wants.map_or("an unknown peer".into(), |(rank, _)| format!("rank {rank}"));
        NetError::Lost { peer, what: format!("{what} (it is gone, or does not know this job's secret)") }
    }

    /// The next whole handshake message, if it is there.
    fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut buffer = [0; MAX_HANDSHAKE + 2];
        loop {
            if let Some(&[a, b]) = self.input.first_chunk::<2>() {
                let len = u16::from_le_bytes([a, b]) as usize;
                if len > MAX_HANDSHAKE {
                    return Err(self.stranger("a handshake message too long"));
                }
                if self.input.len() >= 2 + len {
                    let message = self.input[2..2 + len].to_vec();
                    self.input.drain(..2 + len);
                    return Ok(Some(message));
                }
            }
            // Read no further than the message: what follows belongs to the records.
            let want = match self.input.first_chunk::<2>() {
                Some(&[a, b]) => 2 + u16::from_le_bytes([a, b]) as usize - self.input.len(),
                None => 2 - self.input.len(),
            };
            match (&self.stream).read(&mut buffer[..want]) {
                Ok(0) => return Err(self.cut_off("it hung up during the handshake")),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Err(self.cut_off("it cut the connection during the handshake"));
                }
                Err(e) => return Err(NetError::os("reading a handshake")(e)),
            }
            if self.input.len() > UNPROVEN_BYTES {
                return Err(self.stranger("too many bytes before its proof"));
            }
        }
    }

    pub(super) fn step(&mut self, config: &MeshConfig, context: &[u8]) -> Result<Progress> {
        if !self.ready || !self.got_through(config, context)? {
            return Ok(Progress::Waiting);
        }
        let Some(message) = self.receive()? else { return Ok(Progress::Waiting) };
        if let Some((peer, _)) = self.wants {
            let Some(mut shake) = self.shake.take() else { return Err(self.stranger("an answer too many")) };
            shake.read(&message)?;
            let mut keys = shake.finish()?;
            let mut alive = Vec::new();
            keys.cipher.encrypt(b"", &mut alive)?;
            self.send(&alive)?;
            return Ok(Progress::Done(peer, Box::new(keys)));
        }
        if let Some((peer, mut keys)) = self.keys.take() {
            keys.cipher.decrypt(&message, &mut Vec::new())?;
            return Ok(Progress::Done(peer, Box::new(keys)));
        }
        let mut shake = Handshake::new(Role::Responder, &config.secret, context)?;
        let hello = shake.read(&message)?;
        let (Some(from), Some(to)) = (number(&hello, 0), number(&hello, 4)) else {
            return Err(self.stranger("a hello of the wrong length"));
        };
        if to != config.rank || from >= config.size || from <= config.rank {
            return Err(self.stranger("a hello for or from a rank that should not call here"));
        }
        let answer = shake.write(b"")?;
        self.send(&answer)?;
        self.keys = Some((from, shake.finish()?));
        Ok(Progress::Waiting)
    }
}

fn unreachable(peer: u32, address: SocketAddr, e: &std::io::Error) -> NetError {
    NetError::Lost {
        peer: format!("rank {peer}"),
        what: format!("cannot connect to {address}: {e} (a firewall, or the wrong network? see --interface)"),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
}
