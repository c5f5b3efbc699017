//! Handshakes whose other end knows the secret, or only talks.

use super::*;
use crate::control::protocol::{JobId, Protection};
use crate::damaged::{Script, check, piece};
use crate::noise::prologue;
use crate::secret::Secret;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// This rank, and how many there are: 0 is called, 2 calls.
const RANK: u32 = 1;
const SIZE: u32 = 3;

/// What the other end does: bytes as they are; a piece behind its length; its part of the handshake, with other words or the right ones.
const RAW: u8 = 0;
const FRAMED: u8 = 1;
const WORDS: u8 = 2;
const SHAKE: u8 = 3;

/// The other end.
enum Other {
    New(Handshake),
    Called(Handshake),
    Done,
}

/// Both ends, as they are and with words of the script.
pub fn good() -> Vec<Vec<u8>> {
    let words = [2u32.to_le_bytes(), RANK.to_le_bytes()].concat();
    let worded = [vec![WORDS], piece(&words)].concat();
    vec![
        vec![0, SHAKE, SHAKE],
        vec![1, SHAKE],
        [&[0][..], &worded, &[SHAKE]].concat(),
        [&[1][..], &worded].concat(),
    ]
}

/// The script begins with the end that is looked at: 0, it is called; 1, it calls.
pub fn decode(script: &[u8]) -> Result<bool, String> {
    let mut script = Script::new(script);
    let calls = script.byte().unwrap_or(0) & 1 == 1;
    let text = |e: NetError| e.to_string();
    let io = |e: std::io::Error| e.to_string();
    let secret = Secret::from_bytes(&[5; 32]);
    let (job, epoch) = (JobId::from_bytes([7; 16]), 3);
    let context = prologue("data", job, epoch);
    let config = MeshConfig {
        rank: RANK,
        size: SIZE,
        job,
        epoch,
        secret: secret.clone(),
        protection: Protection::Checksummed,
        unanswered: Duration::from_secs(10),
    };
    let (near, far) = UnixStream::pair().map_err(io)?;
    near.set_nonblocking(true).map_err(io)?;
    far.set_nonblocking(true).map_err(io)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut link = Link::over(OwnedFd::from(near).into(), calls.then_some((0, address)));
    if calls {
        link.introduce(0, &config, &context).map_err(text)?;
    }
    let role = if calls { Role::Responder } else { Role::Initiator };
    let mut other = Other::New(Handshake::new(role, &secret, &context).map_err(text)?);
    let mut clean = true;
    while let Some(step) = script.byte() {
        let right = [2u32.to_le_bytes(), RANK.to_le_bytes()].concat();
        let bytes = match step % 4 {
            RAW => script.piece().to_vec(),
            FRAMED => piece(script.piece()),
            how => {
                let words = if how == WORDS { script.piece() } else { &right };
                // A called rank looks at the first two words; a caller at none.
                let message;
                (message, other) = next(other, words, &far)?;
                let fits = calls || !matches!(other, Other::Called(_)) || words.starts_with(&right);
                clean &= fits && message.len() <= MAX_HANDSHAKE;
                if message.is_empty() { message } else { piece(&message) }
            }
        };
        clean &= step % 4 >= WORDS || bytes.is_empty();
        // No more than a socket holds.
        (&far).write_all(&bytes).map_err(io)?;
        loop {
            match link.step(&config, &context) {
                Ok(Progress::Done(peer, _)) => {
                    check(peer == if calls { 0 } else { 2 }, "another rank was taken for it")?;
                    check(clean && matches!(other, Other::Done), "it takes for a proof what is none")?;
                    return Ok(true);
                }
                // One message a step; what has come of the next one stays.
                Ok(Progress::Waiting) if waiting(&link) => {}
                Ok(Progress::Waiting) => break,
                Err(e @ (NetError::NotAllowed { .. } | NetError::Protocol { .. })) => {
                    check(!clean, &format!("it broke off, for no reason: {e}"))?;
                    return Ok(false);
                }
                Err(e) => return Err(text(e)),
            }
        }
        check(!matches!(other, Other::Done) || !clean, "it does not end")?;
        check(link.input.len() <= UNPROVEN_BYTES, "it keeps more than an unproven peer may send")?;
    }
    Ok(false)
}

/// True if bytes are there to be read.
fn waiting(link: &Link) -> bool {
    rustix::io::ioctl_fionread(&link.stream).is_ok_and(|n| n > 0)
}

/// The other end's next message, and what it is then.
fn next(other: Other, words: &[u8], far: &UnixStream) -> Result<(Vec<u8>, Other), String> {
    let text = |e: NetError| e.to_string();
    Ok(match other {
        Other::New(mut shake) => {
            let heard = hear(far);
            if heard.is_empty() {
                let hello = shake.write(words).map_err(text)?;
                return Ok((hello, Other::Called(shake)));
            }
            shake.read(&heard).map_err(text)?;
            (shake.write(words).map_err(text)?, Other::Done)
        }
        Other::Called(mut shake) => {
            let heard = hear(far);
            if heard.is_empty() {
                return Ok((Vec::new(), Other::Called(shake)));
            }
            shake.read(&heard).map_err(text)?;
            let mut alive = Vec::new();
            shake.finish().map_err(text)?.cipher.encrypt(b"", &mut alive).map_err(text)?;
            (alive, Other::Done)
        }
        other => (Vec::new(), other),
    })
}

/// What the end that is looked at has said.
fn hear(mut far: &UnixStream) -> Vec<u8> {
    let mut bytes = [0; 2 + MAX_HANDSHAKE];
    let n = far.read(&mut bytes).unwrap_or(0);
    bytes.get(2..n).unwrap_or_default().to_vec()
}
