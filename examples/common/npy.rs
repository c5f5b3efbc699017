//! Numpy's `.npy` files, format versions 1, 2 and 3.
//!
//! A file that holds just what is asked for (`<f8` for `f64`, `<f4` for `f32`, C order) is mapped: no copy is made. Any
//! other real type of numpy (integers, big-endian, Fortran order, bool) is read in small pieces and converted; 64-bit
//! integers beyond 2^53 are rounded. Objects are never unpickled. A vector of n numbers is n rows of one column.

use crate::matrix::{Element, Matrix, block};
use crate::readat::{ReadAt, reserve};
use crate::{Error, Result};

/// Numpy itself refuses headers beyond 10 000 bytes unless told otherwise; ours leaves room for long dtypes.
const LONGEST_HEADER: u64 = 64 * 1024;
/// Bytes converted at once.
const PIECE: usize = 1 << 20;

/// What a `.npy` header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Numpy's code of the element type, such as `<f8`.
    pub descr: String,
    /// Column-major.
    pub fortran: bool,
    /// Sizes of the dimensions.
    pub shape: Vec<u64>,
    /// Where the elements begin.
    pub offset: u64,
}

impl Header {
    /// Rows and columns of a vector or matrix.
    pub fn rows_cols(&self, place: &str) -> Result<(u64, u64)> {
        match self.shape[..] {
            [n] => Ok((n, 1)),
            [n, d] => Ok((n, d)),
            _ => Err(Error::data(
                place,
                format!("the array has {} dimensions (shape {:?}), not 2", self.shape.len(), self.shape),
                "save points as the rows of a 2-d array: np.save(file, x.reshape(len(x), -1))",
            )),
        }
    }
}

fn damaged(place: &str, what: impl Into<String>) -> Error {
    Error::data(place, what, "write the file again with numpy.save")
}

/// Reads and checks the header, and that the file is as long as it says.
pub fn header(source: &ReadAt) -> Result<Header> {
    let place = source.name();
    if source.is_empty() {
        return Err(damaged(&place, "the file is empty"));
    }
    let head = source.bytes(0, source.len().min(12))?;
    if head.len() < 10 || head[..6] != *b"\x93NUMPY" {
        return Err(Error::data(
            place,
            "this is not a .npy file (its first bytes are others)",
            "name text files *.csv",
        ));
    }
    let (start, len) = match head[6] {
        1 => (10, u64::from(u16::from_le_bytes([head[8], head[9]]))),
        2 | 3 if head.len() == 12 => {
            (12, u64::from(u32::from_le_bytes([head[8], head[9], head[10], head[11]])))
        }
        v => return Err(damaged(&place, format!("its format version {v}.{} is not known", head[7]))),
    };
    if len > LONGEST_HEADER || start + len > source.len() {
        return Err(damaged(
            &place,
            format!("its header would have {len} bytes: the file is damaged or cut off"),
        ));
    }
    let text = source.bytes(start, start + len)?;
    let text = String::from_utf8_lossy(&text);
    let mut header = Dict { rest: &text }
        .parse()
        .ok_or_else(|| damaged(&place, format!("its header is not understood: {}", text.trim_end())))?;
    header.offset = start + len;
    let width = Type::of(&header.descr, &place)?.width as u64;
    let need = header
        .shape
        .iter()
        .try_fold(width, |a, &b| a.checked_mul(b))
        .and_then(|b| b.checked_add(header.offset));
    match need {
        Some(need) if need <= source.len() => Ok(header),
        _ => Err(damaged(
            &place,
            format!(
                "the file has {} bytes, but its header promises {} elements of {}: it is cut off",
                source.len(),
                header.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x "),
                header.descr
            ),
        )),
    }
}

/// The header's Python dictionary: only what numpy writes.
struct Dict<'a> {
    rest: &'a str,
}

impl Dict<'_> {
    fn token(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        let quote = if self.token("'").is_some() { '\'' } else { self.token("\"").map(|()| '"')? };
        let (text, rest) = self.rest.split_once(quote)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn number(&mut self) -> Option<u64> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let value = self.rest[..end].parse().ok()?;
        self.rest = self.rest[end..].trim_start_matches('L');
        Some(value)
    }

    fn shape(&mut self) -> Option<Vec<u64>> {
        self.token("(")?;
        let mut shape = Vec::new();
        while self.token(")").is_none() {
            shape.push(self.number()?);
            if self.token(",").is_none() {
                self.token(")")?;
                break;
            }
        }
        Some(shape)
    }

    fn parse(mut self) -> Option<Header> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.token("{")?;
        while self.token("}").is_none() {
            let key = self.string()?;
            self.token(":")?;
            match key.as_str() {
                // A list is a record type: kept as text, to be refused by name.
                "descr" if self.rest.trim_start().starts_with('[') => {
                    let (list, rest) = self.rest.split_at(self.rest.rfind(']')? + 1);
                    (descr, self.rest) = (Some(list.trim().to_owned()), rest);
                }
                "descr" => descr = Some(self.string()?),
                "fortran_order" => {
                    fortran = Some(self.token("True").is_some() || self.token("False").map(|()| false)?)
                }
                "shape" => shape = Some(self.shape()?),
                _ => return None,
            }
            if self.token(",").is_none() {
                self.token("}")?;
                break;
            }
        }
        Some(Header { descr: descr?, fortran: fortran?, shape: shape?, offset: 0 })
    }
}

