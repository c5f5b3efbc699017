//! Files of ratings, of which each rank reads its part.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aeolian_examples::lines::{PIECE, content, line_at, number_at, shown, starting_in};
use aeolian_examples::matrix::block;
use aeolian_examples::readat::ReadAt;
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Result, csv};

use crate::cli::Format;
use crate::ratings::{HoldOut, Part};

/// What the first line of a file says about the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    format: Format,
    /// Fields in a line.
    columns: usize,
    /// Where the line after the header begins, or the first line.
    start: u64,
}

/// What is wrong in a line, and what to do.
type Bad = (String, &'static str);

/// Reads the ratings that begin in this rank's share of the bytes of a file, and tells how many bytes it has in all. `progress` is told the
/// bytes done so far.
pub(crate) fn read(
    path: &str,
    format: Format,
    hold_out: HoldOut,
    (rank, size): (usize, usize),
    workers: &Workers,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(Part, u64)> {
    let source = ReadAt::open(Path::new(path))?;
    let layout = layout(&source, format)?;
    let share = block(source.len() - layout.start, rank, size);
    let (begin, end) = (layout.start + share.start, layout.start + share.end);
    let mut part = Part::default();
    let done = AtomicU64::new(0);
    let mut at = begin;
    while at < end {
        // As many pieces as there are threads, then append them in order: what is in flight stays small.
        let stop = end.min(at + PIECE * workers.threads() as u64);
        let starts: Vec<u64> = (at..stop).step_by(PIECE as usize).collect();
        let pieces = workers.each(starts, |from| {
            let to = stop.min(from + PIECE);
            let piece = piece(&source, layout, hold_out, from, to);
            progress(done.fetch_add(to - from, Ordering::Relaxed) + to - from, end - begin);
            piece
        });
        for piece in pieces {
            part.append(&piece?)?;
        }
        at = stop;
    }
    Ok((part, source.len()))
}

/// Reads the layout from the beginning of the file: the same on every rank.
fn layout(source: &ReadAt, format: Format) -> Result<Layout> {
    let help = "give a file with USER, ITEM and RATING in each line";
    if source.is_empty() {
        return Err(Error::data(source.name(), "the file is empty", help));
    }
    let mark = source.len() >= 3 && source.bytes(0, 3)? == b"\xef\xbb\xbf";
    let mut at = if mark { 3 } else { 0 };
    while at < source.len() {
        let (line, next) = line_at(source, at)?;
        if let Some(text) = content(&line) {
            let (fields, columns) = fields(text, format);
            // A header's third field is a word; a rating with a slip of the pen has a digit all the same.
            let header = columns >= 3
                && fast_float2::parse::<f32, _>(fields[2]).is_err()
                && !fields[2].is_empty()
                && !fields[2].iter().any(u8::is_ascii_digit);
            return Ok(Layout { format, columns, start: if header { next } else { at } });
        }
        at = next;
    }
    Err(Error::data(source.name(), "there are no ratings in it", help))
}

/// Parses the lines that begin in `from..to`.
fn piece(source: &ReadAt, layout: Layout, hold_out: HoldOut, from: u64, to: u64) -> Result<Part> {
    let lines = starting_in(source, layout.start, from, to)?;
    let mut part = Part::default();
    let mut at = 0;
    for line in lines.text.split_inclusive(|b| *b == b'\n') {
        if let Some(text) = content(line) {
            match rating(text, layout) {
                Ok((user, item, value)) => part.add(user, item, value, hold_out)?,
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

/// User, item and rating of a line.
fn rating(line: &[u8], layout: Layout) -> Result<(&[u8], &[u8], f32), Bad> {
    if line.contains(&0) {
        let help = "convert UTF-16 to UTF-8";
        return Err(("there are zero bytes in it: this is not a text file".into(), help));
    }
    let ([user, item, value], columns) = fields(line, layout.format);
    if columns < 3 {
        let plural = if columns == 1 { "" } else { "s" };
        let what =
            format!("the line has {columns} field{plural}, not USER, ITEM and RATING: {}", shown(line));
        return Err(match layout.format {
            Format::Csv => (what, "separate them by comma (TAB or blanks need --format tsv)"),
            Format::Tsv => (what, "separate them by TAB or blanks (comma needs --format csv)"),
        });
    }
    if columns != layout.columns {
        let what = format!("the line has {columns} fields, but the first one has {}", layout.columns);
        return Err((
            what,
            "write names with a comma in double quotes (csv), or with TABs between fields (tsv)",
        ));
    }
    if let Some(empty) = [user, item].iter().position(|n| n.is_empty()) {
        return Err((format!("column {}: the name is empty", empty + 1), "give every user and item a name"));
    }
    match fast_float2::parse::<f32, _>(value) {
        Ok(number) if number.is_finite() => Ok((user, item, number)),
        Ok(_) => Err((
            format!("column 3: the rating {} is not a finite number", shown(value)),
            "drop such lines first",
        )),
        Err(_) => Err((
            format!("column 3: the rating {} is not a number", shown(value)),
            "correct it, or drop the line; the columns are USER, ITEM, RATING",
        )),
    }
}

/// The first three fields, and how many there are.
fn fields(line: &[u8], format: Format) -> ([&[u8]; 3], usize) {
    match format {
        Format::Csv => three(csv::fields(line, b',')),
        Format::Tsv if line.contains(&b'\t') => three(line.split(|b| *b == b'\t').map(<[u8]>::trim_ascii)),
        Format::Tsv => three(line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty())),
    }
}

fn three<'a>(fields: impl Iterator<Item = &'a [u8]>) -> ([&'a [u8]; 3], usize) {
    fields.fold(([&[][..]; 3], 0), |(mut first, count), field| {
        if let Some(slot) = first.get_mut(count) {
            *slot = field;
        }
        (first, count + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_people_write_them() {
        use Format::{Csv, Tsv};
        for (line, format, columns, want) in [
            ("1,2,3.5", Csv, 3, Ok(("1", "2", 3.5))),
            ("1 , \"a, b\" , 4", Csv, 3, Ok(("1", "a, b", 4.0))),
            ("1,2,3.5,964982703", Csv, 4, Ok(("1", "2", 3.5))),
            ("196\t242\t3\t881250949", Tsv, 4, Ok(("196", "242", 3.0))),
            ("New York\tx\t-1e-3", Tsv, 3, Ok(("New York", "x", -1e-3))),
            ("u  i   5", Tsv, 3, Ok(("u", "i", 5.0))),
            ("1,2", Csv, 3, Err("has 2 fields, not USER, ITEM and RATING")),
            ("1\t2\t3", Csv, 3, Err("has 1 field, not USER")),
            ("1,2,3,4", Csv, 3, Err("has 4 fields, but the first one has 3")),
            (",2,3", Csv, 3, Err("column 1: the name is empty")),
            ("1,,3", Csv, 3, Err("column 2: the name is empty")),
            ("1,2,x", Csv, 3, Err("\"x\" is not a number")),
            ("1,2,", Csv, 3, Err("\"\" is not a number")),
            ("1,2,nan", Csv, 3, Err("not a finite number")),
            ("1,2,1e99", Csv, 3, Err("not a finite number")),
            ("1,2\0,3", Csv, 3, Err("zero bytes")),
        ] {
            match (rating(line.as_bytes(), Layout { format, columns, start: 0 }), want) {
                (Ok(got), Ok((user, item, value))) => {
                    assert_eq!(got, (user.as_bytes(), item.as_bytes(), value), "{line:?}");
                }
                (Err((what, _)), Err(want)) => assert!(what.contains(want), "{line:?}: {what}"),
                (got, want) => panic!("{line:?}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn a_header_is_a_word_where_the_rating_should_be() {
        for (text, start) in [
            (&b"userId,movieId,rating\n1,2,3\n"[..], 22),
            (b"\xef\xbb\xbf# x\n\nu,i,Stars\n1,2,3\n", 18),
            (b"1,2,3\n", 0),
            (b"\xef\xbb\xbf1,2,3\n", 3),
            (b"a,b,3x\n", 0), // an error, when it is read as a rating
            (b"a,b,nan\n", 0),
        ] {
            let source = ReadAt::Static { bytes: text, name: "x" };
            assert_eq!(
                layout(&source, Format::Csv).unwrap(),
                Layout { format: Format::Csv, columns: 3, start }
            );
        }
    }
}
