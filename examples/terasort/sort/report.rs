//! What a run says at its end.

use std::fmt::Write;
use std::time::Duration;

use aeolian::net::bytes::Bytes;
use aeolian_examples::progress::seconds;
use aeolian_examples::summary::{plural, ranks_on, spilled};
use aeolian_examples::tera::record::SIZE;
use serde::Serialize;

/// Wall-clock seconds of rank 0.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    /// Until all ranks have read their parts; what does not fit in memory is on disk.
    pub(crate) read: f64,
    /// Samples, splitters, every record to its rank; until the first ones come out in order.
    pub(crate) exchange: f64,
    /// Sorting and writing, range by range.
    pub(crate) write: f64,
    /// Until all is on the disk under its name.
    pub(crate) flush: f64,
    pub(crate) total: f64,
}

/// What did not fit in memory, of all ranks together.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Spilled {
    /// Scratch files.
    pub(crate) files: u64,
    /// Bytes written there, of whatever was written more than once too.
    pub(crate) bytes: u64,
    /// Those on the disk: compressed, with headers.
    pub(crate) stored_bytes: u64,
}

/// What `--json` prints, and the text shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Records of the largest part file.
    pub(crate) largest_part: u64,
    pub(crate) seconds: Seconds,
    pub(crate) spilled: Spilled,
    /// The budget of a rank's operators; the largest of all ranks, as the two that follow.
    pub(crate) memory_limit_bytes: u64,
    pub(crate) memory_peak_bytes: u64,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) version: &'static str,
}

impl Summary {
    /// The text on standard output.
    pub(crate) fn text(&self) -> String {
        let time = |x: f64| seconds(Duration::try_from_secs_f64(x).unwrap_or_default());
        let s = &self.seconds;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}: {} of {SIZE} bytes, {}, wires: {}",
            self.input,
            plural(self.records, "record"),
            ranks_on(self.ranks, self.nodes),
            self.transport
        );
        let _ = writeln!(
            out,
            "sorted in {} (read {}, exchange {}, sort and write {}, flush {}), {:.0} MB/s",
            time(s.total),
            time(s.read),
            time(s.exchange),
            time(s.write),
            time(s.flush),
            self.bytes as f64 / 1e6 / s.total.max(1e-9)
        );
        let _ = match self.spilled.bytes {
            0 => write!(out, "{}", spilled(0)),
            bytes => write!(
                out,
                "{} ({}, {} there)",
                spilled(bytes),
                plural(self.spilled.files, "file"),
                Bytes(self.spilled.stored_bytes)
            ),
        };
        let _ = writeln!(
            out,
            "; a rank's operators had at most {} of {}, a rank {} in all",
            Bytes(self.memory_peak_bytes),
            Bytes(self.memory_limit_bytes),
            Bytes(self.peak_rss_bytes)
        );
        let _ = writeln!(out, "written: {} in {}", plural(self.ranks.into(), "part file"), self.output);
        out
    }
}
