//! The file that was asked for, and standard output.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use aeolian::net::bytes::Bytes;
use aeolian_examples::output::Target;
use aeolian_examples::progress::seconds;
use aeolian_examples::summary::{self, plural, ranks_on, spilled};
use aeolian_examples::{Error, Result};
use serde::Serialize;

use crate::cli::Options;
use crate::files::Files;
use crate::job::Summary;
use crate::sorter::Row;

/// Where the words are written by default if the bundled text is counted.
const BUNDLED: &str = "wordcount-demo.tsv";

/// Characters of a word in the table.
const WIDE: usize = 48;

/// One of the most frequent words.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Top {
    pub(crate) word: String,
    pub(crate) count: u64,
}

impl Top {
    pub(crate) fn new(row: &Row) -> Top {
        Top { word: String::from_utf8_lossy(row.word.bytes()).into_owned(), count: row.count }
    }
}

/// Whether a file will be written: known on every rank.
pub(crate) fn wanted(options: &Options) -> bool {
    options.output.is_some() || options.input.is_empty()
}

/// Where the words are written, if anywhere.
pub(crate) fn output(options: &Options) -> Option<PathBuf> {
    options.output.clone().or_else(|| options.input.is_empty().then(|| PathBuf::from(BUNDLED)))
}

/// Checks that the file can be written, before anything is computed. For rank 0.
pub(crate) fn check(options: &Options, files: &Files) -> Result<Option<Target>> {
    let Some(path) = output(options) else { return Ok(None) };
    if files.contains(&path) {
        let what = format!("--output {}: this file is an input", path.display());
        return Err(Error::usage(what, "name another file"));
    }
    Target::check(&path).map(Some)
}

/// Prints. For rank 0.
pub(crate) fn print(summary: &Summary, target: Option<&Target>, options: &Options) -> Result<()> {
    summary::print(summary, options.json, options.quiet, || {
        text(summary, target.map(|t| t.path().display().to_string()))
    })
}

/// The text on standard output: what was done, the most frequent words, and where the others are.
fn text(s: &Summary, file: Option<String>) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {}, {}, {} distinct, {}, wires: {}",
        s.input,
        plural(s.files, "file"),
        plural(s.words, "word"),
        s.distinct,
        ranks_on(s.ranks, s.nodes),
        s.transport
    );
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let _ = writeln!(
        out,
        "{} in {} (count {}, reduce {}, write {}), {}",
        Bytes(s.bytes),
        time(s.seconds.total),
        time(s.seconds.count),
        time(s.seconds.reduce),
        time(s.seconds.write),
        spilled(s.spilled_bytes),
    );
    // Words go to terminals: short, and without control characters.
    let shown = |word: &str| -> String { word.replace(char::is_control, " ").chars().take(WIDE).collect() };
    let rows: Vec<[String; 3]> = (1..)
        .zip(&s.top)
        .map(|(i, top): (usize, _)| [i.to_string(), shown(&top.word), top.count.to_string()])
        .collect();
    if !rows.is_empty() {
        let head = ["", "word", "count"].map(str::to_owned);
        let width = |i: usize| rows.iter().chain([&head]).map(|r| r[i].chars().count()).max().unwrap_or(0);
        let [a, b, c] = std::array::from_fn(width);
        let rule = [a, b, c].map(|w| "-".repeat(w));
        let _ = writeln!(out);
        for r in [&head, &rule].into_iter().chain(&rows) {
            let _ = writeln!(out, "  {:>a$}  {:<b$}  {:>c$}", r[0], r[1], r[2]);
        }
    }
    if let Some(file) = file {
        let _ = writeln!(out, "\nwritten: {file}");
    }
    out
}
