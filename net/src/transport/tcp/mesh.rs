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
use crate::control::protocol::{JobId, Protection};
use crate::error::{NetError, Result};
use crate::limits::BACKLOG;
use crate::noise::{Established, Handshake, Role, prologue};
use crate::secret::Secret;
use rustix::event::{PollFd, PollFlags};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const MAX_HANDSHAKE: usize = 128;
const UNPROVEN_BYTES: usize = 512;
const UNPROVEN_TIME: Duration = Duration::from_secs(5);
const UNPROVEN_COUNT: usize = 256;
const UNPROVEN_TURN: Duration = Duration::from_millis(300);
/// How long a peer may go on hanging up on us before the proof, from the first time on, and how often we call again.
const HANG_UPS: Duration = Duration::from_secs(8);
const CALL_AGAIN: Duration = Duration::from_millis(100);
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

/// A peer to be called again.
struct Again {
    peer: u32,
    address: SocketAddr,
    /// When it first hung up.
    hung_up: Instant,
    at: Instant,
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

enum Progress {
    Waiting,
    Done(u32, Box<Established>),
}

/// A connection whose other end has not proven itself yet.
struct Link {
    stream: TcpStream,
    /// The rank that was called and where, on the calling side.
    wants: Option<(u32, SocketAddr)>,
    /// The system has not said yet whether the call gets through.
    ringing: bool,
    /// `poll` has something for it, or has not been asked yet.
    ready: bool,
    /// When a peer that was called first hung up.
    hung_up: Option<Instant>,
    shake: Option<Handshake>,
    /// The keys, while the caller's sign of life is awaited.
    keys: Option<(u32, Established)>,
    input: Vec<u8>,
    since: Instant,
    until: Instant,
}

impl Link {
    /// Calls a rank; does not wait until it answers.
    fn call(peer: u32, address: SocketAddr, hung_up: Option<Instant>) -> Result<Link> {
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
    fn awaits(&self) -> PollFlags {
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
        let mut shake = Handshake::new(Role::Initiator, &config.secret, context)?;
        let hello = [config.rank.to_le_bytes(), peer.to_le_bytes()].concat();
        self.send(&shake.write(&hello)?)?;
        self.shake = Some(shake);
        Ok(true)
    }

    /// After `error`: when to call again, if it was the peer that hung up and this has not lasted too long.
    fn call_again(self, error: NetError) -> Result<Again> {
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

    fn new(stream: TcpStream, wants: Option<(u32, SocketAddr)>) -> Result<Link> {
        stream.set_nodelay(true).map_err(NetError::os("setting TCP_NODELAY"))?;
        stream.set_nonblocking(true).map_err(NetError::os("setting a socket to non-blocking"))?;
        let since = Instant::now();
        let until = since + UNPROVEN_TIME;
        Ok(Link {
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
        })
    }

    fn outgoing(&self) -> bool {
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

    fn stranger(&self, what: &str) -> NetError {
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

    fn step(&mut self, config: &MeshConfig, context: &[u8]) -> Result<Progress> {
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

/// Options that a failing call leaves at the system's default.
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(10));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Posted};
    use crate::transport::{Kind, Packet, Transport};
    use crate::{Buf, transport::Arrival};
    use std::net::Ipv4Addr;

    fn config(rank: u32, size: u32, secret: &Secret, protection: Protection) -> MeshConfig {
        MeshConfig {
            rank,
            size,
            job: JobId::from_bytes([7; 16]),
            epoch: 3,
            secret: secret.clone(),
            protection,
            unanswered: Duration::from_secs(10),
        }
    }

    fn wires(size: u32, protection: Protection) -> Vec<Tcp> {
        wires_with(size, protection, Duration::from_secs(10))
    }

    fn wires_with(size: u32, protection: Protection, unanswered: Duration) -> Vec<Tcp> {
        let secret = Secret::random().unwrap();
        let meshes: Vec<_> = (0..size).map(|_| Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
        let all: Vec<_> = meshes.iter().zip(0..).map(|(m, r)| (r, m.address().unwrap())).collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = meshes
                .into_iter()
                .zip(0..)
                .map(|(mesh, rank)| {
                    let (all, config) =
                        (&all, MeshConfig { unanswered, ..config(rank, size, &secret, protection) });
                    let peers: Vec<_> = all.iter().copied().filter(|p| p.0 != rank).collect();
                    scope.spawn(move || mesh.connect(&config, &peers, Duration::from_secs(20)).unwrap())
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    fn pump(a: &mut Tcp, b: &mut Tcp, want: usize) -> Vec<Arrival> {
        let mut inbox = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while inbox.len() < want {
            assert!(Instant::now() < deadline, "{} of {want} messages came", inbox.len());
            a.progress(&mut Vec::new()).unwrap();
            b.progress(&mut inbox).unwrap();
        }
        inbox
    }

    #[test]
    fn all_sizes_in_order_under_every_protection() {
        for protection in [Protection::Checksummed, Protection::Authenticated, Protection::Encrypted] {
            let mut wires = wires(3, protection);
            let (mut b, mut a) = (wires.pop().unwrap(), wires.remove(0));
            let sizes = [0usize, 1, 8191, 8192, 8193, 65519, 65520, 262_144, 262_145, 0, 3 << 20, 5, 0];
            for (i, &n) in sizes.iter().enumerate() {
                let body = Buf::from_slice(&(0..n).map(|x| (x * 5 + i) as u8).collect::<Vec<_>>());
                a.post(2, Packet { kind: Kind::Data, edge: 1, tag: i as u64, body }).unwrap();
            }
            for (i, m) in pump(&mut a, &mut b, sizes.len()).iter().enumerate() {
                assert_eq!(
                    (m.from, m.packet.tag, m.packet.body.len()),
                    (0, i as u64, sizes[i]),
                    "{protection:?}"
                );
                assert!(m.packet.body.iter().enumerate().all(|(x, &v)| v == (x * 5 + i) as u8));
            }
            assert!(a.idle());
        }
    }

    #[test]
    fn a_peer_without_the_secret_or_of_another_job_never_gets_in() {
        let secret = Secret::random().unwrap();
        let mesh = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let address = mesh.address().unwrap();
        let good = config(0, 2, &secret, Protection::Checksummed);
        std::thread::scope(|scope| {
            let server = scope.spawn(move || mesh.connect(&good, &[(1, address)], Duration::from_secs(20)));
            let other = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
            let wrong = config(1, 2, &Secret::random().unwrap(), Protection::Checksummed);
            assert!(other.connect(&wrong, &[(0, address)], Duration::from_millis(300)).is_err());
            let other = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
            let mut foreign = config(1, 2, &secret, Protection::Checksummed);
            foreign.epoch = 4;
            assert!(other.connect(&foreign, &[(0, address)], Duration::from_millis(300)).is_err());
            for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300], &[0; 64], b""] {
                let _ = TcpStream::connect(address).unwrap().write_all(garbage);
            }
            let other = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
            let right = config(1, 2, &secret, Protection::Checksummed);
            assert!(other.connect(&right, &[(0, address)], Duration::from_secs(15)).is_ok());
            assert!(server.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_crowd_of_idle_connections_keeps_no_rank_out() {
        let secret = Secret::random().unwrap();
        let mesh = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let address = mesh.address().unwrap();
        let crowd: Vec<_> = (0..UNPROVEN_COUNT + 20).map(|_| TcpStream::connect(address).unwrap()).collect();
        std::thread::scope(|scope| {
            let good = config(0, 2, &secret, Protection::Checksummed);
            let server = scope.spawn(move || mesh.connect(&good, &[(1, address)], Duration::from_secs(15)));
            let other = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
            let right = config(1, 2, &secret, Protection::Checksummed);
            // Less than a stranger may stay: the rank does not wait for their end.
            assert!(other.connect(&right, &[(0, address)], Duration::from_secs(4)).is_ok());
            assert!(server.join().unwrap().is_ok());
        });
        drop(crowd);
    }

    #[test]
    fn a_caller_that_is_hung_up_on_calls_again() {
        let secret = Secret::random().unwrap();
        let mesh = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let address = mesh.address().unwrap();
        std::thread::scope(|scope| {
            let good = config(0, 2, &secret, Protection::Checksummed);
            let server = scope.spawn(move || {
                mesh.listener.set_nonblocking(false).unwrap();
                drop(mesh.listener.accept().unwrap());
                mesh.listener.set_nonblocking(true).unwrap();
                mesh.connect(&good, &[(1, address)], Duration::from_secs(15))
            });
            let other = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
            let right = config(1, 2, &secret, Protection::Checksummed);
            assert!(other.connect(&right, &[(0, address)], Duration::from_secs(15)).is_ok());
            assert!(server.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_changed_byte_is_never_delivered() {
        for protection in [Protection::Checksummed, Protection::Authenticated] {
            let mut wires = wires(2, protection);
            let (mut b, a) = (wires.pop().unwrap(), wires.pop().unwrap());
            // A record made with the wrong bytes, written below the wire.
            let mut record = 40u32.to_le_bytes().to_vec();
            record.extend_from_slice(&[9; 56]);
            (&a.conns[0].stream).write_all(&record).unwrap();
            let mut inbox = Vec::new();
            let err = loop {
                match b.progress(&mut inbox) {
                    Ok(_) => std::thread::yield_now(),
                    Err(e) => break e.to_string(),
                }
            };
            assert!(err.contains("rank 0") && err.contains("changed on the way"), "{err}");
            assert!(inbox.is_empty());
        }
    }

    fn data(body: Buf) -> Packet {
        Packet { kind: Kind::Data, edge: 0, tag: 0, body }
    }

    #[test]
    fn a_receiver_that_does_not_read_for_a_while_is_not_given_up() {
        let mut wires = wires_with(2, Protection::Checksummed, Duration::from_secs(1));
        let (mut b, mut a) = (wires.pop().unwrap(), wires.pop().unwrap());
        const LEN: usize = 8 << 20;
        a.post(1, data(Buf::from_slice(&vec![5; LEN]))).unwrap();
        let idle_until = Instant::now() + Duration::from_millis(3500);
        while Instant::now() < idle_until {
            a.progress(&mut Vec::new()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!a.idle(), "the message is to be longer than what the kernel takes");
        assert!(a.closed_since.is_none());
        let inbox = pump(&mut a, &mut b, 1);
        assert!(inbox[0].packet.body.len() == LEN && inbox[0].packet.body.iter().all(|&v| v == 5));
    }

    /// From now on the kernel drops whatever comes for this socket, as if the cable were cut.
    fn cut(stream: &TcpStream) {
        use std::os::fd::AsRawFd;
        // "ret 0": keep nothing of any packet.
        let mut filter = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
        let program = libc::sock_fprog { len: 1, filter: filter.as_mut_ptr() };
        // SAFETY: the kernel copies the program, of one instruction, before it returns.
        let rc = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as libc::socklen_t,
            )
        };
        assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    }

    #[test]
    fn a_peer_whose_kernel_does_not_answer_is_given_up() {
        // What fits the kernel's buffers, so that nothing of ours waits, and what does not.
        for len in [1 << 10, 8 << 20] {
            let mut wires = wires_with(2, Protection::Checksummed, Duration::from_secs(1));
            let (b, a) = (wires.pop().unwrap(), wires.pop().unwrap());
            cut(&a.conns[0].stream);
            cut(&b.conns[0].stream);
            // As a rank that waits: asleep, with nothing that wakes it.
            let mut engine = Engine::new(0, 2, vec![(Box::new(a), vec![1])]);
            let edge = engine.open_edge();
            assert!(matches!(engine.post(edge, 1, 0, Buf::zeroed(len)).unwrap(), Posted::Done));
            let start = Instant::now();
            let err = loop {
                if let Err(e) = engine.sleep(None, Duration::from_secs(1)) {
                    break e;
                }
                assert!(start.elapsed() < Duration::from_secs(15), "{len} bytes: not given up");
            };
            assert_eq!(err.lost_rank(), Some(1), "{err}");
            assert!(err.to_string().contains("has not answered for 1 s"), "{err}");
            assert!(engine.idle(), "nothing waits for a peer that is gone");
        }
    }

    #[test]
    fn a_peer_that_cannot_be_reached_yet_does_not_make_a_rank_late_for_the_others() {
        // Rank 0 listens, but its queue is full: the system lets callers wait for seconds. Rank 1 is well.
        let secret = Secret::random().unwrap();
        let deaf = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&deaf, 0).unwrap();
        let deaf_at = deaf.local_addr().unwrap();
        let flood: Vec<_> = (0..4)
            .filter_map(|_| TcpStream::connect_timeout(&deaf_at, Duration::from_millis(200)).ok())
            .collect();
        assert!(flood.len() < 4, "the queue is to be full");
        let one = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let one_at = one.address().unwrap();
        let two = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let two_at = two.address().unwrap();
        std::thread::scope(|scope| {
            let (c1, c2) = (
                config(1, 3, &secret, Protection::Checksummed),
                config(2, 3, &secret, Protection::Checksummed),
            );
            scope.spawn(move || {
                assert!(two.connect(&c2, &[(0, deaf_at), (1, one_at)], Duration::from_secs(3)).is_err());
            });
            assert!(one.connect(&c1, &[(2, two_at)], Duration::from_secs(2)).is_ok());
        });
    }

    #[test]
    fn patience_with_hang_ups_begins_with_the_first_of_them() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let stream = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap()
        };
        let lost = || NetError::Lost { peer: "rank 0".into(), what: String::new() };
        let ago = |s| Instant::now().checked_sub(Duration::from_secs(s)).unwrap();
        // The connection itself took long.
        let mut link = Link::new(stream(), Some((0, address))).unwrap();
        link.since = ago(60);
        let again = link.call_again(lost()).unwrap();
        assert!(again.hung_up.elapsed() < Duration::from_secs(1) && again.at > Instant::now());
        // It has hung up for too long.
        let mut link = Link::new(stream(), Some((0, address))).unwrap();
        link.hung_up = Some(ago(9));
        assert!(link.call_again(lost()).is_err());
        // Nobody is there, or it is somebody else: no second call.
        let mut link = Link::new(stream(), Some((0, address))).unwrap();
        link.ringing = true;
        assert!(link.call_again(lost()).is_err());
        let link = Link::new(stream(), Some((0, address))).unwrap();
        let other = link.stranger("garbage");
        assert!(link.call_again(other).is_err());
    }

    #[test]
    fn nobody_at_the_address_is_told_at_once() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mesh = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let config = config(1, 2, &Secret::random().unwrap(), Protection::Checksummed);
        let start = Instant::now();
        let err = mesh.connect(&config, &[(0, gone)], Duration::from_secs(20)).err().unwrap();
        assert_eq!(err.lost_rank(), Some(0), "{err}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_first_record_that_announces_too_much_is_damage_not_the_end() {
        for protection in [Protection::Checksummed, Protection::Authenticated, Protection::Encrypted] {
            let mut wires = wires(2, protection);
            let (mut b, a) = (wires.pop().unwrap(), wires.pop().unwrap());
            // Less than any record may have, more than the first of a message, and all of its bytes come.
            let len = if protection == Protection::Encrypted { 60u32 << 10 } else { 200 << 10 };
            let mut record = len.to_le_bytes().to_vec();
            record.resize(len as usize + 20, 9);
            let mut inbox = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(10);
            let mut at = 0;
            let err = loop {
                at += (&a.conns[0].stream).write(&record[at..]).unwrap_or(0);
                match b.progress(&mut inbox) {
                    Ok(_) => std::thread::yield_now(),
                    Err(e) => break e,
                }
                assert!(Instant::now() < deadline, "{protection:?}: nobody noticed");
            };
            assert!(matches!(err, NetError::Protocol { .. }), "{protection:?}: {err}");
            assert!(err.to_string().contains("where a message begins"), "{err}");
            assert!(inbox.is_empty());
        }
    }

    #[test]
    fn a_system_without_room_for_one_more_connection_is_asked_again_later() {
        use rustix::net::{AddressFamily, SocketType, bind, socket};
        // A socket that does not listen refuses to accept, as one does when there is no descriptor left.
        let broken = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&broken, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let mut mesh = Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let good = std::mem::replace(&mut mesh.listener, broken.into());
        let mut links = Vec::new();
        mesh.accept(&mut links);
        assert!(!mesh.may_accept(&links), "it must not keep us busy");
        let err = mesh.late(0, [1].into_iter(), Duration::from_secs(1)).to_string();
        assert!(err.contains("could not accept connections"), "{err}");
        mesh.listener = good;
        std::thread::sleep(EXHAUSTED);
        let _caller = TcpStream::connect(mesh.address().unwrap()).unwrap();
        mesh.accept(&mut links);
        assert_eq!(links.len(), 1);
        assert!(mesh.refused.is_none() || mesh.refused.as_ref().unwrap().kind() == ErrorKind::WouldBlock);
    }
}
