//! Whether the records have room where they are to go.

use std::path::{Path, PathBuf};

use aeolian::net::bytes::Bytes;
use aeolian_examples::{Error, Result};

/// Checks that the file system which `output` is made in has so many bytes free. For rank 0: all ranks write to the same one.
///
/// Others write there too, and quotas are not looked at: a disk may still turn out to be full.
///
/// # Errors
/// There is less.
pub(crate) fn check(output: &Path, needed: u64) -> Result<()> {
    match free(&beside(output)) {
        Some(free) if free < needed => Err(Error::CannotWrite {
            place: output.display().to_string(),
            what: format!("its file system has {} free, but the records need {}", Bytes(free), Bytes(needed)),
            help: "make fewer records, free some space, or choose another file system".into(),
        }),
        _ => Ok(()),
    }
}

/// The directory in which the output's directory is made.
fn beside(output: &Path) -> PathBuf {
    let real = output.canonicalize().unwrap_or(output.to_owned());
    let parent = real.parent().filter(|dir| !dir.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

/// Bytes that this user may still write. `None` where the system does not tell: some file systems say that they have no blocks at all.
fn free(dir: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(dir).ok()?;
    (told.f_blocks > 0).then(|| told.f_bavail.saturating_mul(told.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_must_be_room_where_the_directory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("there")).unwrap();
        for name in ["there", "new"] {
            let path = dir.path().join(name);
            assert!(check(&path, 1).is_ok(), "{name}");
            let e = check(&path, 1 << 60).unwrap_err();
            assert!(e.exit_code() == 73 && e.to_string().contains("the records need 1 EiB"), "{e}");
        }
        assert_eq!(beside(Path::new("new")), Path::new("."));
    }
}
