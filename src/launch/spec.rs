//! What is to be started on one host: the order that an agent carries out.

use super::error::{LaunchError, Result};
use super::word;
use aeolian_net::topology::BindPolicy;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Version of the order and of the frames between launcher and agent.
pub(crate) const PROTOCOL: u32 = 2;

/// The order for one host.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct HostSpec {
    /// [`PROTOCOL`] of who wrote it.
    pub(crate) protocol: u32,
    /// The host's name, as messages call it.
    pub(crate) host: String,
    /// The ranks of this host, ascending.
    pub(crate) ranks: Vec<u32>,
    /// Ranks of the whole job.
    pub(crate) size: u32,
    /// The program as the user wrote it; looked up on the host itself.
    #[serde(with = "word")]
    pub(crate) program: OsString,
    /// Its arguments.
    #[serde(with = "word")]
    pub(crate) args: Vec<OsString>,
    /// Working directory.
    #[serde(with = "word")]
    pub(crate) wdir: OsString,
    /// Variables to set (besides AEOLIAN_RANK and AEOLIAN_SECRET_FD, which differ by rank).
    #[serde(with = "word")]
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Binding; by the number of cores if not given.
    pub(crate) bind: Option<BindPolicy>,
    /// The rank (if of this host) that gets the launcher's standard input.
    pub(crate) stdin_rank: Option<u32>,
    /// Somebody may type to that rank: what it asks is shown before the line ends.
    pub(crate) prompt: bool,
    /// The bytes that each rank finds on its inherited descriptor: the job's secret.
    pub(crate) secret: Vec<u8>,
}

impl std::fmt::Debug for HostSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostSpec({}: ranks {:?} of {}, secret hidden)", self.host, self.ranks, self.size)
    }
}

impl Drop for HostSpec {
    fn drop(&mut self) {
        // Best effort: the bytes should not outlive their use in a core dump.
        self.secret.iter_mut().for_each(|b| *b = 0);
        std::hint::black_box(&self.secret);
    }
}

/// An order as an agent finds it.
pub(crate) enum Order {
    /// Of our own [`PROTOCOL`].
    Ours(HostSpec),
    /// Of this other one: nothing else is known of its fields.
    Foreign(u32),
}

impl HostSpec {
    /// Reads an order.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read(order: &[u8]) -> serde_json::Result<Order> {
        #[derive(Deserialize)]
        struct Version {
            protocol: u32,
        }
        let Version { protocol } = serde_json::from_slice(order)?;
        if protocol == PROTOCOL {
            serde_json::from_slice(order).map(Order::Ours)
        } else {
            Ok(Order::Foreign(protocol))
        }
    }

    /// The program's file, found as `execvp` would, or why it cannot be run.
    pub(crate) fn resolve_program(&self) -> Result<PathBuf> {
        let wdir = Path::new(&self.wdir);
        if !wdir.is_dir() {
            return Err(LaunchError::Program {
                what: format!("the working directory {} is not there on {}", wdir.display(), self.host),
                help: "give one that every host has with --wdir DIR".into(),
            });
        }
        let set = self.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        resolve(&self.program, wdir, set.or_else(|| std::env::var_os("PATH")).as_deref(), &self.host)
    }
}

/// Looks `program` up: with a slash relative to `wdir`, else in the directories of `path`.
pub(crate) fn resolve(program: &OsStr, wdir: &Path, path: Option<&OsStr>, host: &str) -> Result<PathBuf> {
    let shown = program.to_string_lossy();
    if program.is_empty() {
        return Err(LaunchError::Program {
            what: "the program's name is empty".into(),
            help: "aeolian run -n 4 ./program arguments".into(),
        });
    }
    if program.as_bytes().contains(&b'/') {
        let file = wdir.join(program);
        return match runnable(&file) {
            Ok(()) => Ok(file),
            Err(why) => Err(LaunchError::Program {
                what: format!("cannot run {shown} on {host}: {why}"),
                help: match why {
                    Unrunnable::NotThere => {
                        "is the path right, and the program built? (cargo build --release)".into()
                    }
                    Unrunnable::Directory => "name the program inside it".into(),
                    Unrunnable::NotExecutable => format!("chmod +x {shown}"),
                    Unrunnable::Other(_) => "look at the rights of the directories above it".into(),
                },
            }),
        };
    }
    let mut found_but = None;
    for dir in std::env::split_paths(path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"))) {
        // An empty entry of PATH means the working directory.
        let file = wdir.join(dir).join(program);
        match runnable(&file) {
            Ok(()) => return Ok(file),
            Err(Unrunnable::NotThere) => {}
            Err(why) => {
                found_but.get_or_insert((file, why));
            }
        }
    }
    Err(match found_but {
        Some((file, why)) => LaunchError::Program {
            what: format!("cannot run {shown} on {host}: {}: {why}", file.display()),
            help: format!("chmod +x {}", file.display()),
        },
        None if runnable(&wdir.join(program)).is_ok() => LaunchError::Program {
            what: format!("cannot find {shown} in PATH on {host}"),
            help: format!("it is in the working directory: write ./{shown}"),
        },
        None => LaunchError::Program {
            what: format!("cannot find {shown} in PATH on {host}"),
            help: "give its path (./program), or set PATH with -x PATH=...".into(),
        },
    })
}

#[derive(Debug)]
enum Unrunnable {
    NotThere,
    Directory,
    NotExecutable,
    Other(std::io::Error),
}

impl std::fmt::Display for Unrunnable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unrunnable::NotThere => f.write_str("no such file"),
            Unrunnable::Directory => f.write_str("it is a directory"),
            Unrunnable::NotExecutable => f.write_str("it is not executable"),
            Unrunnable::Other(e) => e.fmt(f),
        }
    }
}

fn runnable(file: &Path) -> Result<(), Unrunnable> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let meta = std::fs::metadata(file).map_err(|e| match e.kind() {
        NotFound | NotADirectory => Unrunnable::NotThere,
        _ => Unrunnable::Other(e),
    })?;
    if meta.is_dir() {
        return Err(Unrunnable::Directory);
    }
    // root may read everything, but runs only what has some x bit: access(2) knows both rules.
    if meta.permissions().mode() & 0o111 == 0
        || rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_err()
    {
        return Err(Unrunnable::NotExecutable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_like_execvp_and_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let file = |name: &str, mode: u32| {
            std::fs::write(d.join(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(d.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        file("good", 0o755);
        file("bad", 0o644);
        let path = Some(d.as_os_str());
        let find =
            |p: &str, path: Option<&OsStr>| resolve(OsStr::new(p), d, path, "h").map_err(|e| e.to_string());
        assert_eq!(find("./good", None).unwrap(), d.join("./good"));
        assert_eq!(find("good", path).unwrap(), d.join("good"));
        assert!(find("./bad", None).unwrap_err().contains("not executable"));
        assert!(find("bad", path).unwrap_err().contains("not executable"));
        assert!(find("./none", None).unwrap_err().contains("no such file"));
        assert!(find("/", None).unwrap_err().contains("directory"));
        assert!(find("good", Some(OsStr::new("/nowhere"))).unwrap_err().contains("./good"));
        assert!(find("", path).is_err());
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let spec = HostSpec {
            protocol: PROTOCOL,
            host: "h".into(),
            ranks: vec![0],
            size: 1,
            program: "p".into(),
            args: vec![],
            wdir: "/".into(),
            env: vec![],
            bind: None,
            stdin_rank: None,
            prompt: false,
            secret: vec![171; 32],
        };
        assert!(!format!("{spec:?}").contains("171"));
    }
}
