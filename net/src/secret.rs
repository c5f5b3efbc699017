//! The secret of a job: 256 random bits that every rank and the job master know, and nobody else.
//!
//! It travels by an inherited descriptor, a 0600 file or the launcher's own channel; never on a command line, in the
//! value of an environment variable, or into a log. Memory that held it is wiped.

use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{NetError, Result};

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;
/// Characters of a secret as text: two hexadecimal digits a byte.
const HEX_CHARS: usize = 2 * SECRET_BYTES;
/// How long [`Secret::from_fd`] waits for the launcher to write.
const FD_PATIENCE: Duration = Duration::from_secs(10);

/// A job's secret. Printing it with `{:?}` shows nothing; comparing takes the same time for any two values; dropping
/// it wipes it.
///
/// ```
/// use aeolian_net::secret::Secret;
/// let secret = Secret::random()?;
/// assert_eq!(Secret::from_hex(secret.to_hex_line().trim_end())?, secret);
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
// Boxed, so that moving the value leaves no copy behind.
#[derive(Clone)]
pub struct Secret(Box<[u8; SECRET_BYTES]>);

impl Secret {
    /// A new secret from the operating system's random numbers.
    ///
    /// # Errors
    /// [`NetError::Os`] if the system has none to give.
    pub fn random() -> Result<Self> {
        let mut bytes = Box::new([0u8; SECRET_BYTES]);
        getrandom::fill(&mut bytes[..]).map_err(|error| NetError::Os {
            what: "drawing the secret of the job".into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(Secret(bytes))
    }

    /// A secret from its 32 bytes (as a launcher's own channel carries them). Wipe your copy.
    pub fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Self {
        Secret(Box::new(*bytes))
    }

    /// A secret from 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`NetError::Config`] if it is anything else. The text itself is never shown.
    pub fn from_hex(text: &str) -> Result<Self> {
        let digits = text.as_bytes();
        if digits.len() != HEX_CHARS {
            return Err(malformed(&format!("it has {} characters, not {HEX_CHARS}", digits.len())));
        }
        let mut bytes = Box::new([0u8; SECRET_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            match (nibble(pair[0]), nibble(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => {
                    bytes.zeroize();
                    return Err(malformed("not all of its characters are hexadecimal digits"));
                }
            }
        }
        Ok(Secret(bytes))
    }

    /// Reads a secret from an inherited descriptor: 64 hexadecimal digits and a newline, and not one byte more, so
    /// that standard input can carry the secret in front of its data. Takes the descriptor over and closes it, unless
    /// it is 0. Waits at most 10 s.
    ///
    /// # Errors
    /// [`NetError::Config`] if the descriptor is not open, ends early or carries something else.
    pub fn from_fd(fd: RawFd) -> Result<Self> {
        if fd < 0 {
            return Err(no_secret(fd, "it is not a descriptor"));
        }
        // SAFETY: fcntl(F_GETFD) touches no memory; it only asks whether the number is an open descriptor.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            return Err(no_secret(fd, "it is not open in this process"));
        }
        if fd == 0 {
            // SAFETY: just seen to be open, and borrowed only for the read below.
            return read_line(unsafe { BorrowedFd::borrow_raw(fd) }, fd);
        }
        // SAFETY: open, and the caller hands it over: the launcher made it for this one purpose.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        read_line(owned.as_fd(), fd)
    }

    /// Reads a secret from a file that belongs to us and that nobody else can read or write (mode 0600 or 0400).
    ///
    /// # Errors
    /// [`NetError::Config`] if owner, kind, mode or content is anything else, [`NetError::Os`] if it cannot be read.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(NetError::os(format!("opening the secret file {}", path.display())))?;
        check_private(&file, path)?;
        let mut text = Zeroizing::new(String::with_capacity(HEX_CHARS + 2));
        file.by_ref()
            .take(HEX_CHARS as u64 + 2)
            .read_to_string(&mut text)
            .map_err(NetError::os(format!("reading the secret file {}", path.display())))?;
        Self::from_hex(text.strip_suffix('\n').unwrap_or(&text))
    }

    /// The secret as 64 hexadecimal digits and a newline, wiped when dropped: what [`Secret::from_fd`] reads.
    pub fn to_hex_line(&self) -> Zeroizing<String> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut line = Zeroizing::new(String::with_capacity(HEX_CHARS + 1));
        for byte in self.0.iter() {
            line.push(DIGITS[usize::from(byte >> 4)] as char);
            line.push(DIGITS[usize::from(byte & 15)] as char);
        }
        line.push('\n');
        line
    }

    /// The 32 bytes, for key derivation and for a launcher's own channel.
    pub fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Refuses an open file that is not regular, not ours, or open to others.
pub(crate) fn check_private(file: &std::fs::File, path: &Path) -> Result<()> {
    let meta = file.metadata().map_err(NetError::os(format!("looking at {}", path.display())))?;
    let refuse = |what: &str| {
        Err(NetError::Config {
            what: format!("{} holds a secret, but {what}", path.display()),
            help: format!("make it a file of your own with mode 0600 (chmod 600 {})", path.display()),
        })
    };
    if !meta.is_file() {
        return refuse("is not a regular file");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse(&format!("belongs to user id {}", meta.uid()));
    }
    if meta.mode() & 0o177 != 0 {
        return refuse(&format!("has mode {:04o}", meta.mode() & 0o7777));
    }
    Ok(())
}

fn read_line(fd: BorrowedFd<'_>, number: RawFd) -> Result<Secret> {
    let deadline = Instant::now() + FD_PATIENCE;
    let mut line = Zeroizing::new([0u8; HEX_CHARS + 1]);
    let mut have = 0;
    while have < line.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)) {
            Ok(0) => return Err(no_secret(number, "nothing came within 10 s")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(no_secret(number, &error.to_string())),
        }
        match rustix::io::read(fd, &mut line[have..]) {
            Ok(0) => return Err(no_secret(number, &format!("it ended after {have} bytes"))),
            Ok(n) => have += n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(no_secret(number, &error.to_string())),
        }
    }
    match std::str::from_utf8(&line[..HEX_CHARS]) {
        Ok(text) if line[HEX_CHARS] == b'\n' => Secret::from_hex(text),
        _ => Err(malformed("it is not a line of hexadecimal digits")),
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn malformed(why: &str) -> NetError {
    NetError::Config {
        what: format!("the secret of the job cannot be used: {why}"),
        help: "a launcher passes it as 64 hexadecimal digits and a newline; do not set it by hand".into(),
    }
}

fn no_secret(fd: RawFd, why: &str) -> NetError {
    NetError::Config {
        what: format!("the secret of the job cannot be read from descriptor {fd}: {why}"),
        help:
            "start the program through `aeolian run`, srun or mpirun; unset AEOLIAN_SECRET_FD to run it alone"
                .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::fd::IntoRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn two_random_secrets_differ_and_debug_tells_nothing() {
        let (a, b) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a, a.clone());
        assert_eq!(format!("{a:?}"), "Secret(..)");
    }

    #[test]
    fn from_fd_leaves_the_rest_and_closes() {
        let secret = Secret::random().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut second = reader.try_clone().unwrap();
        writer.write_all(secret.to_hex_line().as_bytes()).unwrap();
        writer.write_all(b"the data").unwrap();
        drop(writer);
        let fd = reader.into_raw_fd();
        assert_eq!(Secret::from_fd(fd).unwrap(), secret);
        let mut rest = String::new();
        second.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "the data");
    }

    #[test]
    fn from_fd_refuses_what_is_no_secret() {
        for text in [&b"abc\n"[..], &[b'g'; 65], &[b'a'; 65], b""] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(text).unwrap();
            drop(writer);
            assert!(matches!(Secret::from_fd(reader.into_raw_fd()), Err(NetError::Config { .. })));
        }
        assert!(matches!(Secret::from_fd(-1), Err(NetError::Config { .. })));
        assert!(matches!(Secret::from_fd(1 << 20), Err(NetError::Config { .. })));
    }

    #[test]
    fn from_file_wants_a_private_file_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let secret = Secret::random().unwrap();
        std::fs::write(&path, secret.to_hex_line().as_bytes()).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o700, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Secret::from_file(&path).is_ok(), good, "mode {mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Secret::from_file(&link).is_err());
        assert!(Secret::from_file(dir.path()).is_err());
    }
}
