//! The header that precedes a message on the stream wires (shared memory and TCP).
//!
//! 32 bytes, little-endian: `epoch u32, seq u32, edge u32, kind u8, zero [u8; 3], tag u64, len u64`. `seq` counts the
//! messages from one rank to another from 0 on and wraps; `epoch` is the job's incarnation. [`Header::decode`] checks
//! all of it before anything else is looked at.

use super::Kind;
use crate::buffer::Buf;
use crate::engine::is_of_collectives;
use crate::error::{NetError, Result};
use crate::pool;

/// Bytes of an encoded header.
pub const LEN: usize = 32;

/// A message longer than this is a broken header, whatever else it says (2^48 bytes = 256 TiB).
pub const MAX_BODY: u64 = 1 << 48;

/// What precedes a message's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The job's incarnation.
    pub epoch: u32,
    /// Number of this message from its sender to its receiver.
    pub seq: u32,
    /// Its stream.
    pub edge: u32,
    /// What it is for.
    pub kind: Kind,
    /// The user's word.
    pub tag: u64,
    /// Bytes that follow.
    pub len: u64,
}

impl Header {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0..4].copy_from_slice(&self.epoch.to_le_bytes());
        out[4..8].copy_from_slice(&self.seq.to_le_bytes());
        out[8..12].copy_from_slice(&self.edge.to_le_bytes());
        out[12] = self.kind as u8;
        out[16..24].copy_from_slice(&self.tag.to_le_bytes());
        out[24..32].copy_from_slice(&self.len.to_le_bytes());
        out
    }

    /// Reads a header, or says what is wrong with it. `epoch` and `seq` are what this receiver expects.
    pub fn decode(bytes: &[u8; LEN], epoch: u32, seq: u32) -> std::result::Result<Header, String> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| (word(at) as u64) | (word(at + 4) as u64) << 32;
        let (got_epoch, got_seq) = (word(0), word(4));
        if got_epoch != epoch {
            return Err(format!("frame of job epoch {got_epoch:#x}, expected {epoch:#x}"));
        }
        if got_seq != seq {
            return Err(format!("frame number {got_seq}, expected {seq}: lost, repeated or damaged"));
        }
        let Some(kind) = Kind::from_u8(bytes[12]) else {
            return Err(format!("unknown frame kind {}", bytes[12]));
        };
        if bytes[13..16] != [0; 3] {
            return Err("reserved header bytes are not zero".into());
        }
        let len = long(24);
        if len > MAX_BODY {
            return Err(format!("frame of {len} bytes"));
        }
        if kind == Kind::Credit && len != 8 {
            return Err(format!("credit frame of {len} bytes"));
        }
        Ok(Header { epoch, seq, edge: word(8), kind, tag: long(16), len })
    }
}

/// A buffer for the message that `rank` has announced.
///
/// # Errors
/// [`NetError::Os`] if there is no memory for it.
pub(crate) fn room_for(header: &Header, rank: u32) -> Result<Buf> {
    // What collectives carry may become a partition, which others read where it lies.
    let kind = if is_of_collectives(header.edge) { pool::Kind::Shared } else { pool::Kind::Private };
    Buf::announced(header.len, kind).ok_or_else(|| NetError::Os {
        what: format!("making room for a message of {} bytes of rank {rank}", header.len),
        source: std::io::ErrorKind::OutOfMemory.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(epoch: u32, seq: u32, edge: u32, tag: u64, len in 0..MAX_BODY) {
            let h = Header { epoch, seq, edge, kind: Kind::Data, tag, len };
            prop_assert_eq!(Header::decode(&h.encode(), epoch, seq), Ok(h));
        }

        #[test]
        fn any_bytes_are_refused_or_sane(mut bytes: [u8; LEN], kind in 0u8..4, length in 0..3) {
            // What random bytes never hit, so that the rest of the header is looked at too.
            bytes[0..4].copy_from_slice(&7u32.to_le_bytes());
            bytes[4..8].copy_from_slice(&9u32.to_le_bytes());
            bytes[12] = kind;
            bytes[13..16].fill(0);
            match length {
                0 => {}
                1 => bytes[30..].fill(0),
                _ => bytes[24..].copy_from_slice(&8u64.to_le_bytes()),
            }
            if let Ok(h) = Header::decode(&bytes, 7, 9) {
                prop_assert_eq!((h.epoch, h.seq), (7, 9));
                prop_assert!(h.len <= MAX_BODY);
                prop_assert!(h.kind == Kind::Data || h.len == 8);
                prop_assert_eq!(h.encode(), bytes);
            } else {
                let len = u64::from_le_bytes(bytes[24..].try_into().unwrap());
                prop_assert!(kind > 1 || len > MAX_BODY || (kind == 1 && len != 8));
            }
        }

        #[test]
        fn one_flipped_bit_in_the_checked_part_is_noticed(at in 0usize..(8 * 16), tag: u64) {
            let h = Header { epoch: 0x5eed, seq: 12, edge: 3, kind: Kind::Data, tag, len: 100 };
            let mut bytes = h.encode();
            bytes[at / 8] ^= 1 << (at % 8);
            // A flip inside the edge number is a legal other edge: checksums and MACs of the wires find that one.
            if !(64..96).contains(&at) {
                prop_assert!(Header::decode(&bytes, 0x5eed, 12).is_err());
            }
        }
    }
}
