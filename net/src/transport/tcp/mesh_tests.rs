//! What stands between two ranks until they are connected, over real sockets.

use super::*;
use crate::engine::{Class, Engine, Posted};
use crate::transport::{Kind, Packet, Transport};
use crate::{Buf, transport::Arrival};
use std::io::Write;
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
        let edge = engine.open_edge(0).unwrap();
        assert!(matches!(engine.post(edge, 1, 0, Buf::zeroed(len), Class::Stream).unwrap(), Posted::Done));
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
        let (c1, c2) =
            (config(1, 3, &secret, Protection::Checksummed), config(2, 3, &secret, Protection::Checksummed));
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
