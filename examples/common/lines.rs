//! The lines of a text file of which each rank, and each of its threads, reads its own: a line belongs to the byte range in
//! which it begins.

use crate::readat::ReadAt;
use crate::{Error, Result};

/// Bytes that a thread reads and parses at once.
pub const PIECE: u64 = 1 << 20;
/// A line longer than this is taken for "this is not a text file".
const LONGEST_LINE: u64 = 64 << 20;

/// Whole lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// Their text; only the last line of the file may be without line end.
    pub text: Vec<u8>,
    /// The byte of the file with which it begins.
    pub offset: u64,
}

/// The lines that begin in `from..to` of a file whose first line begins at `start`.
pub fn starting_in(source: &ReadAt, start: u64, from: u64, to: u64) -> Result<Lines> {
    // One byte earlier, to see whether a line begins exactly at `from`.
    let lead = from.min(1);
    let mut text = source.bytes(from - lead, to)?;
    let mut skip = 0;
    if from > start {
        match text.iter().position(|&b| b == b'\n') {
            Some(p) => skip = p + 1,
            None => return Ok(Lines::default()),
        }
    } else {
        skip += lead as usize;
    }
    if skip >= text.len() {
        return Ok(Lines::default());
    }
    if text.last() != Some(&b'\n') && to < source.len() {
        let (rest, _) = line_at(source, to)?;
        text.extend_from_slice(&rest);
    }
    text.drain(..skip);
    Ok(Lines { text, offset: from - lead + skip as u64 })
}

/// The number (from 1) of the line that begins at byte `offset`. Counts the lines before it: for an error only.
pub fn number_at(source: &ReadAt, offset: u64) -> Result<u64> {
    let mut number = 1;
    let mut at = 0;
    while at < offset {
        let to = offset.min(at + PIECE);
        number += source.bytes(at, to)?.iter().filter(|&&b| b == b'\n').count() as u64;
        at = to;
    }
    Ok(number)
}

/// A line without line end and outer blanks; `None` if it is blank or a comment. (Outer TABs may be empty fields.)
pub fn content(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let trimmed = line.trim_ascii();
    if trimmed.is_empty() || trimmed[0] == b'#' {
        return None;
    }
    Some(if line.contains(&b'\t') { line } else { trimmed })
}

/// The line from byte `at` on, with its end, and where the next one begins.
pub fn line_at(source: &ReadAt, at: u64) -> Result<(Vec<u8>, u64)> {
    let mut line = Vec::new();
    let mut step = 4096;
    let mut pos = at;
    while pos < source.len() {
        let to = source.len().min(pos + step);
        let bytes = source.bytes(pos, to)?;
        if let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            line.extend_from_slice(&bytes[..=end]);
            return Ok((line, pos + end as u64 + 1));
        }
        line.extend_from_slice(&bytes);
        if line.len() as u64 > LONGEST_LINE {
            return Err(Error::data(
                source.name(),
                format!("no line end within {} MiB from byte {at} on", LONGEST_LINE >> 20),
                "is this a text file with one row a line? numpy files are named *.npy",
            ));
        }
        (pos, step) = (to, step * 4);
    }
    Ok((line, pos))
}

/// A field for a message: cut short, printable.
pub fn shown(field: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(field).chars().take(40).collect();
    format!("{:?}{}", text, if field.len() > 40 { "..." } else { "" })
}
