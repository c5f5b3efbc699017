//! The records of gensort 1.5 and of Hadoop's teragen, byte by byte.

use clap::ValueEnum;

use super::lcg::Lcg;
use super::record::{KEY, SIZE};
use crate::random::at;

/// What records look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// all bytes random, as of gensort
    Binary,
    /// printable characters and the record's number, as of gensort -a
    Ascii,
    /// a random key, the record's number, fixed bytes, as of Hadoop's teragen (and of gensort before 1.5)
    Hadoop,
}

/// Random numbers from which a binary record is made, ten bytes of each.
const NUMBERS: usize = SIZE / KEY;
/// What is added to them without carry, so that the ten bytes of a number look different in each of the ten records that have them.
const MASKS: [u128; NUMBERS] = [
    0,
    0xf0e8_e4e2_e1d8_d4d2_d1cc << 48,
    0xcac9_c6c5_c3b8_b4b2_b1ac << 48,
    0xaaa9_a6a5_a39c_9a99_9695 << 48,
    0x938e_8d8b_8778_7472_716c << 48,
    0x6a69_6665_635c_5a59_5655 << 48,
    0x534e_4d4b_473c_3a39_3635 << 48,
    0x332e_2d2b_271e_1d1b_170f << 48,
    0xc8c4_c2c1_9894_9291_8ce0 << 48,
    0x170f_332e_2d2b_271e_1d1b << 48,
];
/// The most bytes of a key that skew replaces.
const SKEWED: usize = 6;

/// Makes records one after another, from any of them on.
#[derive(Debug, Clone)]
pub struct Generator {
    format: Format,
    skew: bool,
    /// What the seed says, before the first number.
    seed: Lcg,
    /// Number of the next record.
    next: u64,
    /// Its first random number.
    number: Lcg,
    /// The last one that it needs, of a binary record.
    last: Lcg,
    queue: [u128; NUMBERS],
    head: usize,
}

impl Generator {
    /// From record `first` on. Seed 0 is gensort's; another one begins elsewhere in its sequence.
    pub fn new(format: Format, seed: u64, skew: bool, first: u64) -> Generator {
        let start = match seed {
            0 => Lcg(0),
            _ => Lcg(u128::from(at(seed, 0, 0)) << 64 | u128::from(at(seed, 0, 1))),
        };
        let number = start.skip(u128::from(first) + 1);
        let mut queue = [0; NUMBERS];
        let mut last = number;
        for (i, place) in queue.iter_mut().enumerate() {
            last = if i == 0 { number } else { last.step() };
            *place = last.0;
        }
        Generator { format, skew, seed: start, next: first, number, last, queue, head: 0 }
    }

    /// Fills `out`, of whole records, with the next ones.
    pub fn fill(&mut self, out: &mut [u8]) {
        out.as_chunks_mut::<SIZE>().0.iter_mut().for_each(|record| self.one(record));
    }

    fn one(&mut self, record: &mut [u8; SIZE]) {
        match self.format {
            Format::Binary => {
                for (i, ten) in record.as_chunks_mut::<KEY>().0.iter_mut().enumerate() {
                    *ten = first_ten(self.queue[(self.head + i) % NUMBERS] ^ MASKS[i]);
                }
                self.last = self.last.step();
                self.queue[self.head] = self.last.0;
                self.head = (self.head + 1) % NUMBERS;
            }
            Format::Ascii => {
                record[..KEY].copy_from_slice(&printable(self.number.0));
                put(record, self.next, 46, 48, self.number.0);
                record[10..12].copy_from_slice(b"  ");
                record[44..46].copy_from_slice(b"  ");
                record[98..].copy_from_slice(b"\r\n");
            }
            Format::Hadoop => {
                record[..KEY].copy_from_slice(&first_ten(self.number.0));
                put(record, self.next, 48, 44, self.number.0);
                record[10..12].copy_from_slice(b"\x00\x11");
                record[44..48].copy_from_slice(b"\x88\x99\xaa\xbb");
                record[96..].copy_from_slice(b"\xcc\xdd\xee\xff");
            }
        }
        if self.skew {
            self.skew(record);
        }
        self.number = self.number.step();
        self.next += 1;
    }

