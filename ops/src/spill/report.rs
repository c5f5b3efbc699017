//! [`SpillReport`]: what a rank has spilled.

use super::options::DiskIo;
use aeolian_net::bytes::Bytes;
use aeolian_net::scratch::Medium;
use std::collections::BTreeMap;
use std::fmt;

/// What a rank has spilled so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SpillReport {
    /// Files opened: one for each operator and directory in use.
    pub files: u64,
    /// Blocks written.
    pub blocks_written: u64,
    /// Their bytes, as operators gave them.
    pub bytes_written: u64,
    /// The same of each operator that has spilled, with its number on its world: `sort #3`.
    pub operators: BTreeMap<String, u64>,
    /// Their bytes on the disk: compressed, with headers.
    pub stored_bytes: u64,
    /// Of these, the bytes in use now, or on their way.
    pub stored_now: u64,
    /// The most that were in use at a time.
    pub stored_peak: u64,
    /// Blocks read.
    pub blocks_read: u64,
    /// Their bytes, as operators got them.
    pub bytes_read: u64,
    /// How often an operator had to wait until blocks of before were written.
    pub write_waits: u64,
    /// How often an operator had to wait for a block that it wanted to read.
    pub read_waits: u64,
    /// The most bytes that waited at a time for being written.
    pub write_behind_peak: u64,
    /// The most bytes that had been read, or begun to be, before they were asked for.
    pub read_ahead_peak: u64,
    /// Who read and wrote; `None` if nobody had to.
    pub io: Option<DiskIo>,
    /// The directories, in the order given.
    pub directories: Vec<DirectoryReport>,
}

/// What became of one directory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DirectoryReport {
    /// Who names it.
    pub named_by: String,
    /// The directory (what is no UTF-8 in its name is replaced).
    pub path: String,
    /// Its file system, or `not looked at`.
    pub file_system: String,
    /// What it lives on.
    pub medium: Medium,
    /// Files opened there.
    pub files: u64,
    /// Bytes written there, with headers.
    pub stored_bytes: u64,
    /// Whether it had no more room.
    pub full: bool,
    /// The system's error number, if no file could be made there.
    pub refused: Option<i32>,
}

impl fmt::Display for SpillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blocks_written == 0 {
            return write!(f, "nothing spilled");
        }
        let (written, stored, read) =
            (Bytes(self.bytes_written), Bytes(self.stored_bytes), Bytes(self.bytes_read));
        write!(f, "{written} spilled ({stored} on disk, in {} files), {read} read back", self.files)?;
        for (operator, bytes) in &self.operators {
            write!(f, "; {operator}: {}", Bytes(*bytes))?;
        }
        for d in self.directories.iter().filter(|d| d.files > 0) {
            write!(f, "; {} ({}): {}", d.path, d.file_system, Bytes(d.stored_bytes))?;
        }
        Ok(())
    }
}
