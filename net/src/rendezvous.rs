//! Finding the job master through a file, where no launcher carries messages (Slurm without PMI): rank 0 writes its
//! address and the job's secret into a 0600 file in a 0700 directory that all nodes see; the others wait for it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use zeroize::Zeroizing;

use crate::error::{NetError, Result};
use crate::secret::{Secret, check_private};

const HEADER: &str = "aeolian rendezvous 1";
/// A file that is longer than this is not ours.
const MAX_FILE: u64 = 512;

/// A published rendezvous. Dropping it removes the file, if it is still the one that was published.
#[derive(Debug)]
pub struct Published {
    dir: OwnedFd,
    path: PathBuf,
    name: String,
    inode: u64,
}

impl Published {
    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let ours = rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_ino == self.inode);
        if ours {
            let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// Publishes `addr` and `secret` under `name` in `dir`, which is made (mode 0700) if it is not there. Whoever looks
/// sees either nothing or the whole file.
///
/// `name` must tell this job and step from every other: `<job id>.<step id>`.
///
/// # Errors
/// [`NetError::Config`] if `dir` is not ours alone or `name` is no file name, [`NetError::Os`] if writing fails.
pub fn publish(dir: &Path, name: &str, addr: SocketAddr, secret: &Secret) -> Result<Published> {
    check_name(name)?;
    match rustix::fs::mkdir(dir, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(os(format!("making the rendezvous directory {}", dir.display()), error)),
    }
    let folder = open_dir(dir)?;
    let path = dir.join(name);
    let mut tag = [0u8; 8];
    getrandom::fill(&mut tag).map_err(|error| NetError::Os {
        what: "drawing a file name".into(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let temporary = format!(".{name}.{:016x}", u64::from_le_bytes(tag));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = || -> std::io::Result<u64> {
        let mut file = File::from(rustix::fs::openat(&folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let text = Zeroizing::new(format!("{HEADER}\n{addr}\n{}", secret.to_hex_line().as_str()));
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        rustix::fs::renameat(&folder, &temporary, &folder, name)?;
        // Not every file system can sync a directory; the readers only need to see the name.
        let _ = rustix::fs::fsync(&folder);
        Ok(rustix::fs::fstat(&file)?.st_ino)
    };
    let inode = write().map_err(|error| {
        let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
        NetError::Os { what: format!("writing the rendezvous file {}", path.display()), source: error }
    })?;
    Ok(Published { dir: folder, path, name: name.into(), inode })
}

/// Waits until `name` has been published in `dir` and returns what it says.
///
/// # Errors
/// [`NetError::TimedOut`] if it does not come, [`NetError::Config`] if directory or file are not ours alone or hold
/// something else, [`NetError::Os`] if reading fails.
pub fn find(dir: &Path, name: &str, timeout: Duration) -> Result<(SocketAddr, Secret)> {
    check_name(name)?;
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(found) = look(dir, name)? {
            return Ok(found);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NetError::TimedOut {
                what: format!("the appearance of the rendezvous file {}", dir.join(name).display()),
                seconds: timeout.as_secs(),
                help: "see whether rank 0 has started, and whether all nodes see this directory".into(),
            });
        }
        std::thread::sleep(pause.min(left));
        // A shared file system suffers when a thousand ranks ask often.
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

fn look(dir: &Path, name: &str) -> Result<Option<(SocketAddr, Secret)>> {
    if let Err(error) = std::fs::symlink_metadata(dir)
        && error.kind() == std::io::ErrorKind::NotFound
    {
        return Ok(None);
    }
    let path = dir.join(name);
    let folder = open_dir(dir)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A network file system may know the name of a file that has just been replaced.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::STALE) => return Ok(None),
        Err(error) => return Err(os(format!("opening the rendezvous file {}", path.display()), error)),
    };
    check_private(&file, &path)?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize + 1));
    match file.take(MAX_FILE + 1).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
        Err(source) => {
            return Err(NetError::Os {
                what: format!("reading the rendezvous file {}", path.display()),
                source,
            });
        }
    }
    parse(&text).map(Some).ok_or_else(|| NetError::Config {
        what: format!("{} is not a rendezvous file of this version", path.display()),
        help: "remove it and start the job again".into(),
    })
}

fn parse(text: &str) -> Option<(SocketAddr, Secret)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (header, addr, secret) = (lines.next()?, lines.next()?, lines.next()?);
    if header != HEADER || lines.next().is_some() {
        return None;
    }
    Some((addr.parse().ok()?, Secret::from_hex(secret).ok()?))
}

