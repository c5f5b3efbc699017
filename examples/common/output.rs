//! Output files that are either whole or not there.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use crate::draft::{Draft, beside, number_apart, parent, tell_of_others};
use crate::error::plain;
use crate::{Error, Result, descriptor};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;

/// Where a result will go, checked before the long computation starts.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
    /// `path` in one spelling and without links.
    real: PathBuf,
    way: Way,
}

/// How a target is written.
#[derive(Debug, Clone)]
enum Way {
    /// A plain file, there or not: to another one in its directory, which takes its name.
    Rename,
    /// A device or pipe such as `/dev/null`: opened and written.
    Open,
    /// A descriptor that is open already, such as `/dev/stdout`: a duplicate of it, which goes on where others stopped.
    Descriptor(RawFd, Arc<File>),
}

impl Target {
    /// Checks that `path` can be written: makes a temporary file in its directory, which goes again.
    pub fn check(path: &Path) -> Result<Target> {
        let fail = |what: &str, help: &str| {
            Err(Error::CannotWrite {
                place: path.display().to_string(),
                what: what.into(),
                help: help.into(),
            })
        };
        let meta = std::fs::metadata(path).ok();
        if meta.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            return fail("is a directory", "name a file in it");
        }
        let Some(name) = path.file_name() else {
            return fail("is not a file name", "name a file");
        };
        let mut target = Target { path: path.to_owned(), real: path.to_owned(), way: Way::Rename };
        if let Some(fd) = descriptor::named(path) {
            let file = descriptor::duplicate(fd).map_err(|e| target.failed("cannot be written", &e))?;
            let flags =
                rustix::fs::fcntl_getfl(&file).map_err(|e| target.failed("cannot be written", &e.into()))?;
            if flags & OFlags::ACCMODE == OFlags::RDONLY {
                return fail(
                    "is open for reading only",
                    "name a descriptor that is open for writing, or a file",
                );
            }
            target.way = Way::Descriptor(fd, Arc::new(file));
        } else if meta.is_some_and(|m| !m.is_file()) {
            target.way = Way::Open;
        }
        match path.canonicalize() {
            // A link stays a link: what it names is replaced.
            Ok(real) => target.real = real,
            Err(e) if matches!(target.way, Way::Rename) && path.is_symlink() => {
                return fail(
                    &format!("is a link that leads nowhere: {}", plain(&e)),
                    "remove it, or name another file",
                );
            }
            Err(_) => {
                let dir = parent(path);
                target.real = dir.canonicalize().unwrap_or(dir.to_owned()).join(name);
            }
        }
        if matches!(target.way, Way::Rename) {
            target.draft().map_err(|e| target.failed("cannot be created", &e))?;
            tell_of_others(&target.real);
        }
        Ok(target)
    }

    /// Whether what is written to one would be lost or mixed up by what is written to the other. Two descriptors may
    /// lead to one file: they are written one after the other.
    pub fn is_same(&self, other: &Target) -> bool {
        match (&self.way, &other.way) {
            (Way::Descriptor(a, _), Way::Descriptor(b, _)) => a == b,
            _ => self.real == other.real,
        }
    }

    /// The path that was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets `fill` write the content to a [draft](Draft) in its directory, flushes it to disk and renames it into place. If
    /// anything fails, the old file (if any) is untouched and the draft is gone. (Devices, pipes and open
    /// descriptors are written as they are.)
    pub fn write(&self, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let written = match &self.way {
            Way::Rename => self.replace(fill),
            Way::Open => {
                (|| finish(File::options().write(true).truncate(true).open(&self.path)?, fill).map(drop))()
            }
            // What this process has printed comes first.
            Way::Descriptor(_, file) => {
                std::io::stdout().flush().and_then(|()| finish(Patient(file), fill).map(drop))
            }
        };
        written.map_err(|e| self.failed("cannot be written", &e))
    }

    fn replace(&self, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
        let draft = finish(self.draft()?, fill)?;
        draft.flush_to_disk()?;
        draft.replace(&self.real)
    }

    fn draft(&self) -> std::io::Result<Draft> {
        number_apart(|number| Draft::create(&beside(&self.real, number, "part")))
    }

    fn failed(&self, what: &str, e: &std::io::Error) -> Error {
        use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
        let help = match e.kind() {
            NotFound => "make its directory first (mkdir -p), or choose another one",
            PermissionDenied | ReadOnlyFilesystem => "choose a directory that you may write to",
            StorageFull => "free some space, or choose another file system",
            _ => "choose another file or directory",
        };
        Error::CannotWrite {
            place: self.path.display().to_string(),
            what: format!("{what}: {}", plain(e)),
            help: help.into(),
        }
    }
}

