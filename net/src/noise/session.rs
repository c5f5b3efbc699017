//! An authenticated message stream without input or output: bytes in, messages out, and the other way round.

use super::{Cipher, Handshake, MAX_NOISE, MAX_PLAIN, Role, TAG};
use crate::error::{NetError, Result};
use crate::secret::Secret;

/// The longest message that a session carries.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Bytes that a peer may send before it has proven that it knows the secret.
pub const UNPROVEN_BYTES: usize = 4096;
/// The longest handshake message: 32 bytes of key, 16 of tag, no payload.
const MAX_HANDSHAKE: usize = 48;

enum State {
    Shaking(Box<Handshake>),
    Open(Cipher),
    Broken,
}

/// One end of an authenticated, encrypted stream of messages.
///
/// On the wire stand Noise messages, each behind its length (u16, little-endian). After the handshake the initiator
/// sends one empty Noise message: with it, it has proven that it knows the secret *now*. A longer message follows as
/// its length (u32) and its bytes, cut into Noise messages. Memory grows with the bytes that have come, not with
/// those announced.
pub struct Session {
    state: State,
    role: Role,
    proven: bool,
    received: usize,
    /// Bytes that came and are not yet decrypted.
    sealed: Vec<u8>,
    /// Decrypted bytes that are not yet handed out.
    plain: Vec<u8>,
    taken: usize,
    out: Vec<u8>,
    sent: usize,
    /// Messages queued before the handshake was through.
    early: Vec<Vec<u8>>,
}

impl Session {
    /// A new session; the initiator's first bytes are ready in [`Session::outgoing`].
    ///
    /// # Errors
    /// As [`Handshake::new`].
    pub fn new(role: Role, secret: &Secret, context: &[u8]) -> Result<Self> {
        let mut handshake = Box::new(Handshake::new(role, secret, context)?);
        let mut out = Vec::new();
        if role == Role::Initiator {
            push_frame(&mut out, &handshake.write(b"")?);
        }
        Ok(Session {
            state: State::Shaking(handshake),
            role,
            proven: false,
            received: 0,
            sealed: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            out,
            sent: 0,
            early: Vec::new(),
        })
    }

    /// Whether the peer has proven that it knows the secret.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether the peer has sent a genuine first message. It may be a recorded one, so this proves nothing yet.
    pub fn is_answered(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// How many bytes may be read from the peer now: bounded by [`UNPROVEN_BYTES`] until it is proven.
    pub fn appetite(&self) -> usize {
        if self.proven { MAX_NOISE + 2 } else { UNPROVEN_BYTES.saturating_sub(self.received) }
    }

    /// Takes bytes that came from the peer.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] or [`NetError::Protocol`]: close the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.received = self.received.saturating_add(bytes.len());
        self.sealed.extend_from_slice(bytes);
        let mut at = 0;
        let result = loop {
            match self.open_frame(at) {
                Ok(Some(next)) => at = next,
                Ok(None) => break Ok(()),
                Err(error) => {
                    self.state = State::Broken;
                    break Err(error);
                }
            }
        };
        self.sealed.drain(..at);
        if self.sealed.is_empty() && self.sealed.capacity() > 2 * MAX_NOISE {
            self.sealed = Vec::new();
        }
        result?;
        if !self.proven && self.received >= UNPROVEN_BYTES {
            return Err(NetError::NotAllowed {
                peer: "the peer".into(),
                what: "4 KiB came without a proof".into(),
            });
        }
        Ok(())
    }

