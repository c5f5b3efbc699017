//! [`Directories`]: which directory takes the next block, and files without a name in it.
//!
//! In the order given; those that are memory or another machine's after all others. A directory is not looked at before it may be
//! needed: a dead file server that nobody needs holds nobody up. One that is full is asked again only when no other takes the block.

use super::error::{Lack, Refusal};
use aeolian_net::scratch::{self, Medium, Scratch};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Directory {
    pub(super) named_by: String,
    pub(super) path: PathBuf,
    look: Option<Scratch>,
    state: State,
    /// Why it was full the last time.
    said: Option<(Lack, Errno)>,
}

/// Whether it takes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Usable,
    /// The system said so.
    Full(Lack, Errno),
    /// No file can be made there.
    Refused(Errno),
}

impl Directory {
    /// What is known of it, found out at the first call.
    fn look(&mut self) -> &Scratch {
        self.look.get_or_insert_with(|| scratch::look(&self.named_by, &self.path))
    }

    pub(super) fn file_system(&self) -> &str {
        self.look.as_ref().map_or("not looked at", |look| &look.file_system)
    }

    pub(super) fn medium(&self) -> Medium {
        self.look.as_ref().map_or(Medium::Unknown, |look| look.medium)
    }

    pub(super) fn full(&self) -> bool {
        matches!(self.state, State::Full(..))
    }

    pub(super) fn refused(&self) -> Option<i32> {
        match self.state {
            State::Refused(errno) => Some(errno.raw_os_error()),
            _ => None,
        }
    }

    /// Whether a block may go there, to a file that is there already or to one that is still to be made.
    fn usable(&self, has_file: bool) -> bool {
        match self.state {
            State::Usable => true,
            State::Full(Lack::Files, _) => has_file,
            State::Full(..) | State::Refused(_) => false,
        }
    }

    fn refusal(&self, tried: bool) -> Refusal {
        let (answer, lack) = match (self.state, self.said) {
            (State::Refused(errno), _) => (Some(errno), None),
            (State::Full(lack, errno), _) => (Some(errno), Some(lack)),
            // Another block is being tried there again meanwhile.
            (State::Usable, Some((lack, errno))) if tried => (Some(errno), Some(lack)),
            (State::Usable, _) => (None, Some(Lack::Bytes)),
        };
        Refusal {
            directory: self.path.clone(),
            named_by: self.named_by.clone(),
            file_system: self.file_system().into(),
            free_bytes: free(&self.path),
            answer: answer.map(Errno::raw_os_error),
            lack,
        }
    }
}

pub(super) struct Directories {
    all: Vec<Directory>,
}

impl Directories {
    pub(super) fn new(all: &[(String, PathBuf)]) -> Directories {
        let directory = |(named_by, path): &(String, PathBuf)| Directory {
            named_by: named_by.clone(),
            path: path.clone(),
            look: None,
            state: State::Usable,
            said: None,
        };
        Directories { all: all.iter().map(directory).collect() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Directory> {
        self.all.iter()
    }

    /// One that may take `bytes` and is not among those that refused this very block. `has_file` knows where no file has to be made.
    pub(super) fn pick(
        &mut self,
        bytes: u64,
        tried: &[usize],
        has_file: impl Fn(usize) -> bool,
    ) -> Result<usize, Vec<Refusal>> {
        for last in [false, true] {
            for (i, directory) in self.all.iter_mut().enumerate() {
                if !directory.usable(has_file(i)) || tried.contains(&i) {
                    continue;
                }
                let known = directory.look.is_some();
                let look = directory.look();
                let free = look.free_bytes;
                if last != matches!(look.medium, Medium::Memory | Medium::Network) {
                    continue;
                }
                if !known && free.is_some_and(|free| free < bytes) {
                    continue;
                }
                return Ok(i);
            }
        }
        // Runs and operators that ended since may have made room.
        for (i, directory) in self.all.iter_mut().enumerate() {
            if directory.full()
                && !tried.contains(&i)
                && free(&directory.path).is_some_and(|free| free >= bytes)
            {
                directory.state = State::Usable;
                return Ok(i);
            }
        }
        Err(self.all.iter().enumerate().map(|(i, d)| d.refusal(tried.contains(&i))).collect())
    }

    /// It has no room.
    pub(super) fn full(&mut self, index: usize, lack: Lack, errno: Errno) {
        let directory = &mut self.all[index];
        (directory.state, directory.said) = (State::Full(lack, errno), Some((lack, errno)));
    }

    /// No file can be made there.
    pub(super) fn refuse(&mut self, index: usize, errno: Errno) {
        self.all[index].state = State::Refused(errno);
    }

    pub(super) fn get(&self, index: usize) -> &Directory {
        &self.all[index]
    }
}

/// Whether an answer means that there is no room: on the disk, in the quota, or in a file of this file system.
pub(super) fn no_room(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
}

/// Why an answer to the writing of the bytes up to `end` of a file means that there is no room.
pub(super) fn lack_of_write(errno: Errno, end: u64) -> Lack {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    match limit {
        Some(limit) if errno == Errno::FBIG && end > limit => Lack::FileSize { limit },
        _ => Lack::Bytes,
    }
}

/// Bytes that this user may still write.
fn free(path: &Path) -> Option<u64> {
    let s = rustix::fs::statvfs(path).ok()?;
    s.f_bavail.checked_mul(s.f_frsize)
}

/// A file in `directory` that has no name and that only its owner may open. Nothing is left of it however the process or its host ends.
pub(super) fn unnamed(directory: &Path, with_name: bool) -> Result<File, Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    // EXCL: it can never be given a name.
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    if !with_name {
        match rustix::fs::open(directory, flags, mode) {
            Ok(fd) => return Ok(fd.into()),
            // Not every file system can do it; old ones take it for the opening of a directory.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    named_and_removed(directory)
}

/// As [`unnamed`], where the file system wants a name first. A process that is killed between the two calls leaves an empty file. (NFS
/// gives a removed file another name, `.nfs...`, until it is closed: that stays if the host ends first.)
fn named_and_removed(directory: &Path) -> Result<File, Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let answer = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    loop {
        // Ranks of several hosts may share the directory, with equal process ids.
        let moment = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = directory.join(format!(".aeolian-spill-{}-{moment:x}-{number}", std::process::id()));
        let made = File::options().read(true).write(true).create_new(true).mode(0o600).open(&name);
        match made {
            Ok(file) => {
                std::fs::remove_file(&name).map_err(answer)?;
                return Ok(file);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(answer(e)),
        }
    }
}
