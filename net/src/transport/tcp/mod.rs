//! TCP between the ranks: one connection a pair, records that are checked before they are interpreted.
//!
//! `mesh` makes the connections and has both ends prove that they know the job's secret (Noise, as the control
//! connection); `guard` says how the records are protected after that; `conn` turns messages into records and back;
//! `answer` notices a peer whose kernel does not answer any more.

mod answer;
mod conn;
mod guard;
mod link;
mod mesh;

pub use mesh::{Mesh, MeshConfig};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use {conn::damaged as damaged_records, link::damaged as damaged_handshakes};

use super::{Arrival, Packet, Transport, TransportKind};
use crate::error::{NetError, Result};
use conn::Conn;
use rustix::event::epoll;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a closed connection may wait for the job master to say why, before it becomes an error of its own.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often to look whether the peers' kernels answer.
const LOOK: Duration = Duration::from_secs(1);

/// This rank's TCP wire.
pub struct Tcp {
    epoll: OwnedFd,
    conns: Vec<Conn>,
    /// rank -> index into `conns`
    index: Vec<Option<u32>>,
    /// Connections that wait for room in their socket.
    blocked: Vec<bool>,
    busy: usize,
    /// The first connection that ended: its peer, when, how we know.
    closed_since: Option<(u32, Instant, String)>,
    /// What is under way may stay without an answer for so long.
    unanswered: Duration,
    looked: Instant,
    ending: bool,
}

impl Tcp {
    fn new(size: u32, conns: Vec<Conn>, unanswered: Duration) -> Result<Tcp> {
        let what = || NetError::os("watching the TCP connections");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| what()(e.into()))?;
        let mut index = vec![None; size as usize];
        for (at, conn) in conns.iter().enumerate() {
            index[conn.peer as usize] = Some(at as u32);
            conn.stream.set_nonblocking(true).map_err(what())?;
            epoll::add(&epoll, &conn.stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)
                .map_err(|e| what()(e.into()))?;
        }
        Ok(Tcp {
            epoll,
            blocked: vec![false; conns.len()],
            conns,
            index,
            busy: 0,
            closed_since: None,
            unanswered,
            looked: Instant::now(),
            ending: false,
        })
    }

    fn flush(&mut self, at: usize) -> Result<bool> {
        let conn = &mut self.conns[at];
        let moved = conn.write()?;
        let blocked = !conn.idle() && !conn.closed;
        if blocked != self.blocked[at] {
            self.blocked[at] = blocked;
            self.busy = if blocked { self.busy + 1 } else { self.busy - 1 };
            let mut flags = epoll::EventFlags::IN;
            if blocked {
                flags |= epoll::EventFlags::OUT;
            }
            epoll::modify(&self.epoll, &conn.stream, epoll::EventData::new_u64(at as u64), flags)
                .map_err(|e| NetError::os("watching a TCP connection")(e.into()))?;
        }
        Ok(moved)
    }

    /// A connection ended. The job master learns of it too and knows better why; only if it stays silent is it our error.
    fn gone(&mut self, at: usize, how: impl Into<String>) {
        let conn = &mut self.conns[at];
        conn.closed = true;
        let _ = epoll::delete(&self.epoll, &conn.stream);
        if std::mem::take(&mut self.blocked[at]) {
            self.busy -= 1;
        }
        let peer = conn.peer;
        self.closed_since.get_or_insert_with(|| (peer, Instant::now(), how.into()));
    }

    /// Gives up the connections whose peers' kernels have not answered for too long. Whoever sleeps wakes up once a second
    /// and comes by here.
    fn look_for_answers(&mut self) {
        if self.ending || self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        for at in 0..self.conns.len() {
            let conn = &mut self.conns[at];
            if !conn.closed && conn.watch.given_up(&conn.stream, self.unanswered) {
                let seconds = self.unanswered.as_secs();
                self.gone(
                    at,
                    format!("its host has not answered for {seconds} s (the host, or the network to it)"),
                );
            }
        }
    }
}

impl Transport for Tcp {
    fn kind(&self) -> TransportKind {
        TransportKind::Tcp
    }

    fn post(&mut self, peer: u32, packet: Packet) -> Result<()> {
        let Some(at) = self.index.get(peer as usize).copied().flatten() else {
            return Err(NetError::Internal(format!("no TCP connection to rank {peer}")));
        };
        self.conns[at as usize].push(packet);
        self.flush(at as usize).map(drop)
    }

    fn progress(&mut self, inbox: &mut Vec<Arrival>) -> Result<bool> {
        let mut room = [const { std::mem::MaybeUninit::uninit() }; 64];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let events = match epoll::wait(&self.epoll, &mut room, Some(&zero)) {
            Ok((events, _)) => &*events,
            Err(rustix::io::Errno::INTR) => &[],
            Err(e) => return Err(NetError::os("watching the TCP connections")(e.into())),
        };
        let mut moved = false;
        for event in events {
            let (at, flags) = (event.data.u64() as usize, event.flags);
            if flags.contains(epoll::EventFlags::OUT) {
                moved |= self.flush(at)?;
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                moved |= self.conns[at].read(inbox)?;
            }
            if self.conns[at].closed {
                self.gone(at, "its connection closed in the middle of the job");
            }
        }
        self.look_for_answers();
        if let Some((peer, since, how)) = &self.closed_since
            && !self.ending
            && since.elapsed() > PATIENCE
        {
            return Err(NetError::Lost { peer: format!("rank {peer}"), what: how.clone() });
        }
        Ok(moved)
    }

    fn idle(&self) -> bool {
        self.busy == 0
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn close(&mut self) -> Result<()> {
        self.ending = true;
        for conn in &self.conns {
            let _ = conn.stream.shutdown(std::net::Shutdown::Both);
        }
        Ok(())
    }
}