/// An element type.
struct Type {
    kind: u8,
    width: usize,
    big: bool,
}

impl Type {
    fn of(descr: &str, place: &str) -> Result<Type> {
        let bytes = descr.as_bytes();
        let known = match bytes {
            [order, kind, width] => match (kind, width) {
                (b'f', b'4' | b'8') | (b'i' | b'u', b'1' | b'2' | b'4' | b'8') | (b'b', b'1') => {
                    let big = *order == b'>' || (*order == b'=' && cfg!(target_endian = "big"));
                    Some(Type { kind: *kind, width: usize::from(width - b'0'), big })
                }
                _ => None,
            },
            _ => None,
        };
        known.ok_or_else(|| {
            let what = match bytes.get(1) {
                Some(b'O') => "Python objects".to_owned(),
                Some(b'c') => "complex numbers".to_owned(),
                Some(b'U' | b'S') => "text".to_owned(),
                _ if descr.starts_with('[') => format!("records {descr}"),
                _ => format!("elements of type {descr}"),
            };
            Error::data(
                place,
                format!("the array holds {what}, not real numbers (its dtype is {descr})"),
                "save it as float64 or float32: np.save(file, x.astype('f8'))",
            )
        })
    }

    /// Converts `bytes`, whole elements of this type, into `out`.
    fn convert<T: Element>(&self, bytes: &mut [u8], out: &mut Vec<T>) {
        if self.big {
            bytes.chunks_exact_mut(self.width).for_each(<[u8]>::reverse);
        }
        macro_rules! of {
            ($t:ty) => {
                out.extend(bytes.as_chunks().0.iter().map(|&b| T::from_f64(<$t>::from_le_bytes(b) as f64)))
            };
        }
        match (self.kind, self.width) {
            (b'f', 8) => of!(f64),
            (b'f', _) => of!(f32),
            (b'i', 1) => of!(i8),
            (b'i', 2) => of!(i16),
            (b'i', 4) => of!(i32),
            (b'i', _) => of!(i64),
            (_, 1) => of!(u8),
            (_, 2) => of!(u16),
            (_, 4) => of!(u32),
            (_, _) => of!(u64),
        }
    }
}

/// Reads this rank's block of rows.
pub fn read<T: Element>(
    source: &ReadAt,
    header: &Header,
    rank: usize,
    size: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Matrix<T>> {
    let place = source.name();
    let (n, d) = header.rows_cols(&place)?;
    let rows = block(n, rank, size);
    let (first, count) = (rows.start, rows.end - rows.start);
    let kind = Type::of(&header.descr, &place)?;
    let fortran = header.fortran && n > 1 && d > 1;
    let row_bytes = d * kind.width as u64;
    let finish = |mut m: Matrix<T>| {
        (m.first_row, m.n_total) = (first, n);
        m
    };
    if let ReadAt::File { file, path, .. } = source
        && header.descr == T::NPY
        && !fortran
        && cfg!(target_endian = "little")
        && count * d > 0
    {
        let begin = header.offset + first * row_bytes;
        // The kernel maps whole pages; memmap2 takes care of the difference.
        let map = crate::sigbus::map(file, path, begin, count * row_bytes)?;
        if let Some(view) = Matrix::from_map(map, 0, count as usize, d as usize) {
            return Ok(finish(view));
        }
    }
    let mut data: Vec<T> = Vec::new();
    reserve(&mut data, (count * d) as usize, &place)?;
    if fortran {
        data.resize((count * d) as usize, T::zeroed());
        for column in 0..d {
            let begin = header.offset + (column * n + first) * kind.width as u64;
            let piece = PIECE / kind.width;
            for at in (0..count).step_by(piece) {
                let rows = (count - at).min(piece as u64);
                let from = begin + at * kind.width as u64;
                let mut values: Vec<T> = Vec::new();
                kind.convert(&mut source.bytes(from, from + rows * kind.width as u64)?, &mut values);
                for (row, value) in (at as usize..).zip(values) {
                    data[row * d as usize + column as usize] = value;
                }
            }
            progress(column + 1, d);
        }
    } else {
        let (mut at, end) = (header.offset + first * row_bytes, header.offset + rows.end * row_bytes);
        let all = end - at;
        while at < end {
            let to = end.min(at + (PIECE / kind.width * kind.width) as u64);
            kind.convert(&mut source.bytes(at, to)?, &mut data);
            at = to;
            progress(all - (end - at), all);
        }
    }
    Ok(finish(Matrix::from_rows(data, d as usize)))
}

/// A `.npy` file's header for `shape` elements of type `descr`, padded as numpy does.
///
/// ```
/// assert_eq!(aeolian_examples::npy::header_bytes("<i4", &[1797]).len(), 128);
/// ```
pub fn header_bytes(descr: &str, shape: &[u64]) -> Vec<u8> {
    let dims: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let dims = if shape.len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    while !(10 + dict.len() + 1).is_multiple_of(64) {
        dict.push(' ');
    }
    dict.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(dict.len() as u16).to_le_bytes());
    bytes.extend_from_slice(dict.as_bytes());
    bytes
}

#[cfg(test)]
#[path = "npy_tests.rs"]
mod tests;
