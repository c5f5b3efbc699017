//! Numbers in text files, each rank reading only its byte range.
//!
//! What is understood:
//! - one row a line, `\n` or `\r\n`, the last one with or without it; a UTF-8 byte order mark at the start is skipped;
//! - blank lines and lines that begin with `#` are skipped;
//! - fields are separated by the first of `,` `;` TAB that the first line has, otherwise by blanks;
//! - blanks around a field are ignored; a field may stand in double quotes (`"1.5"`), which cannot hold a line end;
//! - the first line is a **header** if none of its fields is a number; if some are and some are not, that is an error
//!   rather than a guess. A header made of numbers (`0,1,2`) is therefore read as data: such a file needs another one.
//! - numbers as Rust and C write them (`-1.5e-3`, `.5`, `5.`, `+1`); the decimal sign is a point.
//!
//! A line belongs to the rank in whose byte range it begins. Inside a rank, threads parse pieces of [`PIECE`] bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::lines::{content, line_at, number_at, shown, starting_in};
use crate::matrix::{Element, Matrix};
use crate::readat::{ReadAt, reserve};
use crate::summary::plural;
use crate::workers::Workers;
use crate::{Error, Result};

pub use crate::lines::PIECE;

/// What the first lines of a file say about the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The byte between fields (`b' '`: any run of blanks).
    pub separator: u8,
    /// Fields in a row.
    pub d: usize,
    /// The header's fields, if there is a header.
    pub names: Option<Vec<String>>,
    /// Where the line after the header begins, or the first line.
    pub start: u64,
}

/// Reads the layout from the beginning of the file: the same on every rank.
pub fn layout(source: &ReadAt) -> Result<Layout> {
    let name = source.name();
    let mut at = if source.len() >= 3 && source.bytes(0, 3)? == b"\xef\xbb\xbf" { 3 } else { 0 };
    let mut number = 0;
    while at < source.len() {
        let (line, next) = line_at(source, at)?;
        number += 1;
        let Some(text) = content(&line) else {
            at = next;
            continue;
        };
        let place = || format!("{name}:{number}");
        if text.contains(&0) {
            return Err(Error::data(
                place(),
                "there are zero bytes in it: this is not a text file",
                "name numpy files *.npy and HDF5 datasets FILE.h5:/dataset; convert UTF-16 to UTF-8",
            ));
        }
        let separator =
            [b',', b';', b'\t'].into_iter().find(|s| unquoted(text).any(|b| b == *s)).unwrap_or(b' ');
        let fields: Vec<&[u8]> = Fields { rest: Some(text), separator }.collect();
        let is_number = |f: &&[u8]| fast_float2::parse::<f64, _>(f).is_ok();
        let (numbers, empty) =
            (fields.iter().filter(|f| is_number(f)).count(), fields.iter().filter(|f| f.is_empty()).count());
        if numbers == 0 && empty < fields.len() {
            // Names go to terminals: without control characters.
            let name = |f: &&[u8]| String::from_utf8_lossy(f).replace(char::is_control, " ");
            let names = fields.iter().map(name).collect();
            return Ok(Layout { separator, d: fields.len(), names: Some(names), start: next });
        }
        if numbers + empty < fields.len() {
            let bad = fields.iter().position(|f| !is_number(f) && !f.is_empty()).unwrap_or(0);
            return Err(Error::data(
                place(),
                format!(
                    "column {}: {} is not a number, but other fields of this line are: neither a header nor data",
                    bad + 1,
                    shown(fields[bad])
                ),
                "correct the number, or drop the columns that are not numbers (`cut -d, -f2-`)",
            ));
        }
        return Ok(Layout { separator, d: fields.len(), names: None, start: at });
    }
    let what = if source.is_empty() { "the file is empty" } else { "the file has no line with numbers" };
    Err(Error::data(name, what, "give a file with one row of numbers a line"))
}

