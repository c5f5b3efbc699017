//! The built program.

#[path = "../../common/built.rs"]
pub(crate) mod built;

use std::path::Path;

/// As [`built::run`].
#[allow(dead_code)] // not each test program calls it itself
pub(crate) fn mf(dir: &Path, args: &[&str]) -> (i32, String, String) {
    built::run(env!("CARGO_BIN_EXE_mf"), dir, args)
}
