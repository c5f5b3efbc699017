//! How the records of a connection are guarded after both ends have proven that they know the job's secret.
//!
//! A record is `len u32, check, payload`. What `check` is depends on the protection that the job master chose for all:
//!
//! | protection | check | payload |
//! |---|---|---|
//! | checksummed | CRC-32 (4 bytes) | plain: for loopback, where the kernel keeps other users out of a connection |
//! | authenticated | keyed BLAKE3, first 16 bytes | plain: nobody can change, repeat or insert a record, all can read it |
//! | encrypted | none (the Noise tag is part of the payload) | ChaCha20-Poly1305 |
//!
//! Check and cipher cover a record's number (counted from 0 in each direction, never sent), its length and its bytes, and
//! are looked at before anything in the record is interpreted.

use crate::control::protocol::Protection;
use crate::error::Result;
use crate::noise::{Cipher, Established, MAX_PLAIN, MacKey, TAG};

/// Bytes of the length field.
pub(super) const LEN: usize = 4;

pub(super) enum Guard {
    Checksum,
    Mac { send: MacKey, receive: MacKey },
    Encrypt(Cipher),
}

impl Guard {
    pub(super) fn new(protection: Protection, keys: Established) -> Guard {
        match protection {
            Protection::Checksummed => Guard::Checksum,
            Protection::Authenticated => Guard::Mac { send: keys.send_mac, receive: keys.receive_mac },
            Protection::Encrypted => Guard::Encrypt(keys.cipher),
        }
    }

    pub(super) fn encrypts(&self) -> bool {
        matches!(self, Guard::Encrypt(_))
    }

    /// Bytes of the check field.
    pub(super) fn check_len(&self) -> usize {
        match self {
            Guard::Checksum => 4,
            Guard::Mac { .. } => 16,
            Guard::Encrypt(_) => 0,
        }
    }

    /// The most plain bytes of one record.
    pub(super) fn max_record(&self) -> usize {
        match self {
            Guard::Encrypt(_) => MAX_PLAIN,
            _ => 256 << 10,
        }
    }

    /// Bytes that protection adds to a record's payload.
    pub(super) fn overhead(&self) -> usize {
        if self.encrypts() { TAG } else { 0 }
    }

    /// The most bytes that a record's length field may announce.
    pub(super) fn max_announced(&self) -> usize {
        self.max_record() + self.overhead()
    }

    fn check(key: Option<&MacKey>, number: u64, parts: [&[u8]; 2], out: &mut [u8; 16]) {
        let len = (parts[0].len() + parts[1].len()) as u32;
        match key {
            None => {
                let mut crc = crc32fast::Hasher::new();
                crc.update(&number.to_le_bytes());
                crc.update(&len.to_le_bytes());
                parts.iter().for_each(|p| crc.update(p));
                out[..4].copy_from_slice(&crc.finalize().to_le_bytes());
            }
            Some(key) => {
                let mut mac = blake3::Hasher::new_keyed(key.as_bytes());
                mac.update(&number.to_le_bytes());
                mac.update(&len.to_le_bytes());
                parts.iter().for_each(|p| {
                    mac.update(p);
                });
                out.copy_from_slice(&mac.finalize().as_bytes()[..16]);
            }
        }
    }

    /// Appends to `out` the record of `small` followed by `large`; of `large` only the check is written where the
    /// protection leaves it in the clear (returns false: the caller sends it right behind), else its cipher text (true).
    pub(super) fn seal(
        &mut self,
        number: u64,
        small: &[u8],
        large: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let len = small.len() + large.len();
        if let Guard::Encrypt(cipher) = self {
            out.extend_from_slice(&((len + TAG) as u32).to_le_bytes());
            if small.is_empty() {
                cipher.encrypt(large, out)?;
            } else {
                let mut plain = Vec::with_capacity(len);
                plain.extend_from_slice(small);
                plain.extend_from_slice(large);
                cipher.encrypt(&plain, out)?;
            }
            return Ok(true);
        }
        let mut check = [0; 16];
        let key = if let Guard::Mac { send, .. } = &*self { Some(send) } else { None };
        Guard::check(key, number, [small, large], &mut check);
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&check[..self.check_len()]);
        out.extend_from_slice(small);
        Ok(large.is_empty())
    }

    /// True if the bytes are the record that its sender made (not for the encrypting guard).
    pub(super) fn verify(&self, number: u64, check: &[u8], payload: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        let key = if let Guard::Mac { receive, .. } = self { Some(receive) } else { None };
        let mut want = [0; 16];
        Guard::check(key, number, [payload, &[]], &mut want);
        want[..self.check_len()].ct_eq(check).into()
    }

    /// Decrypts a record (only for the encrypting guard).
    pub(super) fn open(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Guard::Encrypt(cipher) => cipher.decrypt(sealed, out),
            _ => {
                out.extend_from_slice(sealed);
                Ok(())
            }
        }
    }
}
