//! Which of 64 bytes belong to runs that may be words: vectorised, by what the processor has.

use pulp::x86::{V3, V4};

use crate::cli::Words;

/// How many bytes one mask tells of.
pub(crate) const BLOCK: usize = 64;

/// What the processor has; the fastest first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    /// AVX-512BW: 64 bytes in a register.
    V4(V4),
    /// AVX2: 32 bytes.
    V3(V3),
    /// Any processor: a table.
    Plain,
}

impl Level {
    /// All that this processor has.
    pub(crate) fn all() -> Vec<Level> {
        let levels = [V4::try_new().map(Level::V4), V3::try_new().map(Level::V3), Some(Level::Plain)];
        levels.into_iter().flatten().collect()
    }

    /// The fastest.
    pub(crate) fn best() -> Level {
        Level::all().into_iter().next().unwrap_or(Level::Plain)
    }

    /// Sets bit i of each block's mask if its byte i belongs to a run: an ASCII letter or digit, or any byte from 0x80 on (whether
    /// that belongs to a word, its character says); or, of [`Words::Space`], a byte that is not white space.
    pub(crate) fn masks(self, words: Words, blocks: &[[u8; BLOCK]], masks: &mut [u64]) {
        match self {
            Level::V4(simd) => simd.vectorize(Pass(simd, words, blocks, masks)),
            Level::V3(simd) => simd.vectorize(Pass(simd, words, blocks, masks)),
            Level::Plain => {
                let kinds: &[bool; 256] = match words {
                    Words::Alnum => &ALNUM,
                    Words::Space => &NO_SPACE,
                };
                for (block, mask) in blocks.iter().zip(masks) {
                    *mask = (0..).zip(block).fold(0, |m, (i, b)| m | u64::from(kinds[usize::from(*b)]) << i);
                }
            }
        }
    }
}

/// Whether a byte belongs to runs.
pub(crate) fn is_in_run(words: Words, byte: u8) -> bool {
    match words {
        Words::Alnum => byte.is_ascii_alphanumeric() || byte >= 0x80,
        // 9 to 13 and 32: also the vertical tab, as in C's isspace.
        Words::Space => !matches!(byte, 9..=13 | b' '),
    }
}

const fn kinds(space: bool) -> [bool; 256] {
    let mut all = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        all[byte] = if space { !matches!(b, 9..=13 | b' ') } else { b.is_ascii_alphanumeric() || b >= 0x80 };
        byte += 1;
    }
    all
}

static ALNUM: [bool; 256] = kinds(false);
static NO_SPACE: [bool; 256] = kinds(true);

/// One call's work, for the instructions of `S`.
struct Pass<'a, S>(S, Words, &'a [[u8; BLOCK]], &'a mut [u64]);

impl pulp::NullaryFnOnce for Pass<'_, V4> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Pass(simd, words, blocks, masks) = self;
        let (f, bw) = (simd.avx512f, simd.avx512bw);
        let all = |byte: u8| f._mm512_set1_epi8(byte as i8);
        // Subtracting the first of a stretch, unsigned, leaves what is not in it above its length.
        match words {
            Words::Alnum => {
                for (block, mask) in blocks.iter().zip(masks) {
                    let x = pulp::cast(*block);
                    let letter = bw._mm512_sub_epi8(f._mm512_or_si512(x, all(0x20)), all(b'a'));
                    let digit = bw._mm512_sub_epi8(x, all(b'0'));
                    *mask = bw._mm512_movepi8_mask(x)
                        | bw._mm512_cmple_epu8_mask(letter, all(25))
                        | bw._mm512_cmple_epu8_mask(digit, all(9));
                }
            }
            Words::Space => {
                for (block, mask) in blocks.iter().zip(masks) {
                    let x = pulp::cast(*block);
                    let control = bw._mm512_sub_epi8(x, all(9));
                    *mask = !(bw._mm512_cmple_epu8_mask(control, all(4))
                        | bw._mm512_cmpeq_epi8_mask(x, all(b' ')));
                }
            }
        }
    }
}

impl pulp::NullaryFnOnce for Pass<'_, V3> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Pass(simd, words, blocks, masks) = self;
        let (avx, avx2) = (simd.avx, simd.avx2);
        let all = |byte: u8| avx._mm256_set1_epi8(byte as i8);
        let at_most = |x, n| avx2._mm256_cmpeq_epi8(avx2._mm256_min_epu8(x, all(n)), x);
        for (block, mask) in blocks.iter().zip(masks) {
            let halves: [_; 2] = pulp::cast(*block);
            let [low, high] = halves.map(|x| {
                let bits = match words {
                    Words::Alnum => {
                        let letter = avx2._mm256_sub_epi8(avx2._mm256_or_si256(x, all(0x20)), all(b'a'));
                        let digit = avx2._mm256_sub_epi8(x, all(b'0'));
                        let ascii = avx2._mm256_or_si256(at_most(letter, 25), at_most(digit, 9));
                        avx2._mm256_movemask_epi8(avx2._mm256_or_si256(x, ascii))
                    }
                    Words::Space => {
                        let control = at_most(avx2._mm256_sub_epi8(x, all(9)), 4);
                        let blank = avx2._mm256_cmpeq_epi8(x, all(b' '));
                        !avx2._mm256_movemask_epi8(avx2._mm256_or_si256(control, blank))
                    }
                };
                u64::from(bits as u32)
            });
            *mask = low | high << 32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8]) {
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        for words in [Words::Alnum, Words::Space] {
            for level in Level::all() {
                let mut masks = vec![0; blocks.len()];
                level.masks(words, blocks, &mut masks);
                for (i, byte) in blocks.as_flattened().iter().enumerate() {
                    let bit = masks[i / BLOCK] >> (i % BLOCK) & 1 == 1;
                    assert_eq!(bit, is_in_run(words, *byte), "{level:?} {words:?} {byte:#x} at {i}");
                }
            }
        }
    }

    #[test]
    fn every_byte_in_every_place() {
        for shift in 0..BLOCK {
            let bytes: Vec<u8> = (0..256 + BLOCK).map(|i| (i + shift) as u8).collect();
            check(&bytes);
        }
    }

    proptest! {
        #[test]
        fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            check(&bytes);
        }
    }
}
