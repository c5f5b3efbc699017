//! [`Table`]: a CSV file of which each rank has its part.

use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian::harp::{Max, allreduce_slice};

use super::{Fields, Kind, Rows, Value, quotes};
use crate::agree::{agree, all};
use crate::lines::{number_at, shown};
use crate::matrix::block;
use crate::progress::Progress;
use crate::readat::ReadAt;
use crate::stop::not_stopped;
use crate::summary::plural;
use crate::{Error, Result};

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// The byte between fields.
    pub delimiter: u8,
    /// What NULL is, without quotes.
    pub null: String,
}

/// Options that all programs on tables have.
#[derive(Debug, Clone, clap::Args)]
pub struct TableArgs {
    /// The character between fields, of inputs and output; `tab` for TAB
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    pub delimiter: u8,
    /// The unquoted text that stands for NULL, in inputs and output [default: nothing]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = null)]
    pub null: String,
}

fn delimiter(text: &str) -> std::result::Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [b'"' | b'\n' | b'\r' | 0, ..] => Err("a quote, a line end or zero cannot be between fields".into()),
        [one] if one.is_ascii() => Ok(*one),
        _ => Err("give one ASCII character, or `tab`".into()),
    }
}

fn null(text: &str) -> std::result::Result<String, String> {
    if text.contains(['"', '\n', '\r']) {
        return Err("an unquoted field has neither quotes nor line ends in it".into());
    }
    Ok(text.to_owned())
}

impl TableArgs {
    /// What they say.
    ///
    /// # Errors
    /// What makes no sense, and what to do.
    pub fn dialect(&self) -> Result<Dialect> {
        if self.null.as_bytes().contains(&self.delimiter) {
            return Err(Error::usage(
                format!("--null {:?}: the delimiter is in it, so no field is this text", self.null),
                "name another text, or another --delimiter",
            ));
        }
        Ok(Dialect { delimiter: self.delimiter, null: self.null.clone() })
    }
}

/// Fields between commas; an empty one is NULL.
impl Default for Dialect {
    fn default() -> Dialect {
        Dialect { delimiter: b',', null: String::new() }
    }
}

impl Dialect {
    fn is_null(&self, field: (&[u8], bool)) -> bool {
        !field.1 && field.0 == self.null.as_bytes()
    }

