//! A directory of part files, one for each rank, that is either whole or not there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use aeolian::World;

use crate::agree::{agree, from_first};
use crate::error::plain;
use crate::{Error, Result};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// Where part files go: to a directory beside the one that was asked for, which takes its name when all are there.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// In one spelling and without links.
    real: PathBuf,
    temp: PathBuf,
    /// The part that this rank is writing.
    part: PathBuf,
    /// Rank 0 makes the directory, and removes it if it has not become the output.
    is_maker: bool,
}

impl Directory {
    /// Makes the directory that is written to. Collective.
    ///
    /// # Errors
    /// There is something under this name, and it may not be replaced; the system refuses.
    pub fn create(world: &mut World, path: &Path, overwrite: bool) -> Result<Directory> {
        let mine = if world.rank() == 0 { check(path, overwrite) } else { Ok(()) };
        agree(world, mine)?;
        // All ranks see the same name, on hosts that have other process numbers.
        let number = from_first(world, vec![f64::from(std::process::id())])?.first().copied().unwrap_or(0.0);
        let real = real(path);
        let temp = beside(&real, number as u64, "part");
        let part = temp.join(name(world.rank()));
        let mut directory = Directory { path: path.to_owned(), real, temp, part, is_maker: false };
        let made = match world.rank() {
            0 => std::fs::create_dir(&directory.temp)
                .map(|()| directory.is_maker = true)
                .map_err(|e| failed(path, "cannot be created", &e)),
            _ => Ok(()),
        };
        agree(world, made)?;
        Ok(directory)
    }

    /// This rank's part.
    ///
    /// # Errors
    /// The system refuses.
    pub fn part(&self) -> Result<Part> {
        match File::create_new(&self.part) {
            Ok(file) => Ok(Part {
                shown: self.path.join(self.part.file_name().unwrap_or_default()),
                file: BufWriter::with_capacity(BUFFER, file),
            }),
            Err(e) => Err(failed(&self.path, "its part files cannot be created", &e)),
        }
    }

    /// Gives the directory its name; all ranks have [finished](Part::finish) their parts. Collective.
    ///
    /// # Errors
    /// The system refuses: what was there before is still there.
    pub fn finish(mut self, world: &mut World) -> Result<()> {
        let done = if self.is_maker { self.replace() } else { Ok(()) };
        agree(world, done)
    }

    fn replace(&mut self) -> Result<()> {
        let fail = |e: &std::io::Error| failed(&self.path, "cannot be given the written files", e);
        // An empty directory is replaced by a rename.
        let old = beside(&self.real, u64::from(std::process::id()), "old");
        let is_full = std::fs::read_dir(&self.real).is_ok_and(|mut all| all.next().is_some());
        if is_full {
            std::fs::rename(&self.real, &old).map_err(|e| fail(&e))?;
        }
        if let Err(e) = std::fs::rename(&self.temp, &self.real) {
            if is_full {
                let _ = std::fs::rename(&old, &self.real);
            }
            return Err(fail(&e));
        }
        self.is_maker = false;
        if is_full {
            std::fs::remove_dir_all(&old)
                .map_err(|e| failed(&old, "what was there before cannot be removed", &e))?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_maker {
            let _ = std::fs::remove_dir_all(&self.temp);
        }
    }
}

/// A part that is being written.
#[derive(Debug)]
pub struct Part {
    /// What it will be called.
    shown: PathBuf,
    file: BufWriter<File>,
}

impl Part {
    /// Writes whole records.
    ///
    /// # Errors
    /// The disk is full, or broken.
    pub fn write(&mut self, records: &[u8]) -> Result<()> {
        self.file.write_all(records).map_err(|e| failed(&self.shown, "cannot be written", &e))
    }

    /// Writes what is left, and waits until all is on the disk.
    ///
    /// # Errors
    /// As [`Part::write`].
    pub fn finish(self) -> Result<()> {
        let done = self
            .file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all());
        done.map_err(|e| failed(&self.shown, "cannot be written", &e))
    }
}

/// Whether this is the name of a part file.
pub(super) fn is_part(path: &Path) -> bool {
    let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("part-"));
    number.is_some_and(|digits| digits.len() >= 5 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn name(rank: u32) -> String {
    format!("part-{rank:05}")
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        dir.canonicalize().unwrap_or(dir.to_owned()).join(path.file_name().unwrap_or_default())
    })
}

fn beside(real: &Path, number: u64, what: &str) -> PathBuf {
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    real.with_file_name(format!(".{name}.{number}.{what}"))
}

/// Whether a directory may come to be here.
fn check(path: &Path, overwrite: bool) -> Result<()> {
    let fail = |what: String, help: &str| {
        Err(Error::CannotWrite { place: path.display().to_string(), what, help: help.into() })
    };
    if real(path).file_name().is_none() {
        return fail("is not a directory that could be made".into(), "name a directory to be made");
    }
    let all = match std::fs::read_dir(path) {
        Ok(all) => all,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => return Ok(()),
        Err(e) if path.is_dir() => return Err(failed(path, "cannot be read", &e)),
        Err(_) => {
            return fail("is there, and is not a directory".into(), "name another one, or one to be made");
        }
    };
    for entry in all {
        let found = entry.map_err(|e| failed(path, "cannot be read", &e))?.path();
        let name = found.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !overwrite {
            return fail(
                format!("is not empty: {name} is in it"),
                "name another directory, or replace the part files in this one with --overwrite",
            );
        }
        // Nobody loses what is no result.
        if !is_part(&found) || !found.is_file() {
            return fail(
                format!("is not replaced: {name} in it is not a part file"),
                "--overwrite removes only files part-00000, part-00001, ...: name another directory",
            );
        }
    }
    Ok(())
}

fn failed(path: &Path, what: &str, e: &std::io::Error) -> Error {
    use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, ResourceBusy, StorageFull};
    let help = match e.kind() {
        NotFound => {
            "make the directory above it first (mkdir -p); on several hosts it must be on a file system that all of them see"
        }
        PermissionDenied | ReadOnlyFilesystem => "choose a directory in one that you may write to",
        StorageFull => "free some space, or choose another file system",
        ResourceBusy => "a mount point cannot be replaced: name a directory in it",
        _ => "choose another directory",
    };
    Error::CannotWrite {
        place: path.display().to_string(),
        what: format!("{what}: {}", plain(e)),
        help: help.into(),
    }
}
