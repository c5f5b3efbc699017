//! Where ranks meet that share nothing but a file system and a Slurm step: a file that only their user can read.
//!
//! Rank 0 writes where it listens and the job's secret into a file of mode 0600, in a directory of mode 0700, under a name
//! that the step determines; the others wait for it. It is complete when it appears (written aside, then renamed), and
//! removed as soon as all have come, or when a signal ends rank 0 before that. One that a SIGKILL has left is removed by the
//! next job.

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
        signals::keep_none();
    }
}

/// The file goes when a signal ends this process.
mod signals {
    use std::ffi::{CString, c_char};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::sync::atomic::{AtomicPtr, Ordering};

    /// The file, as a C string that is never freed.
    static FILE: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());
    const SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

    extern "C" fn on_signal(signal: i32) {
        let file = FILE.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: both calls are async-signal-safe; a non-null FILE is a C string that lives for ever. The default action is
        // in force again (SA_RESETHAND) and ends the process as this handler returns.
        unsafe {
            if !file.is_null() {
                libc::unlink(file);
            }
            libc::raise(signal);
        }
    }

    /// Where a signal is left at its default.
    pub(super) fn keep(file: &Path) {
        let Ok(name) = CString::new(file.as_os_str().as_bytes()) else { return };
        FILE.store(name.into_raw(), Ordering::Release);
        let handler: extern "C" fn(i32) = on_signal;
        for signal in SIGNALS.into_iter().filter(|signal| crate::control::is_default(*signal)) {
            set(signal, handler as libc::sighandler_t, libc::SA_RESETHAND);
        }
    }

    pub(super) fn keep_none() {
        let handler: extern "C" fn(i32) = on_signal;
        for signal in SIGNALS {
            // SAFETY: asks only; `now` is a local of the right type.
            let ours = unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut now) == 0
                    && now.sa_sigaction == handler as libc::sighandler_t
            };
            if ours {
                set(signal, libc::SIG_DFL, 0);
            }
        }
        FILE.store(std::ptr::null_mut(), Ordering::Release);
    }

    fn set(signal: i32, handler: libc::sighandler_t, flags: i32) {
        // SAFETY: a zeroed action with an empty mask, and a handler that is ours or the default.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// A file older than this belongs to no step that still gathers.
const STALE: Duration = Duration::from_secs(600);

/// Removes what jobs that were killed have left.
fn sweep(dir: &Path) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_string_lossy().trim_start_matches('.').starts_with("slurm-");
        let old =
            |meta: &fs::Metadata| meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE));
        if ours && entry.metadata().is_ok_and(|meta| meta.is_file() && meta.uid() == me && old(&meta)) {
            let _ = fs::remove_file(entry.path());
        }
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
    sweep(dir);
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
    signals::keep(&path);
    Ok(Published { path })
}

/// Waits for the file, `limit` at most. One that is much older than this process is left over from a dead step of the same
/// name and is not taken.
pub fn find(dir: &Path, name: &str, limit: Duration) -> Result<String> {
    let path = dir.join(name);
    let (start, mut pause) = (Instant::now(), Duration::from_millis(2));
    let oldest = SystemTime::now() - STALE;
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
    fn what_killed_jobs_have_left_is_swept() {
        let base = tempfile::tempdir().unwrap();
        for (name, age) in [("slurm-old", 3600), (".slurm-old.7", 3600), ("slurm-young", 5), ("notes", 3600)]
        {
            let file = File::create(base.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        let _keep = publish(base.path(), "slurm-new", "t").unwrap();
        let mut left: Vec<_> = fs::read_dir(base.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["notes", "slurm-new", "slurm-young"]);
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