    /// Appends a row with its line end. What is read from it by this dialect is the same.
    pub fn put(&self, row: &[Value], out: &mut Vec<u8>) {
        for (i, value) in row.iter().enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            match value {
                Value::Null => out.extend_from_slice(self.null.as_bytes()),
                Value::Int(n) => self.text(&n.to_string(), out),
                // As short as it can be and still read back as the same bits; never like a whole number.
                Value::Float(x) => self.text(&format!("{x:?}"), out),
                Value::Text(text) => self.text(text, out),
            }
        }
        out.push(b'\n');
    }

    /// Appends the header line.
    pub fn header(&self, names: &[String]) -> Vec<u8> {
        let mut out = Vec::new();
        let names: Vec<Value> = names.iter().cloned().map(Value::Text).collect();
        self.put(&names, &mut out);
        out
    }

    fn text(&self, text: &str, out: &mut Vec<u8>) {
        let special = |b: &u8| *b == self.delimiter || matches!(*b, b'"' | b'\n' | b'\r');
        if text == self.null || text.is_empty() || text.as_bytes().iter().any(special) {
            out.push(b'"');
            out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// What a rank finds out about its part: types, where the first text of each column is, how many rows.
type Found = (Vec<Kind>, Vec<Option<(u64, String)>>, u64);

/// A file, its columns, and which part of it is this rank's.
#[derive(Debug)]
pub struct Table {
    source: ReadAt,
    dialect: Dialect,
    /// Names of the columns.
    pub names: Vec<String>,
    /// Their types, over the whole file.
    pub kinds: Vec<Kind>,
    /// Of each column, where this rank has found the first text, and what it is.
    texts: Vec<Option<(u64, String)>>,
    /// Rows of all ranks together.
    pub rows: u64,
    /// Where the first row of the file begins, and this rank's range.
    start: u64,
    range: (u64, u64),
    /// Whether the range begins inside of quotes.
    inside: bool,
}

impl Table {
    /// Reads the header of the file, which this rank could open or not: names are known then, types only after [`Table::scan`].
    /// Collective.
    pub fn open(world: &mut World, source: Result<ReadAt>, dialect: &Dialect) -> Result<Table> {
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let mut table = agree(world, source.and_then(|source| Table::header(source, dialect)))?;
        let lengths = all(world, table.source.len())?;
        if let Some(odd) = (0..size).find(|r| lengths[*r] != lengths[0]) {
            return Err(Error::data(
                table.source.name(),
                format!("rank {odd} sees a file of {} bytes, but rank 0 one of {}", lengths[odd], lengths[0]),
                "every host must see the same file under this path, and nobody may write to it meanwhile",
            ));
        }
        let share = block(table.source.len() - table.start, rank, size);
        table.range = (table.start + share.start, table.start + share.end);
        Ok(table)
    }

    /// Finds out how many rows there are, and of which types: all ranks in their own parts of the file. Collective.
    pub fn scan(&mut self, world: &mut World, progress: &Progress) -> Result<()> {
        let (from, to) = self.range;
        // Two passes: one for the quotes, one for the types.
        let here = world.handle();
        let tick = |done| {
            progress.tick(done, 2 * (to - from), String::new);
            not_stopped(&here)
        };
        let count = agree(world, quotes(&self.source, from, to, &tick))?;
        let before: u64 = all(world, count)?[..world.rank() as usize].iter().sum();
        self.inside = before % 2 == 1;
        let found = self.infer(&|done| tick(to - from + done));
        let (kinds, texts, rows) = agree(world, found)?;
        let mut kinds: Vec<u64> = kinds.into_iter().map(|kind| kind as u64).collect();
        allreduce_slice(world, &mut kinds, Max)?;
        self.kinds = kinds.into_iter().map(Kind::from_number).collect();
        self.texts = texts;
        self.rows = all(world, rows)?.iter().sum();
        Ok(())
    }

    /// Reads the header.
    fn header(source: ReadAt, dialect: &Dialect) -> Result<Table> {
        let mark = source.len() >= 3 && source.bytes(0, 3)? == b"\xef\xbb\xbf";
        let start = if mark { 3 } else { 0 };
        let mut table = Table {
            dialect: dialect.clone(),
            names: Vec::new(),
            kinds: Vec::new(),
            texts: Vec::new(),
            rows: 0,
            start,
            range: (start, source.len()),
            inside: false,
            source,
        };
        let mut fields = Fields::default();
        let mut rows = Rows::new(&table.source, start, table.source.len(), false, true)?;
        while let Some((at, row)) = rows.next_row()? {
            if row.is_empty() {
                continue;
            }
            fields.split(row, dialect.delimiter).map_err(|wrong| table.wrong(at, wrong))?;
            let name = |i: usize| std::str::from_utf8(fields.get(i).0).map(str::to_owned);
            let names: Vec<_> = (0..fields.len()).map_while(|i| name(i).ok()).collect();
            if names.len() < fields.len() {
                return Err(table.not_utf8(at, names.len()));
            }
            table.start = rows.position();
            table.names = names;
            return Ok(table);
        }
        Err(Error::data(
            table.source.name(),
            "the file is empty",
            "give a CSV file with a header line: the names of the columns",
        ))
    }

    /// The name of the file.
    pub fn name(&self) -> String {
        self.source.name()
    }

    /// How large it is, for messages: `684 rows of 19 columns`.
    pub fn size(&self) -> String {
        format!("{} of {}", plural(self.rows, "row"), plural(self.names.len() as u64, "column"))
    }

    /// A row for messages.
    pub fn shown(&self, row: &[Value]) -> String {
        let mut text = Vec::new();
        self.dialect.put(row, &mut text);
        shown(text.trim_ascii_end())
    }

    /// The number of the column with this name.
    pub fn column(&self, name: &str) -> Result<usize> {
        let mut found = (0..self.names.len()).filter(|i| self.names[*i] == name);
        match (found.next(), found.next()) {
            (Some(i), None) => Ok(i),
            (Some(_), Some(_)) => Err(Error::data(
                format!("{}:1", self.name()),
                format!("several columns have the name {name:?}"),
                "give each column that is used a name of its own",
            )),
            (None, _) => Err(Error::data(
                format!("{}:1", self.name()),
                format!("there is no column {name:?}; there are {}", self.names.join(", ")),
                "name one of these (is this the right --delimiter?)",
            )),
        }
    }

    /// An error if this rank has found text in a column, of which all ranks know that there is some. Its line is the first one if the
    /// lowest rank's error is told, as [`agree`] does.
    pub fn numbers(&self, column: usize) -> Result<()> {
        let Some(Some((at, text))) = self.texts.get(column) else { return Ok(()) };
        Err(self.error(
            *at,
            &format!(
                "column {} ({}): {text}, so the column has no sum and no mean",
                column + 1,
                self.names[column]
            ),
            "mend it, take count, min or max, or say what stands for missing numbers (--null NA)",
        ))
    }

    /// The types of the columns in this rank's part, its first texts, and its rows.
    fn infer(&self, tick: &dyn Fn(u64) -> Result<()>) -> Result<Found> {
        let mut kinds = vec![Kind::Null; self.names.len()];
        let mut texts = vec![None; self.names.len()];
        let mut count = 0;
        self.each(tick, |at, fields| {
            for (i, kind) in kinds.iter_mut().enumerate() {
                let field = fields.get(i);
                if *kind < Kind::Text && !self.dialect.is_null(field) {
                    *kind = (*kind).max(Kind::of(field.0));
                    if *kind == Kind::Text {
                        texts[i] = Some((at, format!("{} {}", shown(field.0), Kind::why_text(field.0))));
                    }
                }
                if std::str::from_utf8(field.0).is_err() {
                    return Err(self.not_utf8(at, i));
                }
            }
            count += 1;
            Ok(())
        })?;
        Ok((kinds, texts, count))
    }

    /// The values of some columns, of this rank's rows.
    ///
    /// # Errors
    /// Of the file, those of `take`, and [`Error::Stopped`] when somebody wants the job to end.
    pub fn read(
        &self,
        world: &World,
        columns: &[usize],
        progress: &Progress,
        mut take: impl FnMut(Vec<Value>) -> Result<()>,
    ) -> Result<()> {
        let tick = |done| {
            progress.tick(done, self.range.1 - self.range.0, String::new);
            not_stopped(world)
        };
        self.each(&tick, |at, fields| {
            let value = |i: &usize| match fields.get(*i) {
                field if self.dialect.is_null(field) => Ok(Value::Null),
                (field, _) => self.kinds[*i].value(field).ok_or_else(|| self.changed(at, *i, field)),
            };
            take(columns.iter().map(value).collect::<Result<_>>()?)
        })
    }

    /// Walks through this rank's rows. `tick` is told the bytes done, and may end it.
    fn each(
        &self,
        tick: &dyn Fn(u64) -> Result<()>,
        mut take: impl FnMut(u64, &Fields) -> Result<()>,
    ) -> Result<()> {
        let (from, to) = self.range;
        let mut fields = Fields::default();
        let mut rows = Rows::new(&self.source, from, to, self.inside, from == self.start)?;
        let mut count = 0u64;
        while let Some((at, row)) = rows.next_row()? {
            if row.is_empty() && self.names.len() > 1 {
                continue;
            }
            fields.split(row, self.dialect.delimiter).map_err(|wrong| self.wrong(at, wrong))?;
            if fields.len() != self.names.len() {
                return Err(self.error(
                    at,
                    &format!(
                        "the row has {}, but the header {}",
                        plural(fields.len() as u64, "field"),
                        self.names.len()
                    ),
                    "give every row as many fields as the header (a text with the delimiter in it needs quotes)",
                ));
            }
            take(at, &fields)?;
            count += 1;
            if count.is_multiple_of(1024) {
                tick(at - from)?;
            }
        }
        tick(to - from)
    }

    /// An error in the row that begins at this byte. Counts the lines before it.
    fn error(&self, at: u64, what: &str, help: &str) -> Error {
        match number_at(&self.source, at) {
            Ok(line) => Error::data(format!("{}:{line}", self.name()), what, help),
            Err(e) => e,
        }
    }

    fn wrong(&self, at: u64, (column, what): (usize, &'static str)) -> Error {
        let help =
            "put the whole field into double quotes, and write a quote in it twice: \"say \"\"yes\"\"\"";
        self.error(at, &format!("column {column}: {what}"), help)
    }

    fn not_utf8(&self, at: u64, i: usize) -> Error {
        self.error(
            at,
            &format!("column {}: this is not UTF-8", i + 1),
            "convert the file first (`iconv -t UTF-8`)",
        )
    }

    /// A field was of the column's type when types were found out.
    fn changed(&self, at: u64, i: usize, field: &[u8]) -> Error {
        let (name, kind) = (&self.names[i], self.kinds[i].name());
        let what = format!("column {} ({name}): {} is no {kind} any more", i + 1, shown(field));
        self.error(at, &what, "nobody may write to an input while a job reads it; run again")
    }
}

/// Whether a file that is to be written is one of the inputs.
pub(super) fn is_input(output: &Path, inputs: &[&PathBuf]) -> bool {
    let Ok(output) = output.canonicalize() else { return false };
    inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == output))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
