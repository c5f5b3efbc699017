//! [`SpillError`]: what went wrong with a spill file, and where.

use aeolian_net::bytes::Bytes;
use aeolian_net::exit;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Which spill file: it has no name on the disk, so it is called by whose it is and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillPlace {
    /// The operator that spills.
    pub operator: String,
    /// Its rank.
    pub rank: u32,
    /// The directory that the file is in.
    pub directory: PathBuf,
    /// Who names the directory: `AEOLIAN_SCRATCH`, `SLURM_TMPDIR`, `TMPDIR`, `default`.
    pub named_by: String,
    /// The file system: `ext`, `xfs`, `tmpfs`, ...
    pub file_system: String,
}

impl fmt::Display for SpillPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpillPlace { operator, rank, directory, named_by, file_system } = self;
        let directory = directory.display();
        write!(f, "the spill file of `{operator}` on rank {rank} in {directory} ({named_by}, {file_system})")
    }
}

/// Why a directory takes no spilled block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The directory.
    pub directory: PathBuf,
    /// Who names it.
    pub named_by: String,
    /// Its file system.
    pub file_system: String,
    /// Bytes that this user may still write there, if the system says.
    pub free_bytes: Option<u64>,
    /// The system's answer; `None` if it was not tried because too few bytes are free.
    pub answer: Option<i32>,
    /// What it has too little of; `None` if it is of no use at all (it is missing, not writable, ...).
    pub lack: Option<Lack>,
}

/// What a directory has too little of for a spilled block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// Bytes: on the disk, or in the user's quota.
    Bytes,
    /// Inodes, on the disk or in the user's quota: no file could be made there.
    Files,
    /// Files may not be as long as that in this process (`RLIMIT_FSIZE`), in whatever directory.
    FileSize {
        /// Bytes that a file may have.
        limit: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}", self.directory.display(), self.named_by, self.file_system)?;
        if let Some(free) = self.free_bytes {
            write!(f, ", {} free", Bytes(free))?;
        }
        let Some(errno) = self.answer else { return write!(f, "): too small") };
        let answer = io::Error::from_raw_os_error(errno);
        match self.lack {
            Some(Lack::Files) => write!(f, "): no file can be made there: {answer}"),
            Some(Lack::FileSize { limit }) => {
                write!(f, "): {answer}: a file of this process may have {}", Bytes(limit))
            }
            Some(Lack::Bytes) | None => write!(f, "): {answer}"),
        }
    }
}

/// What is wrong with a block that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// It does not begin as a block does.
    Magic,
    /// Its header is of another version.
    Version(u16),
    /// Header and payload are not those that the checksum was computed of.
    Checksum {
        /// What the header says.
        written: u32,
        /// What was read.
        read: u32,
    },
    /// It is a whole block, but another one: of another job, rank, file, run or place in the run.
    Misplaced,
    /// The checksum is right, and yet it does not decompress.
    Compression,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Magic => write!(f, "no block begins there"),
            Damage::Version(version) => {
                write!(f, "its version is {version}, which is not that of this program")
            }
            Damage::Checksum { written, read } => {
                write!(f, "its checksum is {read:08x}, and {written:08x} was written")
            }
            Damage::Misplaced => write!(f, "another block lies there"),
            Damage::Compression => write!(f, "it does not decompress"),
        }
    }
}