    /// Handles the frame that starts at `at`, if all of it is there, and tells where the next one starts.
    fn open_frame(&mut self, at: usize) -> Result<Option<usize>> {
        let Some(head) = self.sealed.get(at..at + 2) else { return Ok(None) };
        let len = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let limit = match &self.state {
            State::Shaking(_) => MAX_HANDSHAKE,
            // The first one is the proof, and empty.
            State::Open(_) if !self.proven => TAG,
            State::Open(_) => MAX_NOISE,
            State::Broken => return Err(protocol("bytes after an error")),
        };
        if len > limit || len < TAG {
            return Err(protocol(&format!("a frame of {len} bytes where {TAG} to {limit} are allowed")));
        }
        let (start, end) = (at + 2, at + 2 + len);
        if self.sealed.len() < end {
            return Ok(None);
        }
        match &mut self.state {
            State::Shaking(handshake) => {
                handshake.read(&self.sealed[start..end])?;
                if self.role == Role::Responder {
                    push_frame(&mut self.out, &handshake.write(b"")?);
                }
                self.open()?;
            }
            State::Open(cipher) => {
                let before = self.plain.len();
                cipher.decrypt(&self.sealed[start..end], &mut self.plain)?;
                if !self.proven {
                    self.proven = true;
                } else if self.plain.len() == before {
                    return Err(protocol("an empty frame"));
                }
                self.check_length()?;
            }
            State::Broken => {}
        }
        Ok(Some(end))
    }

    /// Ends the handshake and sends what waited for it.
    fn open(&mut self) -> Result<()> {
        let State::Shaking(handshake) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(protocol("a second handshake"));
        };
        let mut cipher = handshake.finish()?.cipher;
        if self.role == Role::Initiator {
            // The answer was made with the secret and our fresh key: the responder is proven.
            self.proven = true;
            seal(&mut cipher, b"", &mut self.out)?;
        }
        for message in std::mem::take(&mut self.early) {
            seal_message(&mut cipher, &message, &mut self.out)?;
        }
        self.state = State::Open(cipher);
        Ok(())
    }

    fn announced(&self) -> Option<usize> {
        let head = self.plain.get(self.taken..self.taken + 4)?;
        Some(u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize)
    }

    fn check_length(&self) -> Result<()> {
        match self.announced() {
            Some(len) if len > MAX_MESSAGE => Err(protocol(&format!("a message of {len} bytes"))),
            _ => Ok(()),
        }
    }

    /// The next whole message from the peer, if one is there.
    ///
    /// # Errors
    /// [`NetError::Protocol`] if the peer announces more than [`MAX_MESSAGE`] bytes.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>> {
        self.check_length()?;
        let Some(len) = self.announced() else { return Ok(None) };
        let start = self.taken + 4;
        let Some(message) = self.plain.get(start..start + len) else { return Ok(None) };
        let message = message.to_vec();
        self.taken = start + len;
        if self.taken == self.plain.len() {
            self.plain = Vec::new();
            self.taken = 0;
        } else if self.taken > self.plain.len() / 2 {
            self.plain.drain(..self.taken);
            self.taken = 0;
        }
        Ok(Some(message))
    }

    /// Queues a message of at most [`MAX_MESSAGE`] bytes for the peer.
    ///
    /// # Errors
    /// [`NetError::Internal`] if it is longer, [`NetError::Protocol`] if the session is broken.
    pub fn queue(&mut self, message: &[u8]) -> Result<()> {
        if message.len() > MAX_MESSAGE {
            return Err(NetError::Internal(format!(
                "a control message of {} bytes: at most {MAX_MESSAGE} are possible",
                message.len()
            )));
        }
        match &mut self.state {
            State::Shaking(_) => self.early.push(message.to_vec()),
            State::Open(cipher) => seal_message(cipher, message, &mut self.out)?,
            State::Broken => return Err(protocol("sending after an error")),
        }
        Ok(())
    }

    /// Bytes that are to be written to the peer.
    pub fn outgoing(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// Says that the first `n` bytes of [`Session::outgoing`] have been written.
    pub fn written(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.out.len());
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.out.shrink_to(4 * MAX_NOISE);
        }
    }
}

fn seal_message(cipher: &mut Cipher, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let first = message.len().min(MAX_PLAIN - 4);
    let mut chunk = Vec::with_capacity(4 + first);
    chunk.extend_from_slice(&(message.len() as u32).to_le_bytes());
    chunk.extend_from_slice(&message[..first]);
    seal(cipher, &chunk, out)?;
    for rest in message[first..].chunks(MAX_PLAIN) {
        seal(cipher, rest, out)?;
    }
    Ok(())
}

fn seal(cipher: &mut Cipher, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(&((plain.len() + TAG) as u16).to_le_bytes());
    cipher.encrypt(plain, out)
}

