//! The text that is counted without `--input`: see `data/README.md`.

/// What it is called.
pub(crate) const NAME: &str = "the Gettysburg Address (bundled)";

pub(crate) static TEXT: &[u8] = include_bytes!("data/gettysburg.txt");