/// What went wrong with a spill file, and where.
///
/// The system's answers are shared, since an error of a write that ended later is told by every call on its run.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// No directory takes a block.
    #[error(
        "no scratch directory takes a block of {} of `{operator}` on rank {rank}{}\n  help: {}, or give the job more memory",
        Bytes(*.wanted),
        lines(.refusals),
        help(.refusals)
    )]
    NoRoom {
        /// The operator that spills.
        operator: String,
        /// Its rank.
        rank: u32,
        /// Bytes of the block as it was to be stored.
        wanted: u64,
        /// Why, for each directory.
        refusals: Vec<Refusal>,
    },
    /// A spill file is one descriptor too many.
    #[error(
        "cannot open {place}: {source}\n  help: this process may have {} open files: raise the limit (`ulimit -n`), or let the program hold fewer",
        .limit.map_or("any number of".into(), |n| n.to_string())
    )]
    TooManyFiles {
        /// The file.
        place: Box<SpillPlace>,
        /// Descriptors that the process may have (`RLIMIT_NOFILE`); `None` if any number.
        limit: Option<u64>,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// A block could not be written, and not for want of room.
    #[error(
        "cannot write {} at offset {offset} of {place}: {source}\n  help: this is the disk's or its file system's fault: look at the system's log, or set AEOLIAN_SCRATCH to another disk",
        Bytes(*.bytes)
    )]
    Write {
        /// The file.
        place: Box<SpillPlace>,
        /// Where the block begins in it.
        offset: u64,
        /// Bytes of the block with its header.
        bytes: u64,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// A block could not be read.
    #[error(
        "cannot read {} at offset {offset} of {place}: {source}\n  help: this is the disk's or its file system's fault: look at the system's log, or set AEOLIAN_SCRATCH to another disk",
        Bytes(*.bytes)
    )]
    Read {
        /// The file.
        place: Box<SpillPlace>,
        /// Where the block begins in it.
        offset: u64,
        /// Bytes of the block with its header.
        bytes: u64,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The file ends within a block.
    #[error(
        "{place} is truncated: the block at offset {offset} has {bytes} bytes, of which {got} are left\n  help: this is the disk's or its file system's fault, not the network's: look at the system's log, or set AEOLIAN_SCRATCH to another disk"
    )]
    Truncated {
        /// The file.
        place: Box<SpillPlace>,
        /// Where the block begins in it.
        offset: u64,
        /// Bytes of the block with its header.
        bytes: u64,
        /// Those that are there.
        got: u64,
    },
    /// What was read is not what was written.
    #[error(
        "{place} is damaged: the block at offset {offset} ({bytes} bytes): {damage}\n  help: this is the disk's or its file system's fault, not the network's: look at the system's log, or set AEOLIAN_SCRATCH to another disk"
    )]
    Damaged {
        /// The file.
        place: Box<SpillPlace>,
        /// Where the block begins in it.
        offset: u64,
        /// Bytes of the block with its header.
        bytes: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// `io_uring` was asked for, and the system does not have it or does not permit it.
    #[error(
        "io_uring cannot be used for the spill file of `{operator}` on rank {rank}: {source}\n  help: the kernel (5.5 or newer) or its settings (kernel.io_uring_disabled, a container's seccomp profile) do not allow it: choose `auto` or `threads`"
    )]
    NoIoUring {
        /// The operator that spills.
        operator: String,
        /// Its rank.
        rank: u32,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// Waiting for the disk itself failed.
    #[error("cannot wait for the spill file of `{operator}` on rank {rank}: {source}")]
    Wait {
        /// The operator that spills.
        operator: String,
        /// Its rank.
        rank: u32,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl SpillError {
    /// The exit code that a program ends with when this error ends it.
    pub fn exit_code(&self) -> u8 {
        match self {
            SpillError::NoRoom { .. } => exit::CANNOT_WRITE,
            SpillError::TooManyFiles { .. } | SpillError::Wait { .. } => exit::OS,
            SpillError::NoIoUring { .. } => exit::CONFIG,
            SpillError::Write { .. }
            | SpillError::Read { .. }
            | SpillError::Truncated { .. }
            | SpillError::Damaged { .. } => exit::IO,
        }
    }
}

/// A line for each.
fn lines(refusals: &[Refusal]) -> String {
    refusals.iter().map(|r| format!("\n  {r}")).collect()
}

/// What to do about them.
fn help(refusals: &[Refusal]) -> String {
    let lacks = |is: fn(&Lack) -> bool| refusals.iter().filter(|r| r.lack.as_ref().is_some_and(is)).count();
    let limited = lacks(|lack| matches!(lack, Lack::FileSize { .. }));
    let mut help = Vec::new();
    if limited > 0 {
        help.push("raise the limit on the size of files (`ulimit -f`), which holds in every directory");
    }
    if lacks(|lack| *lack == Lack::Files) > 0 {
        help.push(
            "where no file can be made, remove some: inodes, or the quota of them, may be used up (`df -i`, `quota`)",
        );
    }
    if limited == 0 || limited < refusals.len() {
        help.push("set AEOLIAN_SCRATCH to a directory on a local disk with enough room (several: separated by colons)");
    }
    help.join("; ")
}
