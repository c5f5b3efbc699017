//! What the user gets to see.

use std::fmt::Write;
use std::time::Duration;

use aeolian::ops::JoinReport;
use aeolian_examples::progress::seconds;
use aeolian_examples::{Result, summary};
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

/// What `--json` prints, and the table shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) kind: String,
    pub(crate) algorithm: String,
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
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (ranks, nodes) = (plural(s.ranks as usize, "rank"), plural(s.nodes, "node"));
    let _ = writeln!(
        out,
        "{} join on {}: {} rows, {ranks} on {nodes}, wires: {}",
        s.kind,
        s.on.join(", "),
        s.rows,
        s.transport
    );
    for (name, side) in [("left", &s.left), ("right", &s.right)] {
        let _ =
            writeln!(out, "{name}: {}, {} rows of {}", side.file, side.rows, plural(side.columns, "column"));
    }
    let _ = writeln!(out, "way: {}", s.way);
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let Seconds { types, join, total } = s.seconds;
    let _ = writeln!(
        out,
        "{} (types {}, join {}), {:.1} MiB spilled to disk",
        time(total),
        time(types),
        time(join),
        s.spilled_bytes as f64 / f64::from(1 << 20)
    );
    let _ = writeln!(out, "columns: {}", s.columns.join(", ").replace(char::is_control, " "));
    let _ = writeln!(out, "written: {}", s.output);
    out
}