    /// Gives the key some of the first bits (or characters) of one of a few keys: that of the record whose number is how many bits this one's
    /// number has. (gensort has them in tables.)
    fn skew(&self, record: &mut [u8; SIZE]) {
        let of = u64::BITS - self.next.leading_zeros();
        let other = self.seed.skip(u128::from(of) + 1).0;
        let dice = (self.number.0 as u64 >> 32) as usize;
        if self.format == Format::Ascii {
            let characters = match dice & 7 {
                n if n > SKEWED => 0,
                n => n,
            };
            record[..characters].copy_from_slice(&printable(other)[..characters]);
            return;
        }
        let other = first_ten(other);
        let (bytes, bits) = match dice & 63 {
            n if n > 8 * SKEWED => (0, 0),
            n => (n / 8, n % 8),
        };
        record[..bytes].copy_from_slice(&other[..bytes]);
        let kept = 0xff_u8 >> bits;
        record[bytes] = other[bytes] & !kept | record[bytes] & kept;
    }
}

/// The ten highest bytes, highest first.
fn first_ten(number: u128) -> [u8; KEY] {
    std::array::from_fn(|i| (number >> (120 - 8 * i)) as u8)
}

/// A key of characters from blank to `~`: eight from the high half of a number, two from the low one.
fn printable(number: u128) -> [u8; KEY] {
    let mut rest = (number >> 64) as u64;
    std::array::from_fn(|i| {
        if i == 8 {
            rest = number as u64;
        }
        let character = b' ' + (rest % 95) as u8;
        rest /= 95;
        character
    })
}

/// A hexadecimal digit.
fn digit(n: u128) -> u8 {
    b"0123456789ABCDEF"[(n & 15) as usize]
}

/// The record's number in 32 hexadecimal digits at byte 12; four times each of the digits of the low bits of `random`, from `first` bits up.
fn put(record: &mut [u8; SIZE], number: u64, at: usize, first: usize, random: u128) {
    for i in 0..32 {
        record[12 + i] = digit(u128::from(number) >> (124 - 4 * i));
    }
    for i in 0..=first / 4 {
        record[at + 4 * i..][..4].fill(digit(random >> (first - 4 * i)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tera::checksum::Checksum;
    use proptest::prelude::*;

    fn records(format: Format, seed: u64, skew: bool, first: u64, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n * SIZE];
        Generator::new(format, seed, skew, first).fill(&mut bytes);
        bytes
    }

    /// What valsort and Hadoop's teravalidate have printed for these, as others have published it.
    #[test]
    fn checksums_are_the_published_ones() {
        for (format, n, want) in [
            (Format::Binary, 1_000_000, "7a0e0d4868cd4"),
            (Format::Ascii, 163_840, "1400fed7bb2c2"),
            (Format::Hadoop, 1_000_000, "7a27e2d0d55de"),
        ] {
            let mut sum = Checksum::default();
            sum.add(&records(format, 0, false, 0, n));
            assert_eq!(sum.to_string(), want, "{format:?}");
        }
    }

    #[test]
    fn the_first_ascii_records() {
        let text = String::from_utf8(records(Format::Ascii, 0, false, 0, 2)).unwrap();
        let lines: Vec<&str> = text.split_inclusive("\r\n").collect();
        assert!(
            lines[0].starts_with("AsfAGHM5om  00000000000000000000000000000000  0000222200002222"),
            "{text}"
        );
        assert!(lines[1].starts_with("~sHd0jDv6X  00000000000000000000000000000001  "), "{text}");
    }

    /// Keys whose records have numbers of 5 and of 12 bits begin with those of gensort's tables.
    #[test]
    fn skewed_keys_begin_as_those_of_the_tables() {
        for (format, five, twelve) in [
            (Format::Binary, *b"\x72\xdc\x0c\xa5\x1e\x33", *b"\xda\x7a\x45\xa1\x82\xde"),
            (Format::Ascii, *b"*}-Wz1", *b"swBzQ#"),
        ] {
            let bytes = records(format, 0, true, 0, 4096);
            let alike = |of: std::ops::Range<usize>, key: [u8; SKEWED], n: usize| {
                bytes.chunks(SIZE).take(of.end).skip(of.start).filter(|r| r[..n] == key[..n]).count()
            };
            // Three of four have some of it; of six bytes, ASCII has all in every eighth, binary in every 64th.
            assert!(alike(16..32, five, 1) >= 4, "{format:?}");
            assert!((800..1600).contains(&alike(2048..4096, twelve, 1)), "{format:?}");
            assert!(alike(2048..4096, twelve, SKEWED) >= 16, "{format:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_records(
            n in 0usize..60, cut in 0usize..60, first in 0u64..u64::MAX / 2, seed in 0u64..3, skew: bool, format in 0usize..3,
        ) {
            let (format, cut) = (Format::value_variants()[format], cut.min(n));
            let parts = [
                records(format, seed, skew, first, cut),
                records(format, seed, skew, first + cut as u64, n - cut),
            ];
            prop_assert_eq!(parts.concat(), records(format, seed, skew, first, n));
        }
    }
}
