//! HDF5 datasets, each rank reading its hyperslab. Needs the cargo feature `hdf5` (and libhdf5).

use std::path::Path;

use crate::matrix::{Element, Matrix};
use crate::{Error, Result};

/// Splits `file.h5:/dataset`; `None` if `spec` is not of that form.
///
/// ```
/// use aeolian_examples::h5::split;
/// assert_eq!(split("a.h5:/x/y"), Some(("a.h5", "/x/y")));
/// assert_eq!(split("a.hdf5"), Some(("a.hdf5", "")));
/// assert_eq!(split("a.csv"), None);
/// ```
pub fn split(spec: &str) -> Option<(&str, &str)> {
    let is_h5 = |f: &str| [".h5", ".hdf5", ".he5"].iter().any(|e| f.to_ascii_lowercase().ends_with(e));
    match spec.rsplit_once(':') {
        Some((file, dataset)) if is_h5(file) => Some((file, dataset)),
        _ => is_h5(spec).then_some((spec, "")),
    }
}

/// Reads this rank's block of rows of a 2-d (or 1-d: one column) dataset of any real type.
#[cfg(feature = "hdf5")]
pub fn read<T: Element>(file: &Path, dataset: &str, rank: usize, size: usize) -> Result<Matrix<T>> {
    use hdf5_metno::types::TypeDescriptor;

    std::fs::File::open(file).map_err(|e| Error::no_input(file, &e))?;
    let place = format!("{}:{dataset}", file.display());
    let failed = |what: &str| {
        let what = what.to_owned();
        let place = place.clone();
        move |e: hdf5_metno::Error| {
            let said = e.to_string();
            let help = match said.contains("unable to lock") {
                true => {
                    "close it where it is open for writing; on a file system without locks set HDF5_USE_FILE_LOCKING=FALSE"
                }
                false => "see what `h5dump -H` says of the file",
            };
            Error::data(place, format!("{what}: {said}"), help)
        }
    };
    let opened = hdf5_metno::File::open(file).map_err(failed("HDF5 cannot open the file"))?;
    if dataset.trim_matches('/').is_empty()
        || !opened.link_exists(dataset)
        || opened.dataset(dataset).is_err()
    {
        let names: Vec<String> = opened.datasets().unwrap_or_default().iter().map(|d| d.name()).collect();
        let there = if names.is_empty() { "none at its top level".into() } else { names.join(", ") };
        let what = if dataset.is_empty() {
            "no dataset is named".into()
        } else {
            format!("there is no dataset {dataset}")
        };
        return Err(Error::NoInput {
            place: file.display().to_string(),
            what,
            help: format!("write FILE.h5:/dataset; the datasets in this file are: {there}"),
        });
    }
    let set = opened.dataset(dataset).map_err(failed("HDF5 cannot open the dataset"))?;
    let kind = set.dtype().and_then(|t| t.to_descriptor()).map_err(failed("HDF5 cannot tell its type"))?;
    if !matches!(kind, TypeDescriptor::Float(_) | TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)) {
        return Err(Error::data(
            place,
            format!("the dataset holds {kind}, not real numbers"),
            "store it as float64",
        ));
    }
    let (n, d) = match set.shape()[..] {
        [n] => (n, 1),
        [n, d] => (n, d),
        ref shape => {
            return Err(Error::data(
                place,
                format!("the dataset has {} dimensions (shape {shape:?}), not 2", shape.len()),
                "store points as the rows of a 2-d dataset",
            ));
        }
    };
    let rows = crate::matrix::block(n as u64, rank, size);
    let (from, to) = (rows.start as usize, rows.end as usize);
    let data = if from == to {
        Vec::new()
    } else if set.ndim() == 1 {
        set.read_slice_1d::<T, _>(from..to)
            .map_err(failed("HDF5 cannot read it"))?
            .into_raw_vec_and_offset()
            .0
    } else {
        let part = set.read_slice_2d::<T, _>((from..to, ..)).map_err(failed("HDF5 cannot read it"))?;
        part.into_raw_vec_and_offset().0
    };
    let mut matrix = Matrix::from_rows(data, d);
    (matrix.first_row, matrix.n_total) = (rows.start, n as u64);
    Ok(matrix)
}

/// Without the feature: says how to get it.
#[cfg(not(feature = "hdf5"))]
pub fn read<T: Element>(file: &Path, dataset: &str, _rank: usize, _size: usize) -> Result<Matrix<T>> {
    Err(Error::usage(
        format!("{}:{dataset}: this program was built without HDF5", file.display()),
        "install libhdf5 (Debian, Ubuntu: apt install libhdf5-dev) and build with `cargo build --release -p \
         aeolian-examples --features hdf5`",
    ))
}
