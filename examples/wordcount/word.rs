//! [`Word`]: what goes to the rank that a word belongs to.

use std::cmp::Ordering;

use aeolian::ops::Key;
use aeolian::ops::key::hash_bytes;
use aeolian::ops::record::{Reader, Record, Writer, size_of_len};

/// Bytes of a word that has none elsewhere.
pub(crate) const SHORT: usize = 16;

/// The bytes of a word. Most words are short: they need no memory of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// Length, and the bytes with zeros behind them.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Word {
    #[inline]
    pub(crate) fn new(bytes: &[u8]) -> Word {
        if bytes.len() > SHORT {
            return Word::Long(bytes.into());
        }
        let mut short = [0; SHORT];
        short[..bytes.len()].copy_from_slice(bytes);
        Word::Short(bytes.len() as u8, short)
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Word::Short(len, bytes) => &bytes[..usize::from(*len).min(SHORT)],
            Word::Long(bytes) => bytes,
        }
    }

    /// The first bytes, which mostly tell the order.
    #[inline]
    fn first(&self) -> u128 {
        match self {
            Word::Short(_, bytes) => u128::from_be_bytes(*bytes),
            Word::Long(bytes) => u128::from_be_bytes(bytes.first_chunk().copied().unwrap_or_default()),
        }
    }
}

/// By the bytes.
impl Ord for Word {
    #[inline]
    fn cmp(&self, other: &Word) -> Ordering {
        self.first().cmp(&other.first()).then_with(|| self.bytes().cmp(other.bytes()))
    }
}

impl PartialOrd for Word {
    #[inline]
    fn partial_cmp(&self, other: &Word) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Of two numbers: both halves of their product.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The hash of a short word's two integers.
#[inline]
pub(crate) fn hash_short(a: u64, b: u64, len: usize) -> u64 {
    fold(a ^ 0xa076_1d64_78bd_642f, b ^ 0xe703_7ed1_a0b4_28db_u64.wrapping_add(len as u64))
}

impl Record for Word {
    const SIZE: Option<usize> = None;

    #[inline]
    fn size(&self) -> usize {
        let len = self.bytes().len();
        size_of_len(len) + len
    }

    #[inline]
    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        let bytes = self.bytes();
        out.len(bytes.len())?;
        out.bytes(bytes)
    }

    #[inline]
    fn get(input: &mut Reader<'_>) -> Option<Word> {
        let len = input.length()?;
        input.bytes(len).map(Word::new)
    }
}

impl Key for Word {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        match self {
            Word::Short(len, bytes) => {
                let [a, b] = halves(bytes);
                // Once more: all bits must be good, for every seed.
                fold(hash_short(a, b, (*len).into()) ^ seed, 0x8ebc_6af0_9c88_c6e3) ^ seed
            }
            Word::Long(bytes) => hash_bytes(bytes, seed),
        }
    }

    #[inline]
    fn order(&self, other: &Word) -> Ordering {
        self.cmp(other)
    }

    #[inline]
    fn same(&self, other: &Word) -> bool {
        self == other
    }

    #[inline]
    fn prefix(&self) -> u64 {
        (self.first() >> 64) as u64
    }
}

/// A short word's two integers.
#[inline]
pub(crate) fn halves(bytes: &[u8; SHORT]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_bytes_are(
            a in prop::collection::vec(0u8..3, 0..20),
            b in prop::collection::vec(0u8..3, 0..20),
        ) {
            for (a, b) in [(&a, &b), (&a, &a)] {
                let (x, y) = (Word::new(a), Word::new(b));
                prop_assert_eq!(x.bytes(), &a[..]);
                prop_assert_eq!(x.order(&y), a.cmp(b));
                prop_assert_eq!(x.same(&y), a == b);
                prop_assert!(a != b || x.hash(3) == y.hash(3));
                let mut bytes = vec![0; x.size()];
                prop_assert!(x.put(&mut Writer::new(&mut bytes, 0)).is_some());
                prop_assert_eq!(Word::get(&mut Reader::new(&bytes)), Some(x));
            }
        }
    }

    #[test]
    fn hashes_spread() {
        for shift in [0, 29, 58] {
            let mut places = [0; 64];
            for i in 0..64_000 {
                let word = Word::new(format!("{i}").as_bytes());
                places[(word.hash(7) >> shift) as usize % 64] += 1;
            }
            assert!(places.iter().all(|n| (800..1200).contains(n)), "{shift}: {places:?}");
        }
    }
}
