//! The checksum of the sort benchmark: the sum of the CRC-32 of all records, which does not depend on their order.

use std::fmt;
use std::str::FromStr;

use aeolian::World;
use serde::{Serialize, Serializer};

use super::record::SIZE;
use crate::Result as Done;
use crate::agree::all;

/// A sum of CRC-32, as `gensort -c` and `valsort` print it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum(pub u128);

impl Checksum {
    /// Adds whole records.
    pub fn add(&mut self, records: &[u8]) {
        // A sum of 2^32 CRC-32 fits 64 bits.
        let sum: u64 = records.as_chunks::<SIZE>().0.iter().map(|r| u64::from(crc32fast::hash(r))).sum();
        self.0 = self.0.wrapping_add(u128::from(sum));
    }

    /// In two halves, the higher one first.
    pub fn halves(self) -> [u64; 2] {
        [(self.0 >> 64) as u64, self.0 as u64]
    }

    /// Of two halves.
    pub fn of(halves: [u64; 2]) -> Checksum {
        Checksum(u128::from(halves[0]) << 64 | u128::from(halves[1]))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = String;

    fn from_str(text: &str) -> Result<Checksum, String> {
        match u128::from_str_radix(text, 16) {
            Ok(sum) if !text.starts_with('+') => Ok(Checksum(sum)),
            _ => Err("a checksum is up to 32 hexadecimal digits".into()),
        }
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// That of the records of all ranks. Collective.
pub fn of_all(world: &mut World, mine: Checksum) -> Done<Checksum> {
    let [high, low] = mine.halves();
    let (high, low) = (all(world, high)?, all(world, low)?);
    let sum = high.into_iter().zip(low).map(|(high, low)| Checksum::of([high, low]).0);
    Ok(Checksum(sum.fold(0, u128::wrapping_add)))
}