fn open_dir(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|error| os(format!("opening the rendezvous directory {}", dir.display()), error))?;
    let stat =
        rustix::fs::fstat(&folder).map_err(|error| os(format!("looking at {}", dir.display()), error))?;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !ours || !is_dir || stat.st_mode & 0o077 != 0 {
        return Err(NetError::Config {
            what: format!("the rendezvous directory {} is open to other users", dir.display()),
            help: format!("use a directory of your own with mode 0700 (chmod 700 {})", dir.display()),
        });
    }
    Ok(folder)
}

fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(NetError::Usage(format!("{name:?} cannot name a rendezvous file")));
    }
    Ok(())
}

fn os(what: String, error: rustix::io::Errno) -> NetError {
    NetError::Os { what, source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn addr() -> SocketAddr {
        "127.0.0.1:4711".parse().unwrap()
    }

    #[test]
    fn published_is_found_and_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("meet");
        let secret = Secret::random().unwrap();
        let (place, wanted) = (dir.clone(), secret.clone());
        let finder = std::thread::spawn(move || find(&place, "17.0", Duration::from_secs(20)));
        std::thread::sleep(Duration::from_millis(30));
        let published = publish(&dir, "17.0", addr(), &secret).unwrap();
        assert_eq!(finder.join().unwrap().unwrap(), (addr(), wanted));
        assert_eq!(std::fs::metadata(published.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        drop(published);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_later_publication_survives_the_earlier_guard() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("meet");
        let (old, new) = (Secret::random().unwrap(), Secret::random().unwrap());
        let first = publish(&dir, "17.0", addr(), &old).unwrap();
        let _second = publish(&dir, "17.0", addr(), &new).unwrap();
        drop(first);
        assert_eq!(find(&dir, "17.0", Duration::ZERO).unwrap().1, new);
    }

    #[test]
    fn what_others_could_have_made_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("meet");
        let secret = Secret::random().unwrap();
        let published = publish(&dir, "17.0", addr(), &secret).unwrap();
        let chmod = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        chmod(published.path(), 0o644);
        assert!(matches!(find(&dir, "17.0", Duration::ZERO), Err(NetError::Config { .. })));
        chmod(published.path(), 0o600);
        chmod(&dir, 0o755);
        assert!(matches!(find(&dir, "17.0", Duration::ZERO), Err(NetError::Config { .. })));
        assert!(matches!(publish(&dir, "18.0", addr(), &secret), Err(NetError::Config { .. })));
        chmod(&dir, 0o700);
        std::os::unix::fs::symlink(published.path(), dir.join("link")).unwrap();
        assert!(matches!(find(&dir, "link", Duration::ZERO), Err(NetError::Os { .. })));
        std::os::unix::fs::symlink(&dir, tmp.path().join("dirlink")).unwrap();
        assert!(find(&tmp.path().join("dirlink"), "17.0", Duration::ZERO).is_err());
        for name in ["", "../x", "a/b", ".hidden"] {
            assert!(matches!(find(&dir, name, Duration::ZERO), Err(NetError::Usage(_))), "{name:?}");
        }
        let missing = find(&tmp.path().join("nowhere"), "17.0", Duration::ZERO);
        assert!(matches!(missing, Err(NetError::TimedOut { .. })));
    }

    #[test]
    fn damaged_files_are_named_not_believed() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("meet");
        let published = publish(&dir, "17.0", addr(), &Secret::random().unwrap()).unwrap();
        let good = std::fs::read(published.path()).unwrap();
        for bad in [&good[..good.len() - 1], &good[1..], b"", &[0xff; 600], &[&good[..], b"x\n"].concat()] {
            std::fs::write(published.path(), bad).unwrap();
            assert!(matches!(find(&dir, "17.0", Duration::ZERO), Err(NetError::Config { .. })));
        }
    }
}
