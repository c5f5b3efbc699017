//! The built programs.

#[path = "../../common/built.rs"]
pub(crate) mod built;

use std::path::Path;

pub(crate) const TERAGEN: &str = env!("CARGO_BIN_EXE_teragen");
pub(crate) const TERASORT: &str = env!("CARGO_BIN_EXE_terasort");
pub(crate) const TERAVALIDATE: &str = env!("CARGO_BIN_EXE_teravalidate");

/// As [`built::run`]; words are separated by blanks.
#[allow(dead_code)] // not in all tests
pub(crate) fn run(program: &str, dir: &Path, words: &str) -> (i32, String, String) {
    built::run(program, dir, &words.split_whitespace().collect::<Vec<_>>())
}
