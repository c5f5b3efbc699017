//! What a program prints at its end.

use std::io::Write;

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