/// Reads the rows that begin in this rank's share of the bytes. `progress` is told the bytes done so far.
pub fn read<T: Element>(
    source: &ReadAt,
    layout: &Layout,
    rank: usize,
    size: usize,
    workers: &Workers,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Matrix<T>> {
    let share = crate::matrix::block(source.len() - layout.start, rank, size);
    let (begin, end) = (layout.start + share.start, layout.start + share.end);
    let mut data: Vec<T> = Vec::new();
    let mut at = begin;
    let done = AtomicU64::new(0);
    while at < end {
        // As many pieces as there are threads, then append them in order: what is in flight stays small.
        let stop = end.min(at + PIECE * workers.threads() as u64);
        let starts: Vec<u64> = (at..stop).step_by(PIECE as usize).collect();
        let parsed = workers.each(starts, |from| {
            let to = stop.min(from + PIECE);
            let rows = piece::<T>(source, layout, from, to);
            progress(done.fetch_add(to - from, Ordering::Relaxed) + to - from, end - begin);
            rows
        });
        for rows in parsed {
            let rows = rows?;
            if data.capacity() - data.len() < rows.len() {
                // Grow by what the rest of the file will need at this density: large blocks move by mremap, not by copy.
                let seen = (stop - begin) as f64;
                let expected = (data.len() + rows.len()) as f64 / seen * (end - begin) as f64 * 1.01;
                let more = (expected as usize).saturating_sub(data.len()).max(rows.len());
                reserve(&mut data, more, &source.name())?;
            }
            data.extend_from_slice(&rows);
        }
        at = stop;
    }
    data.shrink_to_fit();
    Ok(Matrix::from_rows(data, layout.d))
}

/// Parses the lines that begin in `from..to`.
fn piece<T: Element>(source: &ReadAt, layout: &Layout, from: u64, to: u64) -> Result<Vec<T>> {
    let lines = starting_in(source, layout.start, from, to)?;
    let text = &lines.text[..];
    let mut out = Vec::with_capacity((text.len() / 8).max(layout.d));
    let mut pos = 0;
    while pos < text.len() {
        let len = text[pos..].iter().position(|&b| b == b'\n').unwrap_or(text.len() - pos);
        let line = &text[pos..pos + len];
        if let Some(line) = content(line) {
            row(line, layout, &mut out).map_err(|e| e.at(source, lines.offset + pos as u64, layout))?;
        }
        pos += len + 1;
    }
    Ok(out)
}

/// What is wrong in a line, before its number is known.
enum Bad {
    Count(usize),
    Field { column: usize, text: String },
    Missing { column: usize },
    NotFinite { column: usize, text: String },
}

impl Bad {
    /// Adds the line's number, which means counting the lines before it: done only for an error.
    fn at(self, source: &ReadAt, offset: u64, layout: &Layout) -> Error {
        let lines = match number_at(source, offset) {
            Ok(number) => number,
            Err(e) => return e,
        };
        let column_name = |c: usize| match layout.names.as_ref().and_then(|n| n.get(c - 1)) {
            Some(name) if !name.is_empty() => format!("column {c} ({name})"),
            _ => format!("column {c}"),
        };
        let (what, help) = match self {
            Bad::Count(found) => (
                format!(
                    "the row has {}, but the first row of the file has {}",
                    plural(found as u64, "field"),
                    layout.d
                ),
                "give every row the same number of fields (is a line cut off, or a text with the separator in it?)",
            ),
            Bad::Field { column, text } => (
                format!("{}: {text} is not a number", column_name(column)),
                "correct it, or drop the columns that are not numbers (`cut -d, -f2-`)",
            ),
            Bad::Missing { column } => (
                format!("{}: the field is empty", column_name(column)),
                "fill in or drop rows with missing values",
            ),
            Bad::NotFinite { column, text } => (
                format!("{}: {text} is not a finite number", column_name(column)),
                "drop or fill such rows first (a number too large for f32 needs --dtype f64)",
            ),
        };
        Error::data(format!("{}:{lines}", source.name()), what, help)
    }
}

/// Parses one line into `out`.
#[inline]
fn row<T: Element>(line: &[u8], layout: &Layout, out: &mut Vec<T>) -> std::result::Result<(), Bad> {
    let before = out.len();
    let mut rest = line;
    // The common line: plain numbers, one separator byte after each. Anything else goes the slow way below.
    while let Ok((value, used)) = fast_float2::parse_partial::<T, _>(rest) {
        if !value.finite() {
            break;
        }
        out.push(value);
        match rest.get(used) {
            None if out.len() - before == layout.d => return Ok(()),
            Some(&b) if b == layout.separator && b != b' ' => rest = &rest[used + 1..],
            _ => break,
        }
    }
    out.truncate(before);
    for (i, field) in (Fields { rest: Some(line), separator: layout.separator }).enumerate() {
        let column = i + 1;
        if field.is_empty() && column <= layout.d {
            return Err(Bad::Missing { column });
        }
        let Ok(value) = fast_float2::parse::<T, _>(field) else {
            return Err(Bad::Field { column, text: shown(field) });
        };
        if !value.finite() {
            return Err(Bad::NotFinite { column, text: shown(field) });
        }
        out.push(value);
    }
    match out.len() - before {
        found if found == layout.d => Ok(()),
        found => Err(Bad::Count(found)),
    }
}

/// The fields of a line, without the blanks and quotes around them; a separator inside of double quotes is none.
///
/// ```
/// let fields: Vec<&[u8]> = aeolian_examples::csv::fields(br#"a, "b, c""#, b',').collect();
/// assert_eq!(fields, [&b"a"[..], b"b, c"]);
/// ```
pub fn fields(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    Fields { rest: Some(line), separator }
}

struct Fields<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let end = if self.separator == b' ' {
            rest.iter().position(u8::is_ascii_whitespace)
        } else {
            let mut quoted = false;
            rest.iter().position(|&b| {
                quoted ^= b == b'"';
                b == self.separator && !quoted
            })
        };
        let field = &rest[..end.unwrap_or(rest.len())];
        self.rest =
            end.map(|e| if self.separator == b' ' { rest[e..].trim_ascii_start() } else { &rest[e + 1..] });
        let field = field.trim_ascii();
        Some(field.strip_prefix(b"\"").and_then(|f| f.strip_suffix(b"\"")).map_or(field, <[u8]>::trim_ascii))
    }
}

/// The bytes of a line outside of double quotes.
fn unquoted(line: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut inside = false;
    line.iter().copied().filter(move |b| {
        inside ^= *b == b'"';
        !inside
    })
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
