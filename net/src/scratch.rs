//! Directories for temporary files on this node: which there are, what they are made of, and whether they can be used.
//!
//! In order: those of `AEOLIAN_SCRATCH` (several, separated by colons), `SLURM_TMPDIR`, `TMPDIR`, `/tmp`.

use crate::bytes::Bytes;
use crate::verdict::Verdict;
use rustix::fs::{Mode, OFlags};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Less free space than this is worth a word.
const LITTLE: u64 = 1 << 30;

/// What a file system's data live on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// A disk of this node.
    Local,
    /// Memory: what is written there counts against the memory that spilling is to save.
    Memory,
    /// Another machine.
    Network,
    /// Not known.
    Unknown,
}

/// A scratch directory and what was found out about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Scratch {
    /// Who names it: `AEOLIAN_SCRATCH`, `SLURM_TMPDIR`, `TMPDIR`, or `default`.
    pub source: String,
    /// The directory (what is no UTF-8 in its name is replaced).
    pub path: String,
    /// The file system: `ext`, `tmpfs`, `lustre`, ..., or its number (`0x1234`).
    pub file_system: String,
    /// What it lives on.
    pub medium: Medium,
    /// Bytes that this user may still write; `None` if the system does not say.
    pub free_bytes: Option<u64>,
    /// Why nothing can be written; `None` if it can.
    pub not_writable: Option<String>,
    /// Fine, or what to do.
    pub verdict: Verdict,
}

impl Scratch {
    /// Whether files can be written there at all.
    pub fn writable(&self) -> bool {
        self.not_writable.is_none()
    }
}

/// The directories to look at, in order, each once, with who names it.
pub fn directories(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<(String, PathBuf)> {
    let mut all: Vec<(String, PathBuf)> = Vec::new();
    let mut add = |source: &str, path: PathBuf| {
        if !path.as_os_str().is_empty() && all.iter().all(|(_, known)| *known != path) {
            all.push((source.into(), path));
        }
    };
    for path in env("AEOLIAN_SCRATCH").iter().flat_map(std::env::split_paths) {
        add("AEOLIAN_SCRATCH", path);
    }
    for name in ["SLURM_TMPDIR", "TMPDIR"] {
        add(name, env(name).unwrap_or_default().into());
    }
    add("default", "/tmp".into());
    all
}

/// Looks at one directory: it is asked for its file system, and a file without a name is written there and gone at once.
/// May take as long as the file system takes to answer: a dead file server may never.
pub fn look(source: &str, path: &Path) -> Scratch {
    let (file_system, medium, free_bytes) = match rustix::fs::statfs(path) {
        Ok(s) => {
            let (name, medium) = file_system(s.f_type as u32);
            (name, medium, s.f_bavail.checked_mul(s.f_bsize as u64))
        }
        Err(_) => ("?".into(), Medium::Unknown, None),
    };
    let not_writable = try_write(path).err().map(|e| reason(&e));
    let verdict = judge(source, path, medium, &file_system, free_bytes, not_writable.as_deref());
    Scratch {
        source: source.into(),
        path: path.to_string_lossy().into_owned(),
        file_system,
        medium,
        free_bytes,
        not_writable,
        verdict,
    }
}

/// A directory that did not answer.
pub fn silent(source: &str, path: &Path, seconds: u64) -> Scratch {
    let why = format!("no answer within {seconds} s");
    let verdict = judge(source, path, Medium::Unknown, "?", None, Some(&why));
    Scratch {
        source: source.into(),
        path: path.to_string_lossy().into_owned(),
        file_system: "?".into(),
        medium: Medium::Unknown,
        free_bytes: None,
        not_writable: Some(why),
        verdict,
    }
}

/// Whether a directory will do.
fn judge(
    source: &str,
    path: &Path,
    medium: Medium,
    file_system: &str,
    free: Option<u64>,
    not_writable: Option<&str>,
) -> Verdict {
    let dir = path.display();
    let other = if source == "default" {
        "set AEOLIAN_SCRATCH to a directory on a local disk".to_owned()
    } else {
        format!("set {source} to a directory on a local disk")
    };
    match (not_writable, medium, free) {
        (Some(why), ..) => Verdict::warn(
            format!("nothing can be written to {dir}: {why}"),
            if source == "default" { other } else { format!("make it writable, or {other}") },
        ),
        (None, Medium::Memory, _) => Verdict::warn(
            format!("{dir} is {file_system}, which is memory: what spills there frees none"),
            other,
        ),
        (None, Medium::Network, _) => Verdict::warn(
            format!("{dir} is {file_system}, a network file system: spilling there is slow for everyone"),
            other,
        ),
        (None, _, Some(free)) if free < LITTLE => Verdict::warn(
            format!("{dir} has only {} free", Bytes(free)),
            format!("make room there, or {other}"),
        ),
        _ => Verdict::Ok,
    }
}

/// Writes a block to a file that has no name, or where that is not possible to one that is removed at once.
fn try_write(dir: &Path) -> std::io::Result<()> {
    let block = [0u8; 4096];
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
        Ok(fd) => return std::fs::File::from(fd).write_all(&block),
        // Not every file system can do it; old ones take it for the opening of a directory.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
        Err(e) => return Err(e.into()),
    }
    let name = dir.join(format!(".aeolian-doctor-{}", std::process::id()));
    let mut file = std::fs::File::create_new(&name)?;
    let removed = std::fs::remove_file(&name);
    file.write_all(&block)?;
    removed
}

