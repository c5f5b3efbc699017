//! Edge lists, of which each rank reads its part.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aeolian_examples::lines::{PIECE, content, number_at, shown, starting_in};
use aeolian_examples::matrix::block;
use aeolian_examples::names::Names;
use aeolian_examples::readat::ReadAt;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Result, csv};

use crate::cli::{Format, Options};

/// Bytes of an edge in a `.bin` file.
const RECORD: u64 = 8;

/// The edges that a rank has read.
#[derive(Default)]
pub(crate) struct Part {
    /// Names of the vertices that are in them.
    pub(crate) names: Names,
    /// Source and target, by the numbers of `names`.
    pub(crate) edges: Vec<[u32; 2]>,
    /// Bytes of the whole file, as this rank sees it.
    pub(crate) bytes: u64,
}

/// Reads the edges that begin in this rank's share of the bytes. `progress` is told the bytes done so far.
pub(crate) fn read(
    options: &Options,
    rank: usize,
    size: usize,
    workers: &Workers,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Part> {
    let source = match &options.input {
        Some(path) => ReadAt::open(Path::new(path))?,
        None => ReadAt::Static {
            bytes: include_bytes!("data/debian-libs.tsv"),
            name: "debian-libs.tsv (bundled)",
        },
    };
    let format = options.format();
    if source.is_empty() {
        return Err(Error::data(source.name(), "the file is empty", "give a file with one edge a line"));
    }
    let (start, unit) = if format == Format::Bin {
        if !source.len().is_multiple_of(RECORD) {
            return Err(Error::data(
                source.name(),
                format!("{} bytes are not a whole number of edges of {RECORD} bytes", source.len()),
                "give pairs of 32-bit numbers (is the file cut off?), or --format tsv for text",
            ));
        }
        (0, RECORD)
    } else {
        let mark = source.len() >= 3 && source.bytes(0, 3)? == b"\xef\xbb\xbf";
        (if mark { 3 } else { 0 }, 1)
    };
    let share = block((source.len() - start) / unit, rank, size);
    let (begin, end) = (start + share.start * unit, start + share.end * unit);
    let mut part = Part { bytes: source.len(), ..Part::default() };
    let done = AtomicU64::new(0);
    let mut at = begin;
    while at < end {
        // As many pieces as there are threads, then append them in order: what is in flight stays small.
        let stop = end.min(at + PIECE * workers.threads() as u64);
        let starts: Vec<u64> = (at..stop).step_by(PIECE as usize).collect();
        let pieces = workers.each(starts, |from| {
            let to = stop.min(from + PIECE);
            let piece = match format {
                Format::Bin => binary(&source, from, to),
                _ => text(&source, format, start, from, to),
            };
            progress(done.fetch_add(to - from, Ordering::Relaxed) + to - from, end - begin);
            piece
        });
        for piece in pieces {
            part.append(&piece?, &source)?;
        }
        at = stop;
    }
    Ok(part)
}

impl Part {
    fn add(&mut self, source: &[u8], target: &[u8], file: &ReadAt) -> Result<()> {
        let (Some(source), Some(target)) = (self.names.intern(source), self.names.intern(target)) else {
            return Err(Error::data(
                file.name(),
                "there are more than 4 billion vertices, but they are numbered with 32 bits",
                "rank a part of the graph",
            ));
        };
        self.edges.push([source, target]);
        Ok(())
    }

    /// Adds what a thread has read, which has numbers of its own.
    fn append(&mut self, piece: &Part, file: &ReadAt) -> Result<()> {
        let numbers: Vec<u32> = piece.names.iter().map_while(|name| self.names.intern(name)).collect();
        for [source, target] in &piece.edges {
            match (numbers.get(*source as usize), numbers.get(*target as usize)) {
                (Some(source), Some(target)) => self.edges.push([*source, *target]),
                _ => self.add(piece.names.get(*source as usize), piece.names.get(*target as usize), file)?,
            }
        }
        Ok(())
    }
}

/// Parses the lines that begin in `from..to`.
fn text(source: &ReadAt, format: Format, start: u64, from: u64, to: u64) -> Result<Part> {
    let lines = starting_in(source, start, from, to)?;
    let mut part = Part::default();
    let mut at = 0;
    for line in lines.text.split_inclusive(|b| *b == b'\n') {
        if let Some(text) = content(line) {
            match edge(text, format) {
                Ok([a, b]) => part.add(a, b, source)?,
                Err((what, help)) => {
                    let number = number_at(source, lines.offset + at as u64)?;
                    return Err(Error::data(format!("{}:{number}", source.name()), what, help));
                }
            }
        }
        at += line.len();
    }
    Ok(part)
}

/// The two names in a line, or what is wrong and what to do.
fn edge(line: &[u8], format: Format) -> std::result::Result<[&[u8]; 2], (String, &'static str)> {
    let (names, count) = match format {
        Format::Csv => two(csv::fields(line, b',')),
        _ if line.contains(&b'\t') => two(line.split(|b| *b == b'\t').map(<[u8]>::trim_ascii)),
        _ => two(line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty())),
    };
    if count != 2 {
        let what = format!(
            "the line has {count} field{}, not 2: {}",
            if count == 1 { "" } else { "s" },
            shown(line)
        );
        let help = match format {
            Format::Csv => "write SOURCE,TARGET in each line (`cut -d, -f1,2` drops other columns)",
            _ => {
                "write SOURCE, a TAB and TARGET in each line (`cut -f1,2` drops other columns; comma needs --format csv)"
            }
        };
        return Err((what, help));
    }
    if let Some(empty) = names.iter().position(|n| n.is_empty()) {
        return Err((format!("column {}: the name is empty", empty + 1), "give every vertex a name"));
    }
    if line.contains(&0) {
        let help = "pairs of 32-bit numbers need --format bin; convert UTF-16 to UTF-8";
        return Err(("there are zero bytes in it: this is not a text file".into(), help));
    }
    Ok(names)
}

