//! Where ranks meet that share nothing but a file system and a Slurm step: a file that only their user can read.
//!
//! Rank 0 writes where it listens and the job's secret into a file of mode 0600, in a directory of mode 0700, under a name
//! that the step determines; the others wait for it. It is complete when it appears (written aside, then renamed), and
//! removed as soon as all have come.

use crate::error::{NetError, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A meeting file is a few lines.
const LIMIT: u64 = 4096;

/// Removes the file when dropped.
pub struct Published {
    path: PathBuf,
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn trouble(what: String) -> NetError {
    NetError::Config {
        what,
        help: "set AEOLIAN_RENDEZVOUS_DIR to a directory of your own that all nodes of the job share".into(),
    }
}

/// The directory, made if need be, and seen to be private.
fn private(dir: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| trouble(format!("cannot make the meeting directory {}: {e}", dir.display())))?;
    let meta = fs::symlink_metadata(dir).map_err(|e| trouble(format!("{}: {e}", dir.display())))?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(trouble(format!(
            "the meeting directory {} is not a directory of ours that nobody else can write (owner {}, mode {:o})",
            dir.display(),
            meta.uid(),
            meta.mode() & 0o7777
        )));
    }
    Ok(())
}

/// Writes `text` as the file `name` in `dir`. A file of that name from an earlier, dead step is replaced.
pub fn publish(dir: &Path, name: &str, text: &str) -> Result<Published> {
    private(dir)?;
    let path = dir.join(name);
    let aside = dir.join(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&aside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&aside);
        trouble(format!("cannot write the meeting file {}: {e}", path.display()))
    })?;
    Ok(Published { path })
}

/// Waits for the file, `limit` at most. One that is much older than this process is left over from a dead step of the same
/// name and is not taken.
pub fn find(dir: &Path, name: &str, limit: Duration) -> Result<String> {
    let path = dir.join(name);
    let (start, mut pause) = (Instant::now(), Duration::from_millis(2));
    let oldest = SystemTime::now() - Duration::from_secs(600);
    loop {
        match open(&path) {
            Ok((text, written)) if written > oldest => return Ok(text),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(trouble(format!("cannot use the meeting file {}: {e}", path.display()))),
        }
        if start.elapsed() > limit {
            return Err(NetError::TimedOut {
                what: format!("rank 0's meeting file {}", path.display()),
                seconds: limit.as_secs(),
                help: "all nodes must see the same directory: set AEOLIAN_RENDEZVOUS_DIR to one that is shared, or start with srun --mpi=pmi2".into(),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
        // Network file systems keep a directory's listing for a while: opening it asks again.
        let _ = fs::read_dir(dir);
    }
}

fn open(path: &Path) -> std::io::Result<(String, SystemTime)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    let mine = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_file() || !mine || meta.mode() & 0o077 != 0 || meta.len() > LIMIT {
        return Err(std::io::Error::new(
            std::io::ErrorKind::PermissionDenied,
            format!(
                "it must be a file of ours with mode 0600 (owner {}, mode {:o})",
                meta.uid(),
                meta.mode() & 0o7777
            ),
        ));
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text)?;
    Ok((text, meta.modified()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn meets_and_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/b");
        let reader = {
            let dir = dir.clone();
            std::thread::spawn(move || find(&dir, "j1.0", Duration::from_secs(20)).unwrap())
        };
        std::thread::sleep(Duration::from_millis(30));
        let published = publish(&dir, "j1.0", "hello").unwrap();
        assert_eq!(reader.join().unwrap(), "hello");
        assert_eq!(fs::metadata(dir.join("j1.0")).unwrap().mode() & 0o777, 0o600);
        drop(published);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn readable_files_links_and_foreign_directories_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let _keep = publish(base.path(), "x", "t").unwrap();
        let file = base.path().join("x");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let err = find(base.path(), "x", Duration::ZERO).unwrap_err().to_string();
        assert!(err.contains("mode 0600"), "{err}");
        std::os::unix::fs::symlink("/etc/hostname", base.path().join("l")).unwrap();
        assert!(find(base.path(), "l", Duration::ZERO).is_err());
        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(publish(&open, "x", "t").is_err());
    }

    #[test]
    fn an_old_file_is_not_taken() {
        let base = tempfile::tempdir().unwrap();
        let _keep = publish(base.path(), "x", "t").unwrap();
        let file = File::options().write(true).open(base.path().join("x")).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert!(matches!(find(base.path(), "x", Duration::from_millis(20)), Err(NetError::TimedOut { .. })));
    }
}
