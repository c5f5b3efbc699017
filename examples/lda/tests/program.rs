//! The built program, for tests of what a user sees.

use std::path::Path;
use std::process::Command;

/// Runs the program in `dir`; returns its exit code (-1 after a signal) and what it wrote to standard output and error.
pub(crate) fn lda(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_lda")).current_dir(dir).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}