/// The first two fields, and how many there are.
fn two<'a>(fields: impl Iterator<Item = &'a [u8]>) -> ([&'a [u8]; 2], usize) {
    fields.fold(([&[][..]; 2], 0), |(mut names, count), field| {
        if let Some(name) = names.get_mut(count) {
            *name = field;
        }
        (names, count + 1)
    })
}

/// Reads the pairs of numbers in `from..to`, whose names are their decimal digits.
fn binary(source: &ReadAt, from: u64, to: u64) -> Result<Part> {
    let bytes = source.bytes(from, to)?;
    let mut part = Part::default();
    for pair in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
        let [a, b] = pair.map(|n| u32::from_le_bytes(n).to_string());
        part.add(a.as_bytes(), b.as_bytes(), source)?;
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_people_write_them() {
        for (line, format, want) in [
            ("a\tb", Format::Tsv, Ok(["a", "b"])),
            ("New York\tSan Jose", Format::Tsv, Ok(["New York", "San Jose"])),
            ("1  \t 2", Format::Tsv, Ok(["1", "2"])),
            ("12   7", Format::Tsv, Ok(["12", "7"])),
            ("\"a, b\",c", Format::Csv, Ok(["a, b", "c"])),
            ("a , b", Format::Csv, Ok(["a", "b"])),
            ("a", Format::Tsv, Err("has 1 field, not 2")),
            ("a b c", Format::Tsv, Err("has 3 fields, not 2")),
            ("a\tb\t", Format::Tsv, Err("has 3 fields, not 2")),
            ("\tb", Format::Tsv, Err("column 1: the name is empty")),
            ("a,", Format::Csv, Err("column 2: the name is empty")),
            ("a\t\0", Format::Tsv, Err("zero bytes")),
        ] {
            match (edge(line.as_bytes(), format), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want.map(str::as_bytes), "{line:?}"),
                (Err((what, _)), Err(want)) => assert!(what.contains(want), "{line:?}: {what}"),
                (got, want) => panic!("{line:?}: {got:?}, not {want:?}"),
            }
        }
    }
}
