//! What a program prints at its end.

use std::io::Write;

use aeolian::net::bytes::Bytes;
use serde::Serialize;

use crate::error::plain;
use crate::{Error, Result};

/// Prints what has come of a run: the summary as one JSON object with `json`, nothing with `quiet`, else `text`. For rank 0.
///
/// # Errors
/// [`Error::CannotWrite`] if standard output cannot be written; a reader that has gone (`| head`) is no failure.
pub fn print(summary: &impl Serialize, json: bool, quiet: bool, text: impl FnOnce() -> String) -> Result<()> {
    let text = if json {
        serde_json::to_string(summary).map_err(|e| Error::Os {
            what: format!("the summary is not valid JSON: {e}"),
            help: "please report this".into(),
        })? + "\n"
    } else if quiet {
        String::new()
    } else {
        text()
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::CannotWrite {
            place: "standard output".into(),
            what: format!("cannot be written: {}", plain(&e)),
            help: "see where it goes".into(),
        }),
        _ => Ok(()),
    }
}

/// A number of things: `1 rank`, `3 ranks`.
pub fn plural(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// How many ranks ran where: `3 ranks on 1 node`.
pub fn ranks_on(ranks: u32, nodes: usize) -> String {
    format!("{} on {}", plural(ranks.into(), "rank"), plural(nodes as u64, "node"))
}

/// What operators wrote to disk: `nothing spilled`, `1.5 GiB spilled to disk`.
pub fn spilled(bytes: u64) -> String {
    match bytes {
        0 => "nothing spilled".into(),
        bytes => format!("{} spilled to disk", Bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many() {
        assert_eq!(ranks_on(1, 1), "1 rank on 1 node");
        assert_eq!(ranks_on(6, 2), "6 ranks on 2 nodes");
        assert_eq!(
            (spilled(0), spilled(3 << 19)),
            ("nothing spilled".into(), "1.5 MiB spilled to disk".into())
        );
    }
}
