//! Making the connections: every rank listens, rank `j` connects to every rank `i < j`.
//!
//! Both ends prove that they know the job's secret (Noise `NNpsk0`; job and epoch are part of what must agree) before
//! anything else is read. Then three short messages have passed: the connecting rank says who it is and whom it wants, the
//! other answers, and the first one shows that it is alive now, not a recording. Whoever has not proven itself may send
//! 512 bytes in five seconds, and at most 256 such connections are open at a time: more wait in the system's queue until the
//! oldest has had its 300 ms and makes room. A caller that is hung up on tries again for a while. (There is no limit for one
//! address: a node full of ranks calls from one.)

use super::Tcp;
use super::conn::Conn;
use super::guard::Guard;
use crate::control::protocol::{JobId, Protection};
use crate::error::{NetError, Result};
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
/// How long a peer may hang up on us before the proof, and how often we call again.
const HANG_UPS: Duration = Duration::from_secs(8);
const CALL_AGAIN: Duration = Duration::from_millis(100);

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
    /// After so long without an answer of the peer's kernel a connection is given up.
    pub unanswered: Duration,
}

/// A listening rank, before the connections are made.
pub struct Mesh {
    listener: TcpListener,
}

impl Mesh {
    /// Listens on a free port of `address`.
    pub fn listen(address: IpAddr) -> Result<Mesh> {
        let listener =
            TcpListener::bind((address, 0)).map_err(NetError::os(format!("listening on {address}")))?;
        listener.set_nonblocking(true).map_err(NetError::os("listening"))?;
        // The standard library's queue is short for all ranks of a large job.
        let _ = rustix::net::listen(&listener, 4096);
        Ok(Mesh { listener })
    }

    /// Where the others find this rank.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(NetError::os("asking for the listening port"))
    }

    /// Connects to all `peers` (rank and address; not this rank itself), within `limit`.
    pub fn connect(self, config: &MeshConfig, peers: &[(u32, SocketAddr)], limit: Duration) -> Result<Tcp> {
        let deadline = Instant::now() + limit;
        let context = prologue("data", config.job, config.epoch);
        let mut links = Vec::new();
        for &(peer, address) in peers.iter().filter(|p| p.0 < config.rank) {
            links.push(Link::call(config, &context, peer, address, deadline)?);
        }
        let mut done: Vec<(u32, TcpStream, Box<Established>)> = Vec::new();
        while done.len() < peers.len() {
            let now = Instant::now();
            if now >= deadline {
                let missing: Vec<_> = peers
                    .iter()
                    .filter(|p| done.iter().all(|d| d.0 != p.0))
                    .map(|p| p.0.to_string())
                    .collect();
                return Err(NetError::TimedOut {
                    what: format!("connecting rank {} with rank {}", config.rank, missing.join(", ")),
                    seconds: limit.as_secs(),
                    help: "check that the hosts reach each other on the interface in use (--interface)"
                        .into(),
                });
            }
            self.wait(&links)?;
            self.accept(&mut links)?;
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
                    Err(NetError::Lost { .. }) if links[at].may_call_again(now) => {
                        std::thread::sleep(CALL_AGAIN);
                        let old = links.swap_remove(at);
                        if let Some((peer, address)) = old.wants {
                            let mut link = Link::call(config, &context, peer, address, deadline)?;
                            link.hung_up = old.hung_up.or(Some(now));
                            links.push(link);
                        }
                    }
                    Err(e) if links[at].outgoing() => return Err(e),
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

    fn wait(&self, links: &[Link]) -> Result<()> {
        let mut fds: Vec<_> = links.iter().map(|l| PollFd::new(&l.stream, PollFlags::IN)).collect();
        let mut ms = 200;
        if may_accept(links) {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        } else {
            // Somebody may wait at the door, and nothing tells when there is room.
            ms = 50;
        }
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(NetError::os("waiting for connections")(e.into())),
        }
    }

    fn accept(&self, links: &mut Vec<Link>) -> Result<()> {
        while may_accept(links) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    make_room(links);
                    // One that is gone already is nobody's trouble.
                    links.extend(Link::new(stream, None).ok());
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // No descriptor to be had now: others may give theirs back.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS)) => {
                    std::thread::sleep(CALL_AGAIN);
                    return Ok(());
                }
                Err(e) => return Err(NetError::os("accepting a connection")(e)),
            }
        }
        Ok(())
    }
}

fn strangers(links: &[Link]) -> impl Iterator<Item = (usize, &Link)> {
    links.iter().enumerate().filter(|(_, link)| !link.outgoing())
}

