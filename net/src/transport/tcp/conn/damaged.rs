//! Connections whose other end has the keys, or only talks.

use super::*;
use crate::control::protocol::Protection;
use crate::damaged::{Script, check, piece};
use crate::noise::{Established, Handshake, Role};
use crate::secret::Secret;
use crate::transport::Kind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// The rank that errors must name.
const RANK: u32 = 5;
const EPOCH: u32 = 3;
const INLINE_LEN: u64 = INLINE as u64;
/// Bytes of messages in one script.
const MOST: usize = 512 << 10;

/// What the other end does: bytes as they are; a piece, so many times, in a record of its own; one behind a header; a message.
const RAW: u8 = 0;
const RECORD: u8 = 1;
const HEADED: u8 = 2;
const MESSAGE: u8 = 3;

/// All kinds of messages under each protection.
pub fn good() -> Vec<Vec<u8>> {
    // Empty, short, in two records, in several.
    let lengths = [0u32, 5, INLINE as u32 + 1, 20 << 10];
    let messages = lengths.map(|len| [&[MESSAGE, 2][..], &len.to_le_bytes()].concat()).concat();
    // What is announced, and then nothing or all of it.
    let headed = |len: u64, part: &[u8]| {
        [&[HEADED, Kind::Data as u8, 1][..], &len.to_le_bytes(), &piece(part)].concat()
    };
    let parts = [headed(4, &[7; 4]), headed(10_000, &[]), vec![RECORD, 250], piece(&[8; 40])].concat();
    (0..3).map(|guard| [&[guard][..], &messages, &parts].concat()).collect()
}

fn keys() -> Result<(Established, Established), NetError> {
    let secret = Secret::from_bytes(&[5; 32]);
    let mut calls = Handshake::new(Role::Initiator, &secret, b"damaged")?;
    let mut answers = Handshake::new(Role::Responder, &secret, b"damaged")?;
    answers.read(&calls.write(b"")?)?;
    calls.read(&answers.write(b"")?)?;
    Ok((calls.finish()?, answers.finish()?))
}

/// The connection that is looked at, and its other end.
fn ends(protection: Protection) -> Result<(Conn, Conn), NetError> {
    let (near, far) = UnixStream::pair().map_err(NetError::os("making a socket"))?;
    let (ours, theirs) = match protection {
        Protection::Checksummed => (Guard::Checksum, Guard::Checksum),
        _ => {
            let (ours, theirs) = keys()?;
            (Guard::new(protection, ours), Guard::new(protection, theirs))
        }
    };
    let conn = |peer, stream: UnixStream, guard| {
        stream.set_nonblocking(true).map_err(NetError::os("setting a socket to non-blocking"))?;
        Ok(Conn::new(peer, OwnedFd::from(stream).into(), EPOCH, guard))
    };
    Ok((conn(RANK, near, ours)?, conn(0, far, theirs)?))
}

/// The script begins with the protection.
pub fn decode(script: &[u8]) -> Result<bool, String> {
    let mut script = Script::new(script);
    let protection = match script.byte().unwrap_or(0) % 3 {
        0 => Protection::Checksummed,
        1 => Protection::Authenticated,
        _ => Protection::Encrypted,
    };
    let text = |e: NetError| e.to_string();
    let (mut near, mut far) = ends(protection).map_err(text)?;
    let (mut sent, mut inbox, mut clean, mut bytes_sent) = (Vec::new(), Vec::new(), true, 0);
    // A message that the script itself has begun: what it announced, and what is there of it.
    let mut begun: Option<(u64, Vec<u8>)> = None;
    while let Some(step) = script.byte() {
        let mut bytes = Vec::new();
        match step % 4 {
            RAW => {
                bytes.extend_from_slice(script.piece());
                clean &= bytes.is_empty();
            }
            RECORD => {
                let (times, part) = (script.number::<1>() as usize, script.piece());
                let len = (part.len() * times).min(far.guard.max_record());
                let part: &[u8] = &part.iter().copied().cycle().take(len).collect::<Vec<_>>();
                far.guard.seal(far.record_out, part, &[], &mut bytes).map_err(text)?;
                far.record_out += 1;
                match &mut begun {
                    Some((_, body)) if !part.is_empty() => body.extend_from_slice(part),
                    _ => clean = false,
                }
            }
            HEADED => {
                let (kind, edge) = (script.byte().unwrap_or(0), script.number::<1>() as u32);
                let (len, part) = (script.number::<8>(), script.piece());
                let mut header =
                    Header { epoch: EPOCH, seq: far.seq_out, edge, kind: Kind::Data, tag: 0, len }.encode();
                header[12] = kind;
                let record = [&header[..], part].concat();
                let record = &record[..record.len().min(far.guard.max_record())];
                far.guard.seal(far.record_out, record, &[], &mut bytes).map_err(text)?;
                far.record_out += 1;
                far.seq_out = far.seq_out.wrapping_add(1);
                clean &= begun.is_none() && kind == Kind::Data as u8;
                clean &= match len {
                    0..=INLINE_LEN => part.len() as u64 == len,
                    _ => part.is_empty() && len <= MOST as u64,
                };
                begun = Some((len, part.to_vec()));
            }
            _ => {
                let (edge, len) = (script.number::<1>() as u32, script.number::<4>() as usize);
                clean &= begun.is_none();
                bytes_sent += len;
                if bytes_sent <= MOST {
                    let body = vec![step ^ len as u8; len];
                    far.push(Packet { kind: Kind::Data, edge, tag: 0, body: Buf::from_slice(&body) });
                    sent.push(body);
                }
            }
        }
        if let Some((len, body)) = &mut begun
            && body.len() as u64 >= *len
        {
            clean &= body.len() as u64 == *len;
            sent.push(std::mem::take(body));
            begun = None;
        }
        match pass(&mut near, &mut far, &bytes, &mut inbox) {
            Ok(()) => {}
            Err(e) => {
                let named = e.to_string().contains("rank 5");
                let kind = matches!(&e, NetError::Protocol { .. } | NetError::Os { .. });
                check(named && kind, &format!("not the error of a rank: {e}"))?;
                check(!clean, &format!("it broke off, for no reason: {e}"))?;
                return Ok(false);
            }
        }
        if clean {
            let right = inbox.len() == sent.len() && inbox.iter().zip(&sent).all(|(a, b)| is(a, b));
            check(right, "messages came out that are not those that were sent")?;
        }
    }
    Ok(clean && begun.is_none())
}

fn is(arrival: &Arrival, body: &[u8]) -> bool {
    arrival.from == RANK && arrival.packet.body[..] == *body
}

/// What was posted, then `bytes`, goes from `far` to `near`, as much at a time as the socket holds.
fn pass(near: &mut Conn, far: &mut Conn, bytes: &[u8], inbox: &mut Vec<Arrival>) -> Result<(), NetError> {
    let mut left = bytes;
    loop {
        let mut moved = far.write()?;
        if far.idle() && !left.is_empty() {
            match (&far.stream).write(left) {
                Ok(n) => (left, moved) = (&left[n..], true),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(NetError::os("writing to a socket")(e)),
            }
        }
        moved |= near.read(inbox)?;
        if !moved {
            return Ok(());
        }
    }
}
