//! A rank's bytes of a file, piece by piece, so that each word is whole and counted by one rank.

use aeolian_examples::Result;
use aeolian_examples::readat::{ReadAt, reserve};

use crate::borders::Borders;
use crate::classify::{BLOCK, Level, is_in_run};
use crate::cli::Words;
use crate::table::{Table, Token};
use crate::unicode::{lower, unfinished, words};
use crate::word::{SHORT, halves};

/// Bytes that are read at once: they stay in the second-level cache.
const PIECE: usize = 128 << 10;
/// More of a word that goes on behind the rank's bytes.
const MORE: usize = 4 << 10;
/// Short words that are looked up together.
const TOGETHER: usize = 32;
/// Of eight bytes, those that are not ASCII.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Counts the words of bytes that come piece by piece.
pub(crate) struct Pieces {
    words: Words,
    ignore_case: bool,
    borders: Borders,
    buffer: Vec<u8>,
    pub(crate) table: Table,
    /// Words counted so far.
    pub(crate) counted: u64,
}

/// What is in the buffer.
struct Held {
    /// Bytes of it.
    len: usize,
    /// Words that begin before this byte are another rank's,
    first: usize,
    /// and those that begin from this one on too.
    end: usize,
}

impl Pieces {
    pub(crate) fn new(level: Level, words: Words, ignore_case: bool, table: Table) -> Pieces {
        let borders = Borders::new(level, words);
        Pieces { words, ignore_case, borders, buffer: Vec::new(), table, counted: 0 }
    }

    /// Counts the words that begin in `from..to`. When the table is full, `flush` empties it; `read` hears of each piece.
    pub(crate) fn count(
        &mut self,
        source: &ReadAt,
        (from, to): (u64, u64),
        flush: &mut impl FnMut(&mut Table) -> Result<()>,
        read: &mut impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        // The character before, to see whether a word is open: it has at most four bytes, and a lead byte is one wherever one looks.
        let lead = from.min(4);
        let mut at = from - lead;
        let mut held = Held { len: 0, first: lead as usize, end: (to - at) as usize };
        // A run that is longer is cut at its last word.
        let mut longest = PIECE / 2;
        loop {
            let ends;
            let before = held.len;
            if at < to {
                let n = (to - at).min(PIECE as u64) as usize;
                self.read(source, at, before, n)?;
                (at, held.len) = (at + n as u64, before + n);
                ends = at == source.len();
            } else {
                // Only as long as a run is open.
                let n = (source.len() - at).min(MORE.max(before) as u64) as usize;
                self.read(source, at, before, n)?;
                let more = &self.buffer[before..before + n];
                let run = more.iter().position(|b| !is_in_run(self.words, *b));
                ends = run.is_some() || at + n as u64 == source.len();
                (at, held.len) = (at + n as u64, before + run.unwrap_or(n));
            }
            let open = self.runs(&held, before, ends, flush)?;
            read(at.min(to))?;
            if ends || at >= to && open == held.len {
                return Ok(());
            }
            self.keep(&mut held, open);
            if self.words == Words::Alnum && held.len > longest {
                let rest = self.cut(&held, flush)?;
                self.keep(&mut held, rest);
                longest = longest.max(2 * held.len);
            }
            if held.end == 0 {
                // All that is left begins behind this rank's bytes.
                return Ok(());
            }
        }
    }

    /// Reads into the buffer; it goes on for a block behind what is read.
    fn read(&mut self, source: &ReadAt, at: u64, place: usize, n: usize) -> Result<()> {
        let room = (place + n + 2 * BLOCK).max(PIECE + PIECE / 2 + 2 * BLOCK);
        if self.buffer.len() < room {
            // A word must fit into memory, and no more than that is asked for.
            let more = room - self.buffer.len();
            reserve(&mut self.buffer, more, &source.name())?;
            self.buffer.resize(room, 0);
        }
        source.read_exact(at, &mut self.buffer[place..place + n])
    }

