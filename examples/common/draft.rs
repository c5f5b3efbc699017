//! Files that have no name until they are whole, so that nothing is left of one whose writer is killed.

use std::fs::File;
use std::io::{ErrorKind, Result, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

/// A file that is being written. It goes with this, unless it is kept.
#[derive(Debug)]
pub struct Draft {
    /// Nothing once it is closed.
    file: Option<File>,
    /// The name it has, or will have first.
    path: PathBuf,
    is_named: bool,
}

impl Draft {
    /// Without a name, in the directory of `path`. Where the file system has no such files it is called `path` at once: then a
    /// killed process leaves it behind.
    ///
    /// # Errors
    /// The system refuses; there is a file of this name already.
    pub fn create(path: &Path) -> Result<Draft> {
        match Draft::unnamed(parent(path), path) {
            Ok(draft) => Ok(draft),
            Err(_) => Draft::named(path),
        }
    }

    /// With its name from the beginning.
    ///
    /// # Errors
    /// As [`Draft::create`].
    pub fn named(path: &Path) -> Result<Draft> {
        let file = File::create_new(path)?;
        Ok(Draft { file: Some(file), path: path.to_owned(), is_named: true })
    }

    /// Without a name, in `dir`, on whose file system `path` is.
    ///
    /// # Errors
    /// There are no such files here, or they cannot get names.
    pub fn unnamed(dir: &Path, path: &Path) -> Result<Draft> {
        // Another one shows whether it works, not the one that has taken hours: it also needs /proc.
        let probe = Draft::nameless(dir, path)?;
        probe.give(path)?;
        std::fs::remove_file(path)?;
        Draft::nameless(dir, path)
    }

    /// The same where it is known to work.
    ///
    /// # Errors
    /// The system refuses.
    pub fn nameless(dir: &Path, path: &Path) -> Result<Draft> {
        let flags = OFlags::TMPFILE.bits() as i32;
        let file = File::options().write(true).custom_flags(flags).open(dir)?;
        Ok(Draft { file: Some(file), path: path.to_owned(), is_named: false })
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// The disk is full, or broken.
    pub fn flush_to_disk(&self) -> Result<()> {
        self.file().and_then(File::sync_all)
    }

    /// Gives it its name, which nothing else may have.
    ///
    /// # Errors
    /// The system refuses.
    pub fn name(&mut self) -> Result<()> {
        if !self.is_named {
            self.give(&self.path)?;
            self.is_named = true;
        }
        Ok(())
    }

    fn give(&self, path: &Path) -> Result<()> {
        let open = format!("/proc/self/fd/{}", self.file()?.as_raw_fd());
        Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// It has its name and stays.
    pub fn keep(mut self) {
        self.is_named = false;
    }

    /// It takes the place of `path`, or is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn replace(mut self, path: &Path) -> Result<()> {
        // A link cannot replace a file, so it has its own name for a moment.
        self.name()?;
        std::fs::rename(&self.path, path)?;
        self.keep();
        sync_directory_of(path);
        Ok(())
    }

    fn file(&self) -> Result<&File> {
        self.file.as_ref().ok_or(ErrorKind::NotFound.into())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Closed first: NFS keeps a file that is open, under another name.
        drop(self.file.take());
        if self.is_named {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Waits until the name of a file is on the disk as its bytes are, where the file system can say so.
pub fn sync_directory_of(path: &Path) {
    let _ = File::open(parent(path)).and_then(|dir| dir.sync_all());
}

/// The directory that a file is in.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden name beside `path`, for what will take its place: `.NAME.NUMBER.part`.
pub fn beside(path: &Path, number: u64, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{number}.{what}"))
}

/// Does `make` with a number that no other run has taken: this process's, or a later one. (A run that was killed in another container may have
/// left something under the same.)
///
/// # Errors
/// Those of `make`.
pub fn number_apart<T>(mut make: impl FnMut(u64) -> Result<T>) -> Result<T> {
    let first = u64::from(std::process::id());
    let mut number = first;
    loop {
        match make(number) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && number < first + 1000 => number += 1,
            done => return done,
        }
    }
}

/// Names what runs that were killed may have left beside `path`. Whether one of them is still going on, perhaps on another host, cannot be known
/// for certain: the user decides.
pub fn tell_of_others(path: &Path) {
    for left in others(path) {
        eprintln!(
            "warning: {} is there: of a run that goes on, or was killed; if none writes {}, remove it",
            left.display(),
            path.display()
        );
    }
}

fn others(path: &Path) -> Vec<PathBuf> {
    let begin = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let is_one = |name: &str| {
        let number = name.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(".part"));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(parent(path)).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_str().is_some_and(is_one)).map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect()
    }

    #[test]
    fn there_only_when_it_is_whole() {
        // A file system that has files without names.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let (temp, path) = (dir.path().join("temp"), dir.path().join("out"));
        let nothing: [PathBuf; 0] = [];
        for (make, seen) in [
            (Draft::create as fn(&Path) -> Result<Draft>, &nothing[..]),
            (Draft::named, std::slice::from_ref(&temp)),
        ] {
            let mut draft = make(&temp).unwrap();
            draft.write_all(b"half").unwrap();
            assert_eq!(names(dir.path()), seen, "while it is written");
            drop(draft);
            assert_eq!(names(dir.path()), nothing);

            let mut draft = make(&temp).unwrap();
            draft.write_all(b"whole").unwrap();
            draft.flush_to_disk().unwrap();
            draft.replace(&path).unwrap();
            assert_eq!(names(dir.path()), std::slice::from_ref(&path));
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");

            let mut draft = make(&temp).unwrap();
            draft.write_all(b"other").unwrap();
            assert!(draft.replace(&dir.path().join("no/out")).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
            assert_eq!(names(dir.path()), std::slice::from_ref(&path), "the other one is gone");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_others_left_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mine = u64::from(std::process::id());
        let left = beside(&path, mine, "part");
        std::fs::write(&left, "left").unwrap();
        for other in [".out.part", ".out.x.part", ".out.7.old", ".other.7.part", "out"] {
            std::fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(others(&path), std::slice::from_ref(&left));
        let draft = number_apart(|number| Draft::create(&beside(&path, number, "part"))).unwrap();
        assert_eq!(draft.path, beside(&path, mine + 1, "part"));
        assert_eq!(std::fs::read(&left).unwrap(), b"left");
    }
}
