//! Control connections whose other end knows the secret, or only talks.

use super::{Script, check, piece};
use crate::error::NetError;
use crate::noise::{Cipher, Handshake, MAX_PLAIN, Role, Session, UNPROVEN_BYTES};
use crate::secret::Secret;

/// What the other end does: bytes as they are; a piece, sealed; a message; its next part of the handshake.
const RAW: u8 = 0;
const SEALED: u8 = 1;
const MESSAGE: u8 = 2;
const SHAKE: u8 = 3;

/// The other end.
enum Other {
    /// Has to send its part of the handshake.
    New(Handshake),
    /// Has sent it, and waits for the answer.
    Called(Handshake),
    /// Has to seal nothing, as its proof.
    Unproven(Cipher),
    Open(Cipher),
}

/// Both ends, with messages and without.
pub fn good() -> Vec<Vec<u8>> {
    let (hello, message) = (vec![SHAKE], [vec![MESSAGE], piece(b"register me")].concat());
    // A message in two frames, of which the first has half a length.
    let split = [vec![SEALED], piece(&[3, 0]), vec![SEALED], piece(&[0, 0, 1, 2, 3])].concat();
    let both = [&hello[..], &message, &split, &message].concat();
    vec![[&[0][..], &hello, &hello, &both].concat(), [&[1][..], &both].concat(), [&[1][..], &hello].concat()]
}

/// The script begins with the end that is looked at: 0, it answers; 1, it calls.
pub fn decode(script: &[u8]) -> Result<bool, String> {
    let mut script = Script::new(script);
    let secret = Secret::from_bytes(&[5; 32]);
    let (role, others) = match script.byte().unwrap_or(0) & 1 {
        0 => (Role::Responder, Role::Initiator),
        _ => (Role::Initiator, Role::Responder),
    };
    let text = |e: NetError| e.to_string();
    let mut session = Session::new(role, &secret, b"damaged").map_err(text)?;
    let mut other = Other::New(Handshake::new(others, &secret, b"damaged").map_err(text)?);
    // What was sealed after the proof, of which messages are made, and how much of it has come out.
    let (mut plain, mut out, mut clean, mut proven) = (Vec::new(), 0, true, false);
    while let Some(step) = script.byte() {
        let mut bytes = Vec::new();
        match (step % 4, &mut other) {
            (RAW, _) => {
                bytes.extend_from_slice(script.piece());
                clean &= bytes.is_empty();
            }
            (SHAKE, _) => (bytes, other) = shake(other, &mut session)?,
            (how, Other::Unproven(cipher) | Other::Open(cipher)) => {
                let part = script.piece();
                let head = (part.len() as u32).to_le_bytes();
                let part = match how {
                    MESSAGE => [&head[..], part].concat(),
                    _ => part.to_vec(),
                };
                let part = &part[..part.len().min(MAX_PLAIN)];
                seal(cipher, part, &mut bytes)?;
                proven |= part.is_empty();
                clean &= matches!(other, Other::Open(_)) && !part.is_empty();
                plain.extend_from_slice(part);
            }
            (_, Other::New(_) | Other::Called(_)) => {}
        }
        let fed = session.feed(&bytes);
        check(session.appetite() <= UNPROVEN_BYTES || session.is_proven(), "it reads on without a proof")?;
        proven |= matches!(other, Other::Open(_));
        check(proven || !session.is_proven(), "it takes for a proof what is none")?;
        let broken = fed.is_err();
        match fed.and_then(|()| messages(&mut session, &plain, &mut out)) {
            Ok(right) => check(right || !clean, "messages came out that are not those that were sent")?,
            Err(NetError::NotAllowed { .. } | NetError::Protocol { .. }) => {
                // A length of the script's own, or a message that is none.
                let announced = plain.get(out..out + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                let long = announced.is_some_and(|len| len as usize > crate::noise::MAX_MESSAGE);
                check(!clean || long, "it broke off, for no reason")?;
                check(!broken || session.feed(&[0; 40]).is_err(), "it goes on after an error")?;
                return Ok(false);
            }
            Err(e) => return Err(text(e)),
        };
    }
    Ok(clean && out == plain.len())
}

fn seal(cipher: &mut Cipher, part: &[u8], bytes: &mut Vec<u8>) -> Result<(), String> {
    let mut sealed = Vec::new();
    cipher.encrypt(part, &mut sealed).map_err(|e| e.to_string())?;
    bytes.extend_from_slice(&(sealed.len() as u16).to_le_bytes());
    bytes.append(&mut sealed);
    Ok(())
}

/// The other end's next part, and what it is then.
fn shake(other: Other, session: &mut Session) -> Result<(Vec<u8>, Other), String> {
    let text = |e: NetError| e.to_string();
    let frame = |message: Vec<u8>| [(message.len() as u16).to_le_bytes().to_vec(), message].concat();
    let heard = session.outgoing().get(2..).unwrap_or_default().to_vec();
    let (bytes, next) = match other {
        Other::New(mut shake) if heard.is_empty() => {
            let hello = shake.write(b"").map_err(text)?;
            return Ok((frame(hello), Other::Called(shake)));
        }
        Other::New(mut shake) => {
            shake.read(&heard).map_err(text)?;
            let answer = frame(shake.write(b"").map_err(text)?);
            (answer, Other::Open(shake.finish().map_err(text)?.cipher))
        }
        // Broken off before it has answered.
        Other::Called(shake) if heard.is_empty() => return Ok((Vec::new(), Other::Called(shake))),
        Other::Called(mut shake) => {
            shake.read(&heard).map_err(text)?;
            (Vec::new(), Other::Unproven(shake.finish().map_err(text)?.cipher))
        }
        Other::Unproven(mut cipher) => {
            let mut proof = Vec::new();
            seal(&mut cipher, b"", &mut proof)?;
            return Ok((proof, Other::Open(cipher)));
        }
        Other::Open(cipher) => return Ok((Vec::new(), Other::Open(cipher))),
    };
    session.written(2 + heard.len());
    Ok((bytes, next))
}

/// Takes messages out; true if they are the next ones of what was sent.
fn messages(session: &mut Session, plain: &[u8], out: &mut usize) -> Result<bool, NetError> {
    while let Some(message) = session.next_message()? {
        let whole = [&(message.len() as u32).to_le_bytes()[..], &message].concat();
        if plain.get(*out..*out + whole.len()) != Some(&whole[..]) {
            return Ok(false);
        }
        *out += whole.len();
    }
    Ok(true)
}
