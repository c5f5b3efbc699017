//! [`Rows`]: the rows that begin in a byte range.

use crate::readat::ReadAt;
use crate::{Error, Result};

/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// A row longer than this is taken for one whose quote is not closed.
const LONGEST_ROW: usize = 64 << 20;

/// How many double quotes there are in `from..to`. `progress` is told the bytes done, and may end it.
pub fn quotes(source: &ReadAt, from: u64, to: u64, progress: &dyn Fn(u64) -> Result<()>) -> Result<u64> {
    let (mut count, mut at) = (0, from);
    while at < to {
        let end = to.min(at + PIECE);
        count += source.bytes(at, end)?.iter().filter(|b| **b == b'"').count() as u64;
        at = end;
        progress(at - from)?;
    }
    Ok(count)
}

/// The rows that begin in a byte range, one after another, without their line ends.
///
/// A byte is inside of quotes if the number of quotes before it is odd (quotes inside of quotes are doubled), and a line end ends a row
/// if it is not inside.
#[derive(Debug)]
pub struct Rows<'a> {
    source: &'a ReadAt,
    /// Rows that begin before it are wanted.
    end: u64,
    /// What was read of the file, from `offset` on; what is before `begin`, where the last row begins, is done with.
    piece: Vec<u8>,
    offset: u64,
    begin: usize,
    at: usize,
}

impl<'a> Rows<'a> {
    /// Rows that begin in `from..to`. `inside`: whether the number of quotes before `from` is odd. `first`: whether a row begins at
    /// `from` whatever is before it.
    pub fn new(source: &'a ReadAt, from: u64, to: u64, inside: bool, first: bool) -> Result<Rows<'a>> {
        let mut rows = Rows { source, end: to, piece: Vec::new(), offset: from, begin: 0, at: 0 };
        // (If the byte before is a quote, it is no line end.)
        let begins = first || from == 0 || (!inside && source.bytes(from - 1, from)? == b"\n");
        if !begins && from < to {
            rows.past_row(inside)?;
        }
        Ok(rows)
    }

    /// Where the next row begins.
    pub fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// The next row, and where it begins.
    pub fn next_row(&mut self) -> Result<Option<(u64, &[u8])>> {
        let begin = self.position();
        if begin >= self.end || begin >= self.source.len() {
            return Ok(None);
        }
        self.begin = self.at;
        self.past_row(false)?;
        Ok(Some((begin, self.row())))
    }

    /// The last row, without line end.
    fn row(&self) -> &[u8] {
        let row = &self.piece[self.begin..self.at];
        let row = row.strip_suffix(b"\n").unwrap_or(row);
        row.strip_suffix(b"\r").unwrap_or(row)
    }

    /// Moves `at` behind the end of the row that it is in, or to the end of the file.
    fn past_row(&mut self, mut inside: bool) -> Result<()> {
        loop {
            for (i, byte) in self.piece[self.at..].iter().enumerate() {
                inside ^= *byte == b'"';
                if *byte == b'\n' && !inside {
                    self.at += i + 1;
                    return Ok(());
                }
            }
            self.at = self.piece.len();
            let from = self.offset + self.piece.len() as u64;
            let to = self.source.len().min(from + PIECE);
            if from == to {
                return Ok(());
            }
            if self.at - self.begin > LONGEST_ROW {
                return Err(Error::data(
                    self.source.name(),
                    format!(
                        "no end of the row within {} MiB from byte {} on",
                        LONGEST_ROW >> 20,
                        self.offset + self.begin as u64
                    ),
                    "is there a quote that is not closed, or is this not a text file?",
                ));
            }
            self.piece.drain(..self.begin);
            self.offset += self.begin as u64;
            self.at -= self.begin;
            self.begin = 0;
            self.piece.extend_from_slice(&self.source.bytes(from, to)?);
        }
    }
}
