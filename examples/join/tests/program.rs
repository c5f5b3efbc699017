//! The built program.

#[path = "../../common/built.rs"]
pub(crate) mod built;

use std::path::Path;

/// As [`built::run`].
pub(crate) fn join(dir: &Path, args: &[&str]) -> (i32, String, String) {
    built::run(env!("CARGO_BIN_EXE_join"), dir, args)
}
