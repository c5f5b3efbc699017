//! A [`Session`] on a TCP connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{MAX_NOISE, Role, Session};
use crate::error::{NetError, Result};
use crate::secret::Secret;

/// How many reads one call of [`NoiseStream::read_some`] makes at most, so that one talkative peer starves nobody.
const READS_A_TURN: usize = 8;

/// What a non-blocking read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The connection is open.
    Open,
    /// The peer has closed its end; messages that came before may still wait.
    Closed,
}

/// An authenticated, encrypted message stream over TCP. The socket is non-blocking; the calls with a deadline wait
/// with `poll`.
pub struct NoiseStream {
    stream: TcpStream,
    session: Session,
    peer: SocketAddr,
    closed: bool,
}

impl NoiseStream {
    /// Starts a session on a fresh connection; `context` comes from [`prologue`](super::prologue).
    ///
    /// # Errors
    /// [`NetError::Os`] if the socket cannot be set up.
    pub fn new(stream: TcpStream, role: Role, secret: &Secret, context: &[u8]) -> Result<Self> {
        let setup = || -> std::io::Result<SocketAddr> {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            stream.peer_addr()
        };
        let peer = setup().map_err(NetError::os("setting up a control connection"))?;
        Ok(NoiseStream { session: Session::new(role, secret, context)?, stream, peer, closed: false })
    }

    /// Address of the peer.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Our own address on this connection: the interface by which the peer is reached.
    ///
    /// # Errors
    /// [`NetError::Os`] if the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.stream.local_addr().map_err(NetError::os("asking for the address of the control connection"))
    }

    /// Whether the peer has proven that it knows the secret.
    pub fn is_proven(&self) -> bool {
        self.session.is_proven()
    }

    /// As [`Session::is_answered`].
    pub fn is_answered(&self) -> bool {
        self.session.is_answered()
    }

    /// To poll on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether the peer has closed its end, or we have given it up.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Gives the connection up.
    pub fn mark_closed(&mut self) {
        self.closed = true;
    }

    /// Whether bytes wait to be written.
    pub fn wants_write(&self) -> bool {
        !self.session.outgoing().is_empty()
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.session.outgoing().len()
    }

    /// Queues a message; [`NoiseStream::write_some`] sends it.
    ///
    /// # Errors
    /// As [`Session::queue`].
    pub fn queue(&mut self, message: &[u8]) -> Result<()> {
        self.session.queue(message)
    }

    /// Writes as much as the socket takes without waiting.
    ///
    /// # Errors
    /// [`NetError::Lost`] if the connection is gone.
    pub fn write_some(&mut self) -> Result<()> {
        while !self.session.outgoing().is_empty() {
            match self.stream.write(self.session.outgoing()) {
                Ok(0) => return Err(self.lost("it takes no more bytes")),
                Ok(n) => self.session.written(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error.to_string())),
            }
        }
        Ok(())
    }

    /// Reads what is there without waiting.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] or [`NetError::Protocol`] from the session, [`NetError::Lost`] if the connection broke.
    pub fn read_some(&mut self) -> Result<Readiness> {
        if self.closed {
            return Ok(Readiness::Closed);
        }
        let mut buffer = [0u8; 16 << 10];
        for _ in 0..READS_A_TURN {
            let room = self.session.appetite().min(buffer.len());
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => {
                    self.closed = true;
                    return Ok(Readiness::Closed);
                }
                Ok(n) => {
                    let peer = self.peer;
                    self.session.feed(&buffer[..n]).map_err(|error| named(error, peer))?;
                    if n < room {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.closed = true;
                    return Err(self.lost(&error.to_string()));
                }
            }
        }
        Ok(Readiness::Open)
    }

    /// The next whole message that has come, if there is one.
    ///
    /// # Errors
    /// As [`Session::next_message`].
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>> {
        let peer = self.peer;
        self.session.next_message().map_err(|error| named(error, peer))
    }

    /// Waits until the handshake is through.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] if the proof failed or the peer hung up, [`NetError::TimedOut`] at the deadline.
    pub fn prove(&mut self, deadline: Instant) -> Result<()> {
        while !self.is_proven() || self.wants_write() {
            self.write_some()?;
            if self.is_proven() && !self.wants_write() {
                break;
            }
            self.wait(deadline, "the proof of the job's secret")?;
            if self.read_some()? == Readiness::Closed && !self.is_proven() {
                return Err(self.lost("it hung up during the proof of the secret"));
            }
        }
        Ok(())
    }

    /// Sends a message and waits until the system has taken it.
    ///
    /// # Errors
    /// [`NetError::Lost`], [`NetError::TimedOut`], or what the session says.
    pub fn send(&mut self, message: &[u8], deadline: Instant) -> Result<()> {
        self.queue(message)?;
        loop {
            self.write_some()?;
            if !self.wants_write() {
                return Ok(());
            }
            self.wait(deadline, "sending a control message")?;
            // Both ends may be in the middle of a long message.
            self.read_some()?;
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`NetError::Lost`] if the peer hung up, [`NetError::TimedOut`] at the deadline, or what the session says.
    pub fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            if self.closed {
                return Err(self.lost("it closed the connection"));
            }
            self.write_some()?;
            self.wait(deadline, "a control message")?;
            self.read_some()?;
        }
    }

    /// Tells the peer that nothing more will come.
    pub fn shut_down(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    fn wait(&self, deadline: Instant, what: &str) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NetError::TimedOut {
                what: format!("{what} by {}", self.peer),
                seconds: 0,
                help: "see whether the job master is alive and the network between the hosts is open".into(),
            });
        }
        let mut events = PollFlags::IN;
        if self.wants_write() {
            events |= PollFlags::OUT;
        }
        poll_ready(&mut [PollFd::new(&self.stream, events)], left)
    }

    fn lost(&self, what: &str) -> NetError {
        NetError::Lost { peer: self.peer.to_string(), what: what.into() }
    }
}

impl AsFd for NoiseStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// `poll` with a time-out; a signal in between counts as "look again".
fn poll_ready(fds: &mut [PollFd<'_>], left: Duration) -> Result<()> {
    let patience = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match rustix::event::poll(fds, Some(&patience)) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::INTR) => {
            for fd in fds {
                fd.clear_revents();
            }
            Ok(())
        }
        Err(error) => {
            Err(NetError::Os { what: "waiting for control connections".into(), source: error.into() })
        }
    }
}

/// Puts the peer's address in place of the session's "the peer".
fn named(error: NetError, peer: SocketAddr) -> NetError {
    match error {
        NetError::NotAllowed { what, .. } => NetError::NotAllowed { peer: peer.to_string(), what },
        NetError::Protocol { what, .. } => NetError::Protocol { peer: peer.to_string(), what },
        other => other,
    }
}

const _: () = assert!(MAX_NOISE <= u16::MAX as usize);
