//! Mutual proof of the job's secret and the protection of what follows: Noise `NNpsk0` with Curve25519,
//! ChaCha20-Poly1305 and BLAKE2s, by the crate `snow`. The secret is the pre-shared key, so both ends prove that they
//! know it without showing it; fresh ephemeral keys keep old traffic safe should the secret leak later.
//!
//! [`Handshake`] and [`Cipher`] do no input or output: the control connection ([`NoiseStream`]) and the TCP data
//! transport share them.
//!
//! The responder must not trust its peer before the first transport message has been decrypted: the initiator's first
//! message alone could be a recorded one. [`Session`] keeps that rule.

mod session;
mod stream;

pub use session::{MAX_MESSAGE, Session, UNPROVEN_BYTES};
pub(crate) use stream::poll_ready;
pub use stream::{NoiseStream, Readiness};

use zeroize::{Zeroize as _, Zeroizing};

use crate::control::protocol::JobId;
use crate::error::{NetError, Result};
use crate::secret::Secret;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const MAC_CONTEXT: &str = "aeolian 1 frame mac";
/// The longest Noise message.
pub const MAX_NOISE: usize = 65535;
/// The longest plain text that fits one Noise message (16 bytes go to the tag).
pub const MAX_PLAIN: usize = MAX_NOISE - TAG;
/// Bytes that encryption adds to a message.
pub const TAG: usize = 16;

/// What both ends must agree on besides the secret: a peer of another job, another epoch or another kind of
/// connection fails the handshake.
///
/// `kind` is `control` or `data`.
pub fn prologue(kind: &str, job: JobId, epoch: u32) -> Vec<u8> {
    let mut bytes = format!("aeolian/1 {kind}\0").into_bytes();
    bytes.extend_from_slice(job.as_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes
}

/// Which end of a handshake we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Connects and speaks first.
    Initiator,
    /// Accepts and answers.
    Responder,
}

/// A key for authenticating the frames of one direction of one connection where they are not encrypted. Wiped when
/// dropped.
#[derive(Clone)]
pub struct MacKey([u8; 32]);

impl MacKey {
    /// The key, for `blake3::Hasher::new_keyed`.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for MacKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// A handshake under way: the initiator writes, then reads; the responder reads, then writes.
///
/// ```
/// use aeolian_net::{control::protocol::JobId, noise::{Handshake, Role, prologue}, secret::Secret};
/// let (secret, context) = (Secret::random()?, prologue("data", JobId::random()?, 0));
/// let mut ours = Handshake::new(Role::Initiator, &secret, &context)?;
/// let mut theirs = Handshake::new(Role::Responder, &secret, &context)?;
/// assert_eq!(theirs.read(&ours.write(b"rank 1")?)?, b"rank 1");
/// ours.read(&theirs.write(b"")?)?;
/// let (mut ours, mut theirs) = (ours.finish()?, theirs.finish()?);
/// let (mut sealed, mut plain) = (Vec::new(), Vec::new());
/// ours.cipher.encrypt(b"rows", &mut sealed)?;
/// theirs.cipher.decrypt(&sealed, &mut plain)?;
/// assert_eq!(plain, b"rows");
/// assert_eq!(ours.send_mac.as_bytes(), theirs.receive_mac.as_bytes());
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Handshake {
    state: snow::HandshakeState,
    role: Role,
    secret: Secret,
}

/// What a finished handshake gives.
#[derive(Debug)]
pub struct Established {
    /// Encrypts what we send and decrypts what comes, in order.
    pub cipher: Cipher,
    /// Key for frames that we send.
    pub send_mac: MacKey,
    /// Key for frames that come from the peer.
    pub receive_mac: MacKey,
}

impl Handshake {
    /// Starts a handshake. `context` comes from [`prologue`].
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] if the system has no random numbers to give.
    pub fn new(role: Role, secret: &Secret, context: &[u8]) -> Result<Self> {
        let params = PATTERN.parse().map_err(failed)?;
        let builder = snow::Builder::new(params)
            .psk(0, secret.as_bytes())
            .and_then(|builder| builder.prologue(context))
            .map_err(failed)?;
        let state = match role {
            Role::Initiator => builder.build_initiator(),
            Role::Responder => builder.build_responder(),
        }
        .map_err(failed)?;
        Ok(Handshake { state, role, secret: secret.clone() })
    }

    /// Our next handshake message, carrying `payload`. The initiator's payload is secret from others but may be a
    /// recorded one: act on it only after the first transport message.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] if it is not our turn or the payload is longer than a message.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        let mut message = vec![0; payload.len() + 64];
        let n = self.state.write_message(payload, &mut message).map_err(failed)?;
        message.truncate(n);
        Ok(message)
    }

    /// Takes the peer's next handshake message and returns its payload.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] if the peer does not know the secret, or is of another job, epoch or kind.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        let mut payload = vec![0; message.len()];
        let n = self.state.read_message(message, &mut payload).map_err(failed)?;
        payload.truncate(n);
        Ok(payload)
    }

    /// Whether both messages have passed.
    pub fn is_finished(&self) -> bool {
        self.state.is_handshake_finished()
    }

    /// Ends the handshake.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] if it is not complete.
    pub fn finish(self) -> Result<Established> {
        let hash = self.state.get_handshake_hash().to_vec();
        let cipher = Cipher { state: self.state.into_transport_mode().map_err(failed)? };
        let (to_responder, to_initiator) = (mac_key(&self.secret, &hash, 0), mac_key(&self.secret, &hash, 1));
        let (send_mac, receive_mac) = match self.role {
            Role::Initiator => (to_responder, to_initiator),
            Role::Responder => (to_initiator, to_responder),
        };
        Ok(Established { cipher, send_mac, receive_mac })
    }
}