    /// Counts the runs in what is held, of which the first `before` bytes are one already; returns where the open run begins, which is
    /// counted too if it `ends`.
    fn runs(
        &mut self,
        held: &Held,
        before: usize,
        ends: bool,
        flush: &mut impl FnMut(&mut Table) -> Result<()>,
    ) -> Result<usize> {
        let Pieces { words, ignore_case, borders, buffer, table, counted } = self;
        let (words, ignore_case) = (*words, *ignore_case);
        let found = borders.find(buffer, before, held.len);
        let (runs, open) = found.as_chunks::<2>();
        let open = open.first().map(|begin| [*begin, held.len as u32]);
        let last = if ends { open } else { None };
        // Of words between white space only their case needs a look at their characters.
        let high = if words == Words::Space && !ignore_case { 0 } else { HIGH };
        let mut tokens = [Token::default(); TOGETHER];
        for together in runs.chunks(TOGETHER).chain(last.as_ref().map(std::slice::from_ref)) {
            let mut many = 0;
            for [begin, end] in together {
                let (begin, end) = (*begin as usize, *end as usize);
                let len = end - begin;
                if len <= SHORT && begin >= held.first {
                    let (mut a, mut b) = load(buffer, begin, len);
                    if (a | b) & high == 0 {
                        if ignore_case {
                            (a, b) = (lower_eight(a), lower_eight(b));
                        }
                        tokens[many] = Token::new(a, b, len);
                        table.prefetch(&tokens[many]);
                        many += 1;
                        continue;
                    }
                }
                let run = &buffer[begin..end];
                let plain = words == Words::Space || run.is_ascii();
                let mut failed = Ok(());
                let mut add = |at: usize, word: &[u8]| {
                    if (held.first..held.end).contains(&(begin + at)) && failed.is_ok() {
                        *counted += 1;
                        failed = add(table, word, ignore_case);
                    }
                };
                if plain {
                    add(0, run);
                } else if let Some(at) = crate::unicode::words(run, &mut add) {
                    add(at, &run[at..]);
                }
                failed?;
                if table.is_full() {
                    flush(table)?;
                }
            }
            *counted += many as u64;
            table.add_short(&tokens[..many])?;
            if table.is_full() {
                flush(table)?;
            }
        }
        Ok(match (open, ends) {
            (Some([begin, _]), false) => begin as usize,
            _ => held.len,
        })
    }

    /// Counts the words of an open run that are whole; returns where the rest begins.
    fn cut(&mut self, held: &Held, flush: &mut impl FnMut(&mut Table) -> Result<()>) -> Result<usize> {
        let Pieces { ignore_case, buffer, table, counted, .. } = self;
        let known = held.len - unfinished(&buffer[..held.len]);
        let mut failed = Ok(());
        let open = words(&buffer[..known], |at, word| {
            if (held.first..held.end).contains(&at) && failed.is_ok() {
                *counted += 1;
                failed = add(table, word, *ignore_case);
            }
        });
        failed?;
        if table.is_full() {
            flush(table)?;
        }
        Ok(open.unwrap_or(known))
    }

    /// Forgets what is before `from`.
    fn keep(&mut self, held: &mut Held, from: usize) {
        self.buffer.copy_within(from..held.len, 0);
        held.len -= from;
        held.first = held.first.saturating_sub(from);
        held.end = held.end.saturating_sub(from);
    }
}

/// Counts a word of any kind.
fn add(table: &mut Table, word: &[u8], ignore_case: bool) -> Result<()> {
    match ignore_case {
        true => table.add(&lower(word)),
        false => table.add(word),
    }
}

/// The first 16 bytes from `at` on, zeros from `len` on.
#[inline]
fn load(buffer: &[u8], at: usize, len: usize) -> (u64, u64) {
    let bytes: [u8; SHORT] = buffer[at..].first_chunk().copied().unwrap_or_default();
    let ([a, b], [keep_a, keep_b]) = (halves(&bytes), KEEP[len.min(SHORT)]);
    (a & keep_a, b & keep_b)
}

/// The bits of so many bytes: a look-up is faster than two shifts that may be by all bits.
static KEEP: [[u64; 2]; SHORT + 1] = {
    let mut keep = [[0; 2]; SHORT + 1];
    let mut len = 1;
    while len <= SHORT {
        let bits = u128::MAX >> (128 - 8 * len);
        keep[len] = [bits as u64, (bits >> 64) as u64];
        len += 1;
    }
    keep
};

/// ASCII's capitals among eight bytes, lower case.
#[inline]
fn lower_eight(x: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = x & (EACH * 0x7f);
    let (from_a, after_z) = (low + EACH * 0x3f, low + EACH * 0x25);
    x | (from_a & !after_z & !x & HIGH) >> 2
}
