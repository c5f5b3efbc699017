//! A directory of part files, one for each rank, that is either whole or not there.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian::harp::{Sum, allreduce_slice};

use crate::agree::{agree, from_first};
use crate::draft::{Draft, beside, number_apart, parent, sync_directory_of, tell_of_others};
use crate::error::plain;
use crate::{Error, Result};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// What may be in a directory that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Nothing.
    Nothing,
    /// Part files.
    Parts,
    /// Part files of so many bytes in all.
    PartsOf(u64),
}

/// Where part files go: when all are whole, to a directory beside the one that was asked for, which takes its name. Before, they have no names,
/// so that nothing is left of ranks that are killed; where the file system has no such files they are in that directory from the beginning.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// In one spelling and without links.
    real: PathBuf,
    number: u64,
    temp: PathBuf,
    /// The part that this rank is writing.
    part: PathBuf,
    /// Whether parts have names while they are written.
    is_named: bool,
    /// Rank 0 makes the directory.
    is_maker: bool,
    /// Whether it has been made, and has not become the output.
    is_there: bool,
}

impl Directory {
    /// Prepares the directory that is written to. Collective.
    ///
    /// # Errors
    /// There is something under this name, and it may not be replaced; the system refuses.
    pub fn create(world: &mut World, path: &Path, replace: Replace) -> Result<Directory> {
        let made = if world.rank() == 0 { Directory::make(path, replace).map(Some) } else { Ok(None) };
        let made = agree(world, made)?;
        // All ranks see the same name, on hosts that have other process numbers.
        let number = made.as_ref().map_or(0.0, |made| made.number as f64);
        let number = from_first(world, vec![number])?.first().copied().unwrap_or(0.0);
        let mut directory = made.unwrap_or_else(|| Directory::new(path, number as u64, world.rank()));
        let is_named = Draft::unnamed(parent(&directory.temp), &directory.part).is_err();
        let mut named = [u64::from(is_named)];
        allreduce_slice(world, &mut named, Sum)?;
        directory.is_named = named[0] > 0;
        if !directory.is_named {
            // It was there to see whether it can be.
            let removed = if directory.is_maker { std::fs::remove_dir(&directory.temp) } else { Ok(()) };
            agree(world, removed.map_err(|e| failed(path, "cannot be created", &e)))?;
            directory.is_there = false;
        }
        Ok(directory)
    }

    fn make(path: &Path, replace: Replace) -> Result<Directory> {
        check(path, replace)?;
        let real = real(path);
        tell_of_others(&real);
        let made = number_apart(|number| std::fs::create_dir(beside(&real, number, "part")).map(|()| number));
        let number = made.map_err(|e| failed(path, "cannot be created", &e))?;
        Ok(Directory::new(path, number, 0))
    }

    fn new(path: &Path, number: u64, rank: u32) -> Directory {
        let real = real(path);
        let temp = beside(&real, number, "part");
        Directory {
            path: path.to_owned(),
            part: temp.join(name(rank)),
            real,
            number,
            temp,
            is_named: true,
            is_maker: rank == 0,
            is_there: true,
        }
    }

    /// This rank's part.
    ///
    /// # Errors
    /// The system refuses.
    pub fn part(&self) -> Result<Part> {
        let draft = match self.is_named {
            true => Draft::named(&self.part),
            false => Draft::nameless(parent(&self.temp), &self.part),
        };
        match draft {
            Ok(draft) => Ok(Part {
                shown: self.path.join(self.part.file_name().unwrap_or_default()),
                file: BufWriter::with_capacity(BUFFER, draft),
            }),
            Err(e) => Err(failed(&self.path, "its part files cannot be created", &e)),
        }
    }

    /// Gives all parts, and then the directory, their names. Collective.
    ///
    /// # Errors
    /// The system refuses: what was there before is still there.
    pub fn finish(mut self, world: &mut World, part: Whole) -> Result<()> {
        let fail = |e: &std::io::Error| failed(&self.path, "cannot be given the written files", e);
        let made = match self.is_maker && !self.is_named {
            true => std::fs::create_dir(&self.temp).map_err(|e| fail(&e)),
            false => Ok(()),
        };
        self.is_there |= self.is_maker && made.is_ok();
        agree(world, made)?;
        self.is_there = true;
        let Whole(mut part) = part;
        let named = part.name().map_err(|e| fail(&e));
        agree(world, named)?;
        part.keep();
        let done = if self.is_maker { self.replace() } else { Ok(()) };
        agree(world, done)?;
        self.is_there = false;
        Ok(())
    }

    fn replace(&mut self) -> Result<()> {
        let fail = |e: &std::io::Error| failed(&self.path, "cannot be given the written files", e);
        // The names of the parts are on the disk before that of the directory is, and that before the old one goes.
        sync_directory_of(&self.temp.join("part"));
        // An empty directory is replaced by a rename.
        let old = beside(&self.real, self.number, "old");
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
        self.is_there = false;
        sync_directory_of(&self.real);
        if is_full {
            std::fs::remove_dir_all(&old)
                .map_err(|e| failed(&old, "what was there before cannot be removed", &e))?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // On every rank: the maker may be killed, and be gone before others have removed their parts.
        if self.is_there {
            let _ = std::fs::remove_dir_all(&self.temp);
        }
    }
}

/// A part that is being written. It goes with this, unless it is finished.
#[derive(Debug)]
pub struct Part {
    /// What it will be called.
    shown: PathBuf,
    file: BufWriter<Draft>,
}

/// A part that is on the disk.
#[derive(Debug)]
pub struct Whole(Draft);

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
    pub fn finish(self) -> Result<Whole> {
        let done = self
            .file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|draft| draft.flush_to_disk().map(|()| Whole(draft)));
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
        let dir = parent(path);
        dir.canonicalize().unwrap_or(dir.to_owned()).join(path.file_name().unwrap_or_default())
    })
}

/// Whether a directory may come to be here.
fn check(path: &Path, replace: Replace) -> Result<()> {
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
    let mut bytes = 0;
    for entry in all {
        let found = entry.map_err(|e| failed(path, "cannot be read", &e))?.path();
        let name = found.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if replace == Replace::Nothing {
            return fail(
                format!("is not empty: {name} is in it"),
                "name another directory, or replace the part files in this one with --overwrite",
            );
        }
        // Nobody loses what is no result.
        if !is_part(&found) || !found.is_file() {
            return fail(
                format!("is not replaced: {name} in it is not a part file"),
                "only files part-00000, part-00001, ... are replaced: name another directory",
            );
        }
        bytes += found.metadata().map_err(|e| failed(path, "cannot be read", &e))?.len();
    }
    match replace {
        Replace::PartsOf(own) if bytes != 0 && bytes != own => fail(
            format!(
                "is not replaced: there are {bytes} bytes in its part files, not {own} as of a demonstration"
            ),
            "name another directory with --output, or replace its part files with --overwrite",
        ),
        _ => Ok(()),
    }
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
