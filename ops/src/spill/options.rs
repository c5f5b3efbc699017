//! [`SpillOptions`]: where and how a rank spills.

use std::ffi::OsString;
use std::path::PathBuf;

/// Whether blocks are compressed before they are written. A block that does not get smaller is stored as it is.
///
/// There is no zstd: it would need a C compiler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are: right for disks as fast as LZ4 (some hundred MB/s on one core).
    #[default]
    None,
    /// LZ4, on the thread that writes the block. Blocks over 1 GiB are stored as they are.
    Lz4,
}

/// Who does the reading and writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskIo {
    /// The kernel (`io_uring`) where it permits that, else threads.
    #[default]
    Auto,
    /// At most two threads of the rank, that do nothing else: begun when the first block is written, ended with the last handle.
    Threads,
    /// The kernel; an error where it does not permit that.
    IoUring,
    /// The caller itself: nothing is written behind or read ahead. For tests.
    Blocking,
}

/// Where and how a rank spills.
///
/// ```
/// use aeolian_ops::spill::{Compression, SpillOptions};
/// let options = SpillOptions { compression: Compression::Lz4, ..SpillOptions::from_env(0x5eed, 3) };
/// assert_eq!(options.block_bytes, 1 << 20);
/// assert_eq!(options.memory(), 18 << 20);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillOptions {
    /// Directories in order, with who names each. Those that are memory (tmpfs) or another machine's come after all others.
    pub directories: Vec<(String, PathBuf)>,
    /// Bytes of a block that an operator should aim at. Any length is taken.
    pub block_bytes: usize,
    /// Whether blocks are compressed.
    pub compression: Compression,
    /// Number of the job, in each block.
    pub job: u64,
    /// Number of the rank, in each block.
    pub rank: u32,
    /// Blocks that may wait for being written, of all runs together; at least 1. Their bytes are no more than this times
    /// `block_bytes`, except for a single block that is longer.
    pub write_behind: usize,
    /// Blocks that may be read before they are asked for, of all runs together. Their bytes are no more than this times `block_bytes`.
    pub read_ahead: usize,
    /// Who reads and writes.
    pub io: DiskIo,
}

impl SpillOptions {
    /// The usual values, and the directories of this process' environment: `AEOLIAN_SCRATCH` (several, separated by colons),
    /// `SLURM_TMPDIR`, `TMPDIR`, `/tmp`.
    pub fn from_env(job: u64, rank: u32) -> SpillOptions {
        SpillOptions::from_variables(job, rank, |name| std::env::var_os(name))
    }

    /// As [`SpillOptions::from_env`], with the variables that `env` knows.
    pub fn from_variables(job: u64, rank: u32, env: impl Fn(&str) -> Option<OsString>) -> SpillOptions {
        SpillOptions {
            directories: aeolian_net::scratch::directories(env),
            block_bytes: 1 << 20,
            compression: Compression::None,
            job,
            rank,
            write_behind: 8,
            read_ahead: 8,
            io: DiskIo::Auto,
        }
    }

    /// Bytes that a [`Spill`](super::Spill) holds at most while no block is longer than `block_bytes`: those that are written
    /// behind and read ahead, and while a call lasts two more, which it compresses or decompresses. (18 MiB as it comes.)
    pub fn memory(&self) -> usize {
        let blocks = self.write_behind.max(1).saturating_add(self.read_ahead).saturating_add(2);
        blocks.saturating_mul(self.block_bytes)
    }
}
