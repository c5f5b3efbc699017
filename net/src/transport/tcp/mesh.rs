//! Making the connections: every rank listens, rank `j` connects to every rank `i < j`.
//!
//! Both ends prove that they know the job's secret (Noise `NNpsk0`; job and epoch are part of what must agree) before
//! anything else is read. Then three short messages have passed: the connecting rank says who it is and whom it wants, the
//! other answers, and the first one shows that it is alive now, not a recording. Whoever has not proven itself may send
//! 512 bytes in five seconds, and at most 256 such connections are open at a time: more wait in the system's queue until the
//! oldest has had its 300 ms and makes room. A caller that is hung up on tries again for a while. (There is no limit for one
//! address: a node full of ranks calls from one.)
//!
//! All calls are made at once, and whatever answers first is served first: a rank that waited for one peer would meanwhile
//! be late with its proof for the others, who have no patience with strangers.

use super::Tcp;
use super::conn::Conn;
use super::guard::Guard;
use super::link::{Again, Link, Progress};
use crate::control::protocol::{JobId, Protection};
use crate::error::{NetError, Result};
use crate::limits::BACKLOG;
use crate::noise::{Established, prologue};
use crate::secret::Secret;
use rustix::event::{PollFd, PollFlags};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const UNPROVEN_COUNT: usize = 256;
const UNPROVEN_TURN: Duration = Duration::from_millis(300);
/// How long we do not listen when the system has no descriptor or memory for one more connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What the ranks of a job have in common.
pub struct MeshConfig {
    /// This rank.
    pub rank: u32,
    /// Ranks of the world.
    pub size: u32,
    /// The job.
    pub job: JobId,
    /// Its incarnation.
    pub epoch: u32,
    /// Its secret.
    pub secret: Secret,
    /// How records are protected.
    pub protection: Protection,
    /// A connection is given up if what is under way stays so long without an answer of the peer's kernel. (A peer that
    /// does not read is not meant: its kernel answers that there is no room.)
    pub unanswered: Duration,
}

/// A listening rank, before the connections are made.
pub struct Mesh {
    listener: TcpListener,
    /// The system had nothing left for one more connection: we try again then.
    deaf_until: Option<Instant>,
    /// What it said.
    refused: Option<std::io::Error>,
}

impl Mesh {
    /// Listens on a free port of `address`.
    pub fn listen(address: IpAddr) -> Result<Mesh> {
        let listener =
            TcpListener::bind((address, 0)).map_err(NetError::os(format!("listening on {address}")))?;
        listener.set_nonblocking(true).map_err(NetError::os("listening"))?;
        // The standard library's queue is short for all ranks of a large job.
        let _ = rustix::net::listen(&listener, BACKLOG as i32);
        Ok(Mesh { listener, deaf_until: None, refused: None })
    }

