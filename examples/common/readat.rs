//! Reading at an offset, from a file or from data inside the executable.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Bytes that any thread can read at any offset.
///
/// Files are read with `pread` into small buffers rather than mapped: a file that is truncated while it is read then
/// gives an error, not a signal, and its text does not count as the rank's memory.
#[derive(Debug)]
pub enum ReadAt {
    /// A file, with its path and its size when it was opened.
    File {
        /// The open file.
        file: File,
        /// Its path, for messages.
        path: PathBuf,
        /// Its size in bytes when it was opened.
        len: u64,
    },
    /// Bytes inside the executable, with the name they go by in messages.
    Static {
        /// The bytes.
        bytes: &'static [u8],
        /// Their name.
        name: &'static str,
    },
}

impl ReadAt {
    /// Opens a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::no_input(path, &e))?;
        let meta = file.metadata().map_err(|e| Error::no_input(path, &e))?;
        if meta.is_dir() {
            return Err(Error::no_input(path, &std::io::ErrorKind::IsADirectory.into()));
        }
        if !meta.is_file() {
            return Err(Error::NoInput {
                place: path.display().to_string(),
                what: "is not a regular file: ranks must read their parts at offsets".into(),
                help: "write the pipe's or device's content into a file first".into(),
            });
        }
        Ok(ReadAt::File { file, path: path.to_owned(), len: meta.len() })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            ReadAt::File { len, .. } => *len,
            ReadAt::Static { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name for messages.
    pub fn name(&self) -> String {
        match self {
            ReadAt::File { path, .. } => path.display().to_string(),
            ReadAt::Static { name, .. } => (*name).to_string(),
        }
    }

    /// Fills `buf` from `offset`; an end of file before that is an error.
    pub fn read_exact(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            // Piece by piece, so that an error says where it happened.
            ReadAt::File { file, path, .. } => {
                let mut done = 0;
                while done < buf.len() {
                    let at = offset + done as u64;
                    match file.read_at(&mut buf[done..], at) {
                        Ok(0) => {
                            return Err(Error::read(path, at, &std::io::ErrorKind::UnexpectedEof.into()));
                        }
                        Ok(n) => done += n,
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(Error::read(path, at, &e)),
                    }
                }
                Ok(())
            }
            ReadAt::Static { bytes, name } => {
                let part = usize::try_from(offset).ok().and_then(|o| bytes.get(o..o.checked_add(buf.len())?));
                let part = part.ok_or_else(|| {
                    Error::read(Path::new(name), offset, &std::io::ErrorKind::UnexpectedEof.into())
                })?;
                buf.copy_from_slice(part);
                Ok(())
            }
        }
    }

    /// The bytes of `offset .. end`, in a fresh buffer.
    pub fn bytes(&self, offset: u64, end: u64) -> Result<Vec<u8>> {
        let len = end.saturating_sub(offset) as usize;
        let mut buf = Vec::new();
        reserve(&mut buf, len, &self.name())?;
        buf.resize(len, 0);
        self.read_exact(offset, &mut buf)?;
        Ok(buf)
    }
}

/// Reserves room for exactly `more` elements, or says how much memory was missing for `what`.
pub fn reserve<T>(vec: &mut Vec<T>, more: usize, what: &str) -> Result<()> {
    vec.try_reserve_exact(more).map_err(|_| Error::Os {
        what: format!(
            "{what}: no memory for {:.1} MiB",
            more as f64 * size_of::<T>() as f64 / (1024.0 * 1024.0)
        ),
        help: "use more ranks or hosts, or --dtype f32".into(),
    })
}
