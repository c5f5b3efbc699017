//! A rank's part of a table of numbers.

use memmap2::Mmap;

use crate::workers::Workers;
use crate::{Error, Result};

#[cfg(feature = "hdf5")]
mod h5type {
    /// What HDF5 can read into.
    pub trait Readable: hdf5_metno::H5Type {}
    impl<T: hdf5_metno::H5Type> Readable for T {}
}
#[cfg(not(feature = "hdf5"))]
mod h5type {
    /// Nothing is asked of an element without HDF5.
    pub trait Readable {}
    impl<T> Readable for T {}
}

/// A number that points are made of: `f64` or `f32`.
pub trait Element:
    bytemuck::Pod
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + std::fmt::Display
    + fast_float2::FastFloat
    + h5type::Readable
{
    /// `f64` or `f32`.
    const NAME: &'static str;
    /// The same in `.npy` headers: `<f8` or `<f4`.
    const NPY: &'static str;
    /// The nearest number of this type (infinite if there is none).
    fn from_f64(value: f64) -> Self;
    /// The same number.
    fn to_f64(self) -> f64;
    /// Neither NaN nor infinite.
    fn finite(self) -> bool;
}

macro_rules! element {
    ($t:ident, $npy:literal) => {
        impl Element for $t {
            const NAME: &'static str = stringify!($t);
            const NPY: &'static str = $npy;
            #[inline]
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            #[inline]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}
element!(f64, "<f8");
element!(f32, "<f4");

enum Storage<T> {
    Owned(Vec<T>),
    /// `len` elements from byte `offset` of a mapping whose alignment was checked when it was made.
    Mapped {
        map: Mmap,
        offset: usize,
        len: usize,
    },
}

/// The rows that this rank holds of an `n_total` x `d` matrix, row-major: owned, or a view of a mapped file.
pub struct Matrix<T> {
    storage: Storage<T>,
    d: usize,
    /// Global number of this rank's first row (0-based). Of a CSV file it is known only when the ranks have told each
    /// other how many rows they found: until then it is 0.
    pub first_row: u64,
    /// Rows of all ranks together; like `first_row`, until then this rank's own.
    pub n_total: u64,
}

impl<T: Element> Matrix<T> {
    /// A matrix of `data.len() / d` rows (`d` > 0; a last, incomplete row is cut off).
    ///
    /// ```
    /// let m = aeolian_examples::Matrix::from_rows(vec![1.0, 2.0, 3.0, 4.0], 2);
    /// assert_eq!((m.rows(), m.row(1)), (2, &[3.0, 4.0][..]));
    /// ```
    pub fn from_rows(mut data: Vec<T>, d: usize) -> Self {
        let n = data.len().checked_div(d).unwrap_or(0);
        data.truncate(n * d);
        Matrix { storage: Storage::Owned(data), d, first_row: 0, n_total: n as u64 }
    }

    /// A view of `n * d` elements from byte `offset` of `map`; `None` if they do not fit or are not aligned.
    pub fn from_map(map: Mmap, offset: usize, n: usize, d: usize) -> Option<Self> {
        let len = n.checked_mul(d)?;
        let bytes = map.get(offset..)?.get(..len.checked_mul(size_of::<T>())?)?;
        bytemuck::try_cast_slice::<u8, T>(bytes).ok()?;
        Some(Matrix { storage: Storage::Mapped { map, offset, len }, d, first_row: 0, n_total: n as u64 })
    }

    /// All elements of this rank's rows, row-major.
    pub fn as_slice(&self) -> &[T] {
        match &self.storage {
            Storage::Owned(v) => v,
            Storage::Mapped { map, offset, len } => {
                bytemuck::cast_slice(&map[*offset..*offset + len * size_of::<T>()])
            }
        }
    }

    /// How many rows this rank holds.
    pub fn rows(&self) -> usize {
        self.as_slice().len().checked_div(self.d).unwrap_or(0)
    }

    /// Elements in a row.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Row `i` of this rank (panics as slices do if there is none).
    pub fn row(&self, i: usize) -> &[T] {
        &self.as_slice()[i * self.d..(i + 1) * self.d]
    }

    /// Whether the rows are a view of a file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.storage, Storage::Mapped { .. })
    }

    /// Checks that every number is finite; `place` is the file. Reads all of the rows once.
    pub fn check_finite(&self, place: &str, workers: &Workers) -> Result<()> {
        let data = self.as_slice();
        let bad = workers.split(data.len(), |range| {
            // Without a branch an element: that vectorises.
            let start = range.start;
            data[range].chunks(4096).enumerate().find_map(|(c, block)| {
                if !block.iter().fold(false, |bad, x| bad | !x.finite()) {
                    return None;
                }
                block.iter().position(|x| !x.finite()).map(|i| start + c * 4096 + i)
            })
        });
        let Some(at) = bad.into_iter().flatten().next() else { return Ok(()) };
        Err(Error::data(
            place,
            format!(
                "row {} (counted from 1), column {}: the value is {}",
                self.first_row + (at / self.d) as u64 + 1,
                at % self.d + 1,
                data[at]
            ),
            "k-means and its kin need finite numbers: drop or fill such rows first (if the file holds f64 values too \
             large for f32, use --dtype f64)",
        ))
    }
}

/// The rows of `rank` when `n` rows are dealt out in equal blocks to `size` ranks.
///
/// ```
/// use aeolian_examples::matrix::block;
/// assert_eq!((block(10, 0, 3), block(10, 1, 3), block(10, 2, 3)), (0..3, 3..6, 6..10));
/// assert_eq!(block(1, 0, 2), 0..0);
/// ```
pub fn block(n: u64, rank: usize, size: usize) -> std::ops::Range<u64> {
    let cut = |r: usize| (u128::from(n) * r as u128 / size.max(1) as u128) as u64;
    cut(rank)..cut(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_bad_number() {
        for threads in [1, 3] {
            let workers = Workers::new(threads).unwrap();
            let mut data = vec![1.5f32; 30_000];
            assert!(Matrix::from_rows(data.clone(), 3).check_finite("f", &workers).is_ok());
            data[3 * 4000 + 1] = f32::NAN;
            data[3 * 9000] = f32::INFINITY;
            let text = Matrix::from_rows(data, 3).check_finite("f", &workers).unwrap_err().to_string();
            assert!(text.starts_with("f: row 4001 (counted from 1), column 2: the value is NaN"), "{text}");
        }
    }

    #[test]
    fn blocks_cover_every_row_once() {
        for n in [0, 1, 5, 17, u64::MAX] {
            for size in [1, 2, 3, 7, 64] {
                let blocks: Vec<_> = (0..size).map(|r| block(n, r, size)).collect();
                assert_eq!((blocks[0].start, blocks[size - 1].end), (0, n));
                assert!(blocks.windows(2).all(|w| w[0].end == w[1].start));
            }
        }
    }
}