    /// Where the others find this rank.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(NetError::os("asking for the listening port"))
    }

    /// Connects to all `peers` (rank and address; not this rank itself), within `limit`.
    pub fn connect(
        mut self,
        config: &MeshConfig,
        peers: &[(u32, SocketAddr)],
        limit: Duration,
    ) -> Result<Tcp> {
        let deadline = Instant::now() + limit;
        let context = prologue("data", config.job, config.epoch);
        let mut links = Vec::new();
        for &(peer, address) in peers.iter().filter(|p| p.0 < config.rank) {
            links.push(Link::call(peer, address, None)?);
        }
        let mut again: Vec<Again> = Vec::new();
        let mut done: Vec<(u32, TcpStream, Box<Established>)> = Vec::new();
        while done.len() < peers.len() {
            let now = Instant::now();
            if now >= deadline {
                let missing = peers.iter().filter(|p| done.iter().all(|d| d.0 != p.0)).map(|p| p.0);
                return Err(self.late(config.rank, missing, limit));
            }
            self.wait(&mut links, &again, now)?;
            self.accept(&mut links);
            for call in again.extract_if(.., |call| now >= call.at) {
                links.push(Link::call(call.peer, call.address, Some(call.hung_up))?);
            }
            let mut at = 0;
            while at < links.len() {
                match links[at].step(config, &context) {
                    Ok(Progress::Waiting) if now < links[at].until || links[at].outgoing() => at += 1,
                    Ok(Progress::Done(peer, keys)) => {
                        let link = links.swap_remove(at);
                        let expected = peers.iter().any(|p| p.0 == peer) && done.iter().all(|d| d.0 != peer);
                        if expected {
                            done.push((peer, link.stream, keys));
                        }
                    }
                    Err(e) if links[at].outgoing() => again.push(links.swap_remove(at).call_again(e)?),
                    // A stranger: not our job, garbage, or too slow. It never got further than this.
                    Ok(Progress::Waiting) | Err(_) => {
                        links.swap_remove(at);
                    }
                }
            }
        }
        let conns = done
            .into_iter()
            .map(|(peer, stream, keys)| {
                tune(&stream);
                Conn::new(peer, stream, config.epoch, Guard::new(config.protection, *keys))
            })
            .collect();
        Tcp::new(config.size, conns, config.unanswered)
    }

    fn late(&self, rank: u32, missing: impl Iterator<Item = u32>, limit: Duration) -> NetError {
        let missing: Vec<_> = missing.map(|r| r.to_string()).collect();
        let mut help =
            String::from("check that the hosts reach each other on the interface in use (--interface)");
        if let Some(e) = &self.refused {
            help = format!("this host could not accept connections ({e}); if it is descriptors: ulimit -n");
        }
        NetError::TimedOut {
            what: format!("connecting rank {rank} with rank {}", missing.join(", ")),
            seconds: limit.as_secs(),
            help,
        }
    }

    fn wait(&self, links: &mut [Link], again: &[Again], now: Instant) -> Result<()> {
        let mut fds: Vec<_> = links.iter().map(|l| PollFd::new(&l.stream, l.awaits())).collect();
        let mut wait = Duration::from_millis(200);
        if self.may_accept(links) {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        } else {
            // Somebody may wait at the door, and nothing tells when there is room.
            wait = Duration::from_millis(50);
        }
        if let Some(next) = again.iter().map(|call| call.at).min() {
            wait = wait.min(next.saturating_duration_since(now));
        }
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(NetError::os("waiting for connections")(e.into())),
        }
        let ready: Vec<_> = fds.iter().take(links.len()).map(|fd| !fd.revents().is_empty()).collect();
        links.iter_mut().zip(ready).for_each(|(link, ready)| link.ready = ready);
        Ok(())
    }

    fn may_accept(&self, links: &[Link]) -> bool {
        self.deaf_until.is_none_or(|until| Instant::now() >= until) && has_room(links)
    }

    fn accept(&mut self, links: &mut Vec<Link>) {
        while self.may_accept(links) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    self.refused = None;
                    make_room(links);
                    // One that is gone already is nobody's trouble.
                    links.extend(Link::new(stream, None).ok());
                }
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    if e.kind() != ErrorKind::WouldBlock {
                        // Out of descriptors or memory: the listener stays ready, and must not keep us busy. Strangers go
                        // and make room; if none does, the deadline ends it.
                        self.deaf_until = Some(Instant::now() + EXHAUSTED);
                        self.refused = Some(e);
                    }
                    return;
                }
            }
        }
    }
}

fn strangers(links: &[Link]) -> impl Iterator<Item = (usize, &Link)> {
    links.iter().enumerate().filter(|(_, link)| !link.outgoing())
}

fn has_room(links: &[Link]) -> bool {
    strangers(links).count() < UNPROVEN_COUNT
        || strangers(links).any(|(_, link)| link.since.elapsed() >= UNPROVEN_TURN)
}

/// Ends the oldest connection that has not proven itself, if there are too many; first those that have not even sent a
/// first message made with the secret.
fn make_room(links: &mut Vec<Link>) {
    if strangers(links).count() >= UNPROVEN_COUNT
        && let Some((at, _)) = strangers(links).min_by_key(|(_, link)| (link.keys.is_some(), link.since))
    {
        links.swap_remove(at);
    }
}

/// Options that a failing call leaves at the system's default.
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(10));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
}

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
