//! The header of a spilled block, and what is checked when it comes back.
//!
//! 64 bytes, little-endian: magic (8), version (2), compression (1), zero (1), checksum (4), job (8), rank (4), file (4), run (8), sequence
//! in the run (8), length before compression (8), length as stored (8). The checksum (CRC-32) is over the header without it and over the
//! payload as stored.

use super::error::Damage;

/// Bytes of a header.
pub(super) const HEADER: usize = 64;

const MAGIC: [u8; 8] = *b"aeolspil";
const VERSION: u16 = 1;
const CHECKSUM: std::ops::Range<usize> = 12..16;

/// What a block says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) job: u64,
    pub(super) rank: u32,
    pub(super) file: u32,
    pub(super) run: u64,
    pub(super) sequence: u64,
    /// Bytes before compression.
    pub(super) raw: u64,
    /// Bytes as stored, without the header.
    pub(super) stored: u64,
    /// Whether LZ4 made one of the other.
    pub(super) lz4: bool,
}

impl BlockHeader {
    /// The header's bytes in front of `payload`.
    pub(super) fn encode(&self, payload: &[u8]) -> [u8; HEADER] {
        let mut bytes = self.unsigned();
        let sum = checksum(&bytes, payload);
        bytes[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Whether `bytes` and `payload` are what [`BlockHeader::encode`] made of this header.
    pub(super) fn check(&self, bytes: &[u8; HEADER], payload: &[u8]) -> Result<(), Damage> {
        if bytes[..8] != MAGIC {
            return Err(Damage::Magic);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let mut unsigned = *bytes;
        unsigned[CHECKSUM].fill(0);
        let written = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let read = checksum(&unsigned, payload);
        let other = unsigned != self.unsigned();
        match (written == read, other) {
            (true, false) => Ok(()),
            (true, true) => Err(Damage::Misplaced),
            (false, _) => Err(Damage::Checksum { written, read }),
        }
    }

    /// All but the checksum.
    fn unsigned(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.lz4.into();
        bytes[16..24].copy_from_slice(&self.job.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.rank.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.file.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.run.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.raw.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.stored.to_le_bytes());
        bytes
    }
}

fn checksum(header: &[u8; HEADER], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BlockHeader {
        BlockHeader { job: 1 << 60, rank: 3, file: 4, run: 5, sequence: 6, raw: 100, stored: 7, lz4: true }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let payload = *b"payload";
        let bytes = header().encode(&payload);
        assert_eq!(header().check(&bytes, &payload), Ok(()));
        for bit in 0..8 * (HEADER + payload.len()) {
            let (mut bytes, mut payload) = (bytes, payload);
            if bit < 8 * HEADER {
                bytes[bit / 8] ^= 1 << (bit % 8);
            } else {
                payload[bit / 8 - HEADER] ^= 1 << (bit % 8);
            }
            assert!(header().check(&bytes, &payload).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn whole_blocks_of_others_are_seen() {
        let payload = *b"payload";
        for other in [
            BlockHeader { job: 0, ..header() },
            BlockHeader { rank: 0, ..header() },
            BlockHeader { file: 0, ..header() },
            BlockHeader { run: 0, ..header() },
            BlockHeader { sequence: 0, ..header() },
            BlockHeader { raw: 0, ..header() },
            BlockHeader { stored: 0, ..header() },
            BlockHeader { lz4: false, ..header() },
        ] {
            assert_eq!(
                header().check(&other.encode(&payload), &payload),
                Err(Damage::Misplaced),
                "{other:?}"
            );
        }
    }
}