fn may_accept(links: &[Link]) -> bool {
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
    shake: Option<Handshake>,
    /// The keys, while the caller's sign of life is awaited.
    keys: Option<(u32, Established)>,
    input: Vec<u8>,
    since: Instant,
    /// When the peer first hung up on this call, over all its tries.
    hung_up: Option<Instant>,
    until: Instant,
}

impl Link {
    /// Calls a rank and sends the first message.
    fn call(
        config: &MeshConfig,
        context: &[u8],
        peer: u32,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<Link> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let stream = TcpStream::connect_timeout(&address, left).map_err(|e| NetError::Lost {
            peer: format!("rank {peer}"),
            what: format!(
                "cannot connect to {address}: {e} (a firewall, or the wrong network? see --interface)"
            ),
        })?;
        let mut shake = Handshake::new(Role::Initiator, &config.secret, context)?;
        let mut link = Link::new(stream, Some((peer, address)))?;
        let hello = [config.rank.to_le_bytes(), peer.to_le_bytes()].concat();
        link.send(&shake.write(&hello)?)?;
        link.shake = Some(shake);
        Ok(link)
    }

    fn may_call_again(&self, now: Instant) -> bool {
        let since = self.hung_up.unwrap_or(now);
        self.outgoing() && now.saturating_duration_since(since) < HANG_UPS
    }

    fn new(stream: TcpStream, wants: Option<(u32, SocketAddr)>) -> Result<Link> {
        stream.set_nodelay(true).map_err(NetError::os("setting TCP_NODELAY"))?;
        stream.set_nonblocking(true).map_err(NetError::os("setting a socket to non-blocking"))?;
        let since = Instant::now();
        let until = since + UNPROVEN_TIME;
        Ok(Link { stream, wants, shake: None, keys: None, input: Vec::new(), since, hung_up: None, until })
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
                self.hung_up("it cut the connection during the handshake")
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

    fn hung_up(&self, what: &str) -> NetError {
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
                Ok(0) => return Err(self.hung_up("it hung up during the handshake")),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Err(self.hung_up("it cut the connection during the handshake"));
                }
                Err(e) => return Err(NetError::os("reading a handshake")(e)),
            }
            if self.input.len() > UNPROVEN_BYTES {
                return Err(self.stranger("too many bytes before its proof"));
            }
        }
    }

    fn step(&mut self, config: &MeshConfig, context: &[u8]) -> Result<Progress> {
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
            unanswered: Duration::from_secs(1),
        }
    }

    fn wires(size: u32, protection: Protection) -> Vec<Tcp> {
        let secret = Secret::random().unwrap();
        let meshes: Vec<_> = (0..size).map(|_| Mesh::listen(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
        let all: Vec<_> = meshes.iter().zip(0..).map(|(m, r)| (r, m.address().unwrap())).collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = meshes
                .into_iter()
                .zip(0..)
                .map(|(mesh, rank)| {
                    let (all, config) = (&all, config(rank, size, &secret, protection));
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
            let server = scope.spawn(|| mesh.connect(&good, &[(1, address)], Duration::from_secs(20)));
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
    fn a_peer_that_does_not_read_for_long_is_not_lost() {
        let mut wires = wires(2, Protection::Checksummed);
        let (mut b, mut a) = (wires.pop().unwrap(), wires.pop().unwrap());
        let body = Buf::from_slice(&vec![7; 16 << 20]);
        a.post(1, Packet { kind: Kind::Data, edge: 1, tag: 3, body }).unwrap();
        // Three times what may be unanswered: its host answers for it.
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            a.progress(&mut Vec::new()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let came = pump(&mut a, &mut b, 1);
        assert!(came[0].packet.body.len() == 16 << 20 && came[0].packet.body.iter().all(|x| *x == 7));
    }

    #[test]
    fn a_record_that_announces_too_much_is_damage() {
        let mut wires = wires(2, Protection::Checksummed);
        let (mut b, a) = (wires.pop().unwrap(), wires.pop().unwrap());
        let mut record = (200u32 << 10).to_le_bytes().to_vec();
        record.resize(200 << 10, 1);
        let sent = std::thread::spawn(move || {
            let _ = (&a.conns[0].stream).write_all(&record);
            a
        });
        let err = loop {
            match b.progress(&mut Vec::new()) {
                Ok(_) => std::thread::yield_now(),
                Err(e) => break e.to_string(),
            }
        };
        drop(b);
        drop(sent.join());
        assert!(err.contains("a record of 204800 bytes"), "{err}");
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
}
