//! Output files that are either whole or not there.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::plain;
use crate::{Error, Result};

/// Where a result will go, checked before the long computation starts.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
    /// The file that is written: `path` without links.
    real: PathBuf,
    /// A device or pipe (`/dev/null`, `/dev/stdout`): written directly, not renamed into place.
    direct: bool,
}

impl Target {
    /// Checks that `path` can be written: makes a temporary file in its directory and removes it again.
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
        if path.file_name().is_none() {
            return fail("is not a file name", "name a file");
        }
        // What /dev and /proc name may be a plain file behind a link that is the system's.
        let system = ["/dev", "/proc"].iter().any(|dir| path.starts_with(dir));
        let direct = system || meta.is_some_and(|m| !m.is_file());
        // A link stays a link: what it names is replaced.
        let real = match path.is_symlink() && !direct {
            true => path.canonicalize().map_err(|e| Error::CannotWrite {
                place: path.display().to_string(),
                what: format!("is a link that leads nowhere: {}", plain(&e)),
                help: "remove it, or name another file".into(),
            })?,
            false => path.to_owned(),
        };
        let target = Target { path: path.to_owned(), real, direct };
        if !direct {
            let temp = target.temp();
            let made = std::fs::OpenOptions::new().write(true).create_new(true).open(&temp);
            made.map_err(|e| target.failed("cannot be created", &e))?;
            std::fs::remove_file(&temp).map_err(|e| target.failed("cannot be created", &e))?;
        }
        Ok(target)
    }

    /// The path that was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets `fill` write the content to a temporary file beside it, flushes it to disk and renames it into place. If
    /// anything fails, the old file (if any) is untouched and the temporary one is gone.
    pub fn write(&self, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let to = if self.direct { self.path.clone() } else { self.temp() };
        let written = (|| {
            let mut how = std::fs::OpenOptions::new();
            // Never into a file that somebody else has put there.
            let how =
                if self.direct { how.write(true).truncate(true) } else { how.write(true).create_new(true) };
            let mut out = std::io::BufWriter::with_capacity(1 << 18, how.open(&to)?);
            fill(&mut out)?;
            let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            if self.direct {
                return Ok(());
            }
            file.sync_all()?;
            std::fs::rename(&to, &self.real)
        })();
        written.map_err(|e| {
            if !self.direct {
                let _ = std::fs::remove_file(&to);
            }
            self.failed("cannot be written", &e)
        })
    }

    fn temp(&self) -> PathBuf {
        let name = self.real.file_name().unwrap_or_default().to_string_lossy();
        self.real.with_file_name(format!(".{name}.{}.part", std::process::id()))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