/// A descriptor that somebody may have set not to block: waits for room all the same.
struct Patient<'a>(&'a File);

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut fd = [PollFd::new(self.0, PollFlags::OUT)];
                    match poll(&mut fd, None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Writes what `fill` gives in large pieces, to the last byte.
fn finish<W: Write>(to: W, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<W> {
    let mut out = BufWriter::with_capacity(BUFFER, to);
    fill(&mut out)?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn whole_or_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let target = Target::check(&path).unwrap();
        assert!(!path.exists(), "a check leaves nothing");
        target.write(|out| out.write_all(b"one")).unwrap();
        let failed = target.write(|out| {
            out.write_all(b"two")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("out.csv: cannot be written") && text.contains("free some space"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.csv"), dir.path().join("link.csv"));
        std::fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        Target::check(&link).unwrap().write(|out| out.write_all(b"new")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn refuses_what_cannot_work() {
        for (path, want) in [("/nonexistent/x.csv", "make its directory first"), ("/tmp", "is a directory")] {
            let e = Target::check(Path::new(path)).unwrap_err();
            assert!(e.to_string().contains(want), "{e}");
            assert_eq!(e.exit_code(), 73);
        }
        Target::check(Path::new("/dev/null")).unwrap().write(|out| out.write_all(b"x")).unwrap();
    }

    #[test]
    fn a_descriptor_must_be_open_for_writing() {
        let e = Target::check(Path::new("/dev/fd/1048575")).unwrap_err();
        assert!(e.to_string().contains("/dev/fd/1048575: cannot be written: bad file descriptor"), "{e}");
        let file = File::options().read(true).write(true).open("/dev/null").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let e = Target::check(Path::new(&path)).unwrap_err();
        assert!(e.to_string().contains("bad file descriptor"), "one of our own: {e}");
        let input = File::open("/dev/null").unwrap();
        inherited(&input);
        let path = format!("/proc/self/fd/{}", input.as_raw_fd());
        let e = Target::check(Path::new(&path)).unwrap_err();
        assert!(e.to_string().contains("is open for reading only") && e.exit_code() == 73, "{e}");
    }

    /// As a shell hands descriptors over.
    fn inherited(file: &File) {
        // SAFETY: sets a flag of a descriptor that is open.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    }

    #[test]
    fn a_full_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        inherited(&writer);
        // SAFETY: sets a flag of a descriptor that is open.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
        let target = Target::check(Path::new(&format!("/dev/fd/{}", writer.as_raw_fd()))).unwrap();
        let wanted = vec![b'x'; 1 << 20];
        let got = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut got = vec![0; wanted.len()];
                std::io::Read::read_exact(&mut reader, &mut got).map(|()| got)
            });
            target.write(|out| out.write_all(&wanted)).unwrap();
            reading.join().unwrap()
        });
        assert_eq!(got.unwrap(), wanted);
    }

    #[test]
    fn a_file_in_shared_memory_is_a_file() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("x.csv");
        let target = Target::check(&path).unwrap();
        assert!(!path.exists());
        target.write(|out| out.write_all(b"one")).unwrap();
        target.write(|_| Err(std::io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"one", "whole or untouched");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_same_file_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("old.csv"), "old").unwrap();
        std::os::unix::fs::symlink("old.csv", at("link.csv")).unwrap();
        std::os::unix::fs::symlink(".", at("here")).unwrap();
        let same = |a: &Path, b: &Path| Target::check(a).unwrap().is_same(&Target::check(b).unwrap());
        for (a, b, want) in [
            ("old.csv", "link.csv", true),
            ("here/link.csv", "old.csv", true),
            ("new.csv", "here/./new.csv", true),
            ("new.csv", "old.csv", false),
        ] {
            assert_eq!(same(&at(a), &at(b)), want, "{a} {b}");
        }
        for (a, b, want) in [
            ("/dev/stdout", "/dev/fd/1", true),
            ("/dev/stdout", "/dev/stderr", false),
            ("/dev/null", "/dev/full", false),
        ] {
            assert_eq!(same(Path::new(a), Path::new(b)), want, "{a} {b}");
        }
    }
}