/// The system's answer without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

/// The file system of a `statfs` number.
fn file_system(magic: u32) -> (String, Medium) {
    let (name, medium) = match magic {
        0xef53 => ("ext", Medium::Local),
        0x5846_5342 => ("xfs", Medium::Local),
        0x9123_683e => ("btrfs", Medium::Local),
        0x2fc1_2fc1 => ("zfs", Medium::Local),
        0xf2f5_2010 => ("f2fs", Medium::Local),
        0xca45_1a4e => ("bcachefs", Medium::Local),
        0x794c_7630 => ("overlay", Medium::Local),
        0x0102_1994 => ("tmpfs", Medium::Memory),
        0x8584_58f6 => ("ramfs", Medium::Memory),
        0x9584_58f6 => ("hugetlbfs", Medium::Memory),
        0x6969 => ("nfs", Medium::Network),
        0x0bd0_0bd0 => ("lustre", Medium::Network),
        0x4750_4653 => ("gpfs", Medium::Network),
        0x1983_0326 => ("beegfs", Medium::Network),
        0x00c3_6400 => ("ceph", Medium::Network),
        0xaad7_aaea => ("panfs", Medium::Network),
        0x2003_0528 => ("orangefs", Medium::Network),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("smb", Medium::Network),
        0x5346_414f | 0x6b41_4653 => ("afs", Medium::Network),
        0x0102_1997 => ("9p", Medium::Network),
        0x6573_5546 => ("fuse", Medium::Unknown),
        other => return (format!("{other:#x}"), Medium::Unknown),
    };
    (name.into(), medium)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(verdict: &Verdict) -> Option<(&str, &str)> {
        match verdict {
            Verdict::Ok => None,
            Verdict::Warn { problem, help } => Some((problem, help)),
        }
    }

    #[test]
    fn order_and_each_once() {
        let env = |name: &str| match name {
            "AEOLIAN_SCRATCH" => Some("/a:/b::/a".into()),
            "TMPDIR" => Some("/b".into()),
            _ => None,
        };
        let all: Vec<_> = directories(env).into_iter().map(|(s, p)| format!("{s} {}", p.display())).collect();
        assert_eq!(all, ["AEOLIAN_SCRATCH /a", "AEOLIAN_SCRATCH /b", "default /tmp"]);
        assert_eq!(directories(|_| None).len(), 1);
    }

    #[test]
    fn what_it_is_made_of_decides() {
        let judge = |magic, free, why| {
            let (name, medium) = file_system(magic);
            judge("TMPDIR", Path::new("/s"), medium, &name, free, why)
        };
        assert!(judge(0xef53, Some(LITTLE), None).is_ok());
        assert!(judge(0x1234, None, None).is_ok(), "not known is no problem");
        for (magic, free, why, says) in [
            (0xef53, Some(LITTLE - 1), None, "only 1 GiB free"),
            (0x0102_1994, Some(1 << 40), None, "is memory"),
            (0x0bd0_0bd0, Some(1 << 50), None, "lustre, a network"),
            (0xef53, Some(1 << 40), Some("no such directory"), "no such directory"),
        ] {
            let verdict = judge(magic, free, why);
            let (problem, help) = problem(&verdict).unwrap();
            assert!(problem.contains(says) && problem.contains("/s"), "{problem}");
            assert!(help.contains("TMPDIR"), "{help}");
        }
    }

    #[test]
    fn a_real_directory_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let found = look("TMPDIR", dir.path());
        assert!(found.writable(), "{found:?}");
        assert!(found.free_bytes.unwrap() > 0);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);

        let gone = look("AEOLIAN_SCRATCH", &dir.path().join("gone"));
        assert_eq!(gone.not_writable.as_deref(), Some("no such file or directory"));
        assert!(problem(&gone.verdict).unwrap().1.contains("AEOLIAN_SCRATCH"));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!look("TMPDIR", &file).writable());
        assert!(!silent("TMPDIR", &file, 5).writable());
    }

    #[test]
    fn tmpfs_is_recognised() {
        if !std::fs::read_to_string("/proc/mounts").unwrap().lines().any(|l| l.starts_with("tmpfs /dev/shm "))
        {
            println!("skipped: /dev/shm is not a tmpfs here");
            return;
        }
        let found = look("TMPDIR", Path::new("/dev/shm"));
        assert_eq!((found.file_system.as_str(), found.medium), ("tmpfs", Medium::Memory));
    }
}
