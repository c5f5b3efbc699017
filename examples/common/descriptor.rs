//! The open descriptors of this process, by the paths that name them.
//!
//! `/dev/stdout`, `/dev/fd/N` and `/proc/self/fd/N` lead to whatever descriptor 1 or N is open on. Opening such a path
//! opens a plain file once more, with an offset of its own: two writers then overwrite each other. A duplicate of the
//! descriptor shares the offset.

use std::fs::File;
use std::os::fd::{FromRawFd, RawFd};
use std::path::Path;

/// The number of the descriptor that `path` names, itself or through links; `None` if it names something else.
///
/// ```
/// use aeolian_examples::descriptor::named;
/// assert_eq!(named("/dev/stdout".as_ref()), Some(1));
/// assert_eq!(named("/dev/fd/7".as_ref()), Some(7), "open or not");
/// assert_eq!(named("/dev/null".as_ref()), None);
/// ```
pub fn named(path: &Path) -> Option<RawFd> {
    let own = Path::new("/proc/self").canonicalize().ok()?;
    let mut path = path.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (dir, name) = (parent.canonicalize().ok()?, path.file_name()?);
        // `/proc/PID/fd` or, for one thread, `/proc/PID/task/TID/fd`.
        if dir.starts_with(&own) && dir.ends_with("fd") {
            return name.to_str()?.parse().ok();
        }
        path = dir.join(dir.join(name).read_link().ok()?);
    }
    None
}

/// A duplicate of descriptor `fd`, which whoever started this process has opened: the same offset and flags. Fails if it is
/// not open, or is one of this process's own (a connection, a file that it reads): these do not outlive it.
pub fn duplicate(fd: RawFd) -> std::io::Result<File> {
    // SAFETY: as below.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags >= 0 && flags & libc::FD_CLOEXEC != 0 {
        return Err(std::io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the call touches no memory of ours, and a number that is no open descriptor gives EBADF.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made, so nobody else owns it.
    Ok(unsafe { File::from_raw_fd(new) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_links_lead_to_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let link = |name: &str, to: &str| {
            let path = dir.path().join(name);
            std::os::unix::fs::symlink(to, &path).unwrap();
            path
        };
        for (path, want) in [
            (Path::new("/dev/stderr"), Some(2)),
            (Path::new("/proc/self/fd/12"), Some(12)),
            (Path::new("/proc/thread-self/fd/1"), Some(1)),
            (&link("out", "/dev/stdout"), Some(1)),
            (&link("again", "out"), Some(1)),
            (&link("fds", "/dev/fd").join("5"), Some(5)),
            (&link("loop", "loop"), None),
            (&link("file", "/etc/passwd"), None),
            (Path::new("/dev/shm/fd"), None),
            (Path::new("/proc/self/status"), None),
            (Path::new("/proc/1/fd/1"), None),
            (Path::new(""), None),
        ] {
            assert_eq!(named(path), want, "{}", path.display());
        }
    }
}
