//! Which reader reads what.

use std::path::Path;

use crate::csv::{self, Layout};
use crate::matrix::{Element, Matrix};
use crate::readat::ReadAt;
use crate::workers::Workers;
use crate::{Error, Result, h5, npy};

/// A rank's part of an input.
pub struct Part<T> {
    /// The rows.
    pub matrix: Matrix<T>,
    /// Column names, if the file has them.
    pub names: Option<Vec<String>>,
    /// The length of a text file in bytes, by which it is divided: all ranks must have seen the same, and only together do
    /// they know `first_row` and `n_total`.
    pub text_bytes: Option<u64>,
}

/// Reads this rank's part of `spec`: `FILE.npy`, `FILE.h5:/dataset`, or a text file (see [`csv`]). All numbers are
/// finite.
pub fn read<T: Element>(
    spec: &str,
    rank: usize,
    size: usize,
    workers: &Workers,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Part<T>> {
    let matrix = if let Some((file, dataset)) = h5::split(spec) {
        h5::read(Path::new(file), dataset, rank, size)?
    } else {
        let source = ReadAt::open(Path::new(spec))?;
        if spec.to_ascii_lowercase().ends_with(".npy") {
            let header = npy::header(&source)?;
            npy::read(&source, &header, rank, size, progress)?
        } else {
            return read_text(&source, rank, size, workers, progress);
        }
    };
    if matrix.d() == 0 {
        return Err(Error::data(spec, "the array has no columns", "give points of at least one coordinate"));
    }
    matrix.check_finite(spec, workers)?;
    Ok(Part { matrix, names: None, text_bytes: None })
}

/// Reads this rank's part of a text source (see [`csv`]).
pub fn read_text<T: Element>(
    source: &ReadAt,
    rank: usize,
    size: usize,
    workers: &Workers,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Part<T>> {
    let layout = csv::layout(source)?;
    let matrix = csv::read(source, &layout, rank, size, workers, progress)?;
    let Layout { names, .. } = layout;
    Ok(Part { matrix, names, text_bytes: Some(source.len()) })
}