fn push_frame(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn protocol(what: &str) -> NetError {
    NetError::Protocol { peer: "the peer".into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (Session, Session) {
        let secret = Secret::random().unwrap();
        (
            Session::new(Role::Initiator, &secret, b"test").unwrap(),
            Session::new(Role::Responder, &secret, b"test").unwrap(),
        )
    }

    /// Moves bytes both ways, `step` at a time, until nothing is left.
    fn pump(a: &mut Session, b: &mut Session, step: usize) {
        while !a.outgoing().is_empty() || !b.outgoing().is_empty() {
            for forward in [true, false] {
                let (from, to) = if forward { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
                let n = from.outgoing().len().min(step);
                to.feed(&from.outgoing()[..n]).unwrap();
                from.written(n);
            }
        }
    }

    #[test]
    fn responder_trusts_only_after_the_first_transport_message() {
        let (mut a, mut b) = pair();
        let hello = a.outgoing().to_vec();
        b.feed(&hello).unwrap();
        assert!(!b.is_proven(), "the first message may be a recorded one");
        a.written(hello.len());
        pump(&mut a, &mut b, 1);
        assert!(a.is_proven() && b.is_proven());
    }

    #[test]
    fn replay_of_a_whole_conversation_fails() {
        let secret = Secret::random().unwrap();
        let mut a = Session::new(Role::Initiator, &secret, b"test").unwrap();
        let mut b = Session::new(Role::Responder, &secret, b"test").unwrap();
        a.queue(b"register").unwrap();
        let mut recorded = a.outgoing().to_vec();
        b.feed(a.outgoing()).unwrap();
        a.written(recorded.len());
        a.feed(b.outgoing()).unwrap();
        recorded.extend_from_slice(a.outgoing());
        b.feed(a.outgoing()).unwrap();
        assert_eq!(b.next_message().unwrap().unwrap(), b"register");
        let mut again = Session::new(Role::Responder, &secret, b"test").unwrap();
        assert!(again.feed(&recorded).is_err());
        assert!(!again.is_proven());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn messages_of_any_size_pass_in_any_portions(
            sizes in prop::collection::vec(prop_oneof![0usize..40, 65_400usize..65_600, 100_000usize..300_000], 1..5),
            step in 1usize..70_000,
        ) {
            let (mut a, mut b) = pair();
            let step = if sizes.iter().any(|s| *s > 1000) { step.max(500) } else { step };
            for (i, size) in sizes.iter().enumerate() {
                a.queue(&vec![i as u8; *size]).unwrap();
            }
            pump(&mut a, &mut b, step);
            for (i, size) in sizes.iter().enumerate() {
                prop_assert_eq!(b.next_message().unwrap().unwrap(), vec![i as u8; *size]);
            }
            prop_assert!(b.next_message().unwrap().is_none());
        }

        #[test]
        fn random_bytes_never_prove_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
            let (mut a, mut b) = pair();
            for end in [&mut a, &mut b] {
                let result = end.feed(&bytes);
                prop_assert!(!end.is_proven());
                prop_assert!(end.next_message().unwrap().is_none());
                prop_assert!(bytes.len() < UNPROVEN_BYTES || result.is_err());
            }
        }

        #[test]
        fn a_flipped_bit_anywhere_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (mut a, mut b) = pair();
            pump(&mut a, &mut b, 1000);
            a.queue(&[7; 300]).unwrap();
            let mut wire = a.outgoing().to_vec();
            wire[at.index(300 + 4 + TAG + 2)] ^= 1 << bit;
            let _ = b.feed(&wire);
            prop_assert!(b.next_message().unwrap().is_none());
        }
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused() {
        let (mut a, mut b) = pair();
        pump(&mut a, &mut b, 1000);
        assert!(a.queue(&vec![0; MAX_MESSAGE + 1]).is_err());
        let State::Open(cipher) = &mut a.state else { panic!("open") };
        let mut wire = Vec::new();
        seal(cipher, &(MAX_MESSAGE as u32 + 1).to_le_bytes(), &mut wire).unwrap();
        assert!(b.feed(&wire).is_err());
    }
}