/// `blake3::derive_key(context, secret || handshake hash || direction)`.
fn mac_key(secret: &Secret, hash: &[u8], direction: u8) -> MacKey {
    let mut material = Zeroizing::new(Vec::with_capacity(65));
    material.extend_from_slice(secret.as_bytes());
    material.extend_from_slice(hash);
    material.push(direction);
    MacKey(blake3::derive_key(MAC_CONTEXT, &material))
}

/// The two ciphers of an open connection. Messages must be decrypted in the order in which they were encrypted; a
/// changed, lost, repeated or swapped one fails.
pub struct Cipher {
    state: snow::TransportState,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(..)")
    }
}

impl Cipher {
    /// Encrypts up to [`MAX_PLAIN`] bytes and appends the result ([`TAG`] bytes longer) to `out`.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] if `plain` is too long or 2^64 messages have been sent.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.resize(start + plain.len() + TAG, 0);
        match self.state.write_message(plain, &mut out[start..]) {
            Ok(n) => {
                out.truncate(start + n);
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(failed(error))
            }
        }
    }

    /// Decrypts one message and appends its plain text to `out`.
    ///
    /// # Errors
    /// [`NetError::NotAllowed`] if the message is not the next one that the peer encrypted; `out` is unchanged.
    pub fn decrypt(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.resize(start + sealed.len(), 0);
        match self.state.read_message(sealed, &mut out[start..]) {
            Ok(n) => {
                out.truncate(start + n);
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(failed(error))
            }
        }
    }
}

fn failed(error: snow::Error) -> NetError {
    let what = match error {
        snow::Error::Decrypt => "it does not know the secret, or belongs to another job or epoch".into(),
        other => format!("the handshake failed ({other})"),
    };
    NetError::NotAllowed { peer: "the peer".into(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(a: (&Secret, &[u8]), b: (&Secret, &[u8])) -> Result<(Established, Established)> {
        let mut initiator = Handshake::new(Role::Initiator, a.0, a.1)?;
        let mut responder = Handshake::new(Role::Responder, b.0, b.1)?;
        responder.read(&initiator.write(b"")?)?;
        initiator.read(&responder.write(b"")?)?;
        Ok((initiator.finish()?, responder.finish()?))
    }

    #[test]
    fn another_secret_job_epoch_or_kind_fails() {
        let (secret, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        let (job, stranger) = (JobId::random().unwrap(), JobId::random().unwrap());
        let good = prologue("control", job, 1);
        assert!(pair((&secret, &good), (&secret, &good)).is_ok());
        assert!(pair((&secret, &good), (&other, &good)).is_err());
        for bad in [prologue("control", stranger, 1), prologue("control", job, 2), prologue("data", job, 1)] {
            assert!(pair((&secret, &good), (&secret, &bad)).is_err());
        }
    }

    #[test]
    fn cipher_refuses_changed_repeated_and_swapped_messages() {
        let secret = Secret::random().unwrap();
        let (mut a, mut b) = pair((&secret, b"x"), (&secret, b"x")).unwrap();
        let (mut first, mut second, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        a.cipher.encrypt(b"first", &mut first).unwrap();
        a.cipher.encrypt(b"second", &mut second).unwrap();
        assert!(b.cipher.decrypt(&second, &mut plain).is_err(), "out of order");
        let mut changed = first.clone();
        changed[0] ^= 1;
        assert!(b.cipher.decrypt(&changed, &mut plain).is_err(), "changed");
        assert!(plain.is_empty());
        b.cipher.decrypt(&first, &mut plain).unwrap();
        assert!(b.cipher.decrypt(&first, &mut plain).is_err(), "repeated");
        b.cipher.decrypt(&second, &mut plain).unwrap();
        assert_eq!(plain, b"firstsecond");
        assert!(a.cipher.encrypt(&vec![0; MAX_PLAIN + 1], &mut first).is_err(), "too long");
        assert!(a.cipher.encrypt(&vec![0; MAX_PLAIN], &mut first).is_ok());
    }

    #[test]
    fn mac_keys_pair_up_and_differ_by_direction_and_connection() {
        let secret = Secret::random().unwrap();
        let (a, b) = pair((&secret, b"x"), (&secret, b"x")).unwrap();
        let (c, _) = pair((&secret, b"x"), (&secret, b"x")).unwrap();
        assert_eq!(a.send_mac.as_bytes(), b.receive_mac.as_bytes());
        assert_eq!(a.receive_mac.as_bytes(), b.send_mac.as_bytes());
        assert_ne!(a.send_mac.as_bytes(), a.receive_mac.as_bytes());
        assert_ne!(a.send_mac.as_bytes(), c.send_mac.as_bytes());
    }
}
