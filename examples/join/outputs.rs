//! What the user gets to see.

use std::fmt::Write;
use std::time::Duration;

use aeolian::ops::JoinReport;
use aeolian_examples::Result;
use aeolian_examples::progress::seconds;
use aeolian_examples::summary::{self, plural, ranks_on, spilled};
use serde::Serialize;

use crate::cli::Options;

/// A side of the join.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Side {
    pub(crate) file: String,
    pub(crate) rows: u64,
    pub(crate) columns: usize,
}

/// Wall-clock seconds of rank 0, which waits for all ranks at the end of each stretch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    /// Finding out the types of both sides.
    pub(crate) types: f64,
    /// Reading, joining and writing.
    pub(crate) join: f64,
    pub(crate) total: f64,
}

/// What `--json` prints, and the text shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) kind: String,
    pub(crate) algorithm: String,
    /// What was done: with `auto`, what it has decided.
    pub(crate) chosen: String,
    pub(crate) on: Vec<String>,
    pub(crate) left: Side,
    pub(crate) right: Side,
    /// Of the output.
    pub(crate) rows: u64,
    pub(crate) columns: Vec<String>,
    pub(crate) sorted: bool,
    pub(crate) output: String,
    /// How it went, of all ranks together (the largest part: of the rank with the largest one).
    pub(crate) way: JoinReport,
    /// Bytes that operators of all ranks wrote to disk.
    pub(crate) spilled_bytes: u64,
    pub(crate) seconds: Seconds,
    /// The largest of all ranks.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) version: &'static str,
}

/// Prints. For rank 0.
pub(crate) fn print(summary: &Summary, options: &Options) -> Result<()> {
    summary::print(summary, options.json, options.quiet, || text(summary))
}

/// The text on standard output.
fn text(s: &Summary) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} join on {}: {}, {}, wires: {}",
        s.kind,
        s.on.join(", "),
        plural(s.rows, "row"),
        ranks_on(s.ranks, s.nodes),
        s.transport
    );
    for (name, side) in [("left", &s.left), ("right", &s.right)] {
        let (rows, columns) = (plural(side.rows, "row"), plural(side.columns as u64, "column"));
        let _ = writeln!(out, "{name}: {}, {rows} of {columns}", side.file);
    }
    let _ = writeln!(out, "algorithm: {}{}", algorithm(s), unusual(s));
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let Seconds { types, join, total } = s.seconds;
    let _ = writeln!(
        out,
        "{} (types {}, join {}), {}",
        time(total),
        time(types),
        time(join),
        spilled(s.spilled_bytes)
    );
    let _ = writeln!(out, "columns: {}", s.columns.join(", ").replace(char::is_control, " "));
    let _ = writeln!(out, "written: {}", s.output);
    out
}

/// The algorithm by the name that the command line has for it.
fn algorithm(s: &Summary) -> String {
    let what = match s.chosen.as_str() {
        "broadcast" => "right side to all ranks",
        "sort" => "rows to the rank of their key, both sides sorted",
        _ => "rows to the rank of their key",
    };
    format!("{} ({what})", s.chosen)
}

/// What else there was to the join: nothing, most often.
fn unusual(s: &Summary) -> String {
    let JoinReport { hashed, sorted, cut, spilled, shared, .. } = s.way;
    let parts = plural(hashed + sorted + cut, "part");
    let sorted = if s.chosen == "sort" { 0 } else { sorted };
    let all: Vec<String> = [
        (spilled, "on disk"),
        (cut, "cut into smaller ones"),
        (sorted, "sorted, since they could not be cut"),
        (shared, "shared among ranks, since few keys have most rows"),
    ]
    .iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("; of {parts}: {}", all.join(", ")),
    }
}
