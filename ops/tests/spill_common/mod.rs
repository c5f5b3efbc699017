//! What the tests of spilling share.

#![allow(dead_code, reason = "not every test program needs all of it")]

use aeolian_net::Buf;
use aeolian_ops::spill::{Compression, DiskIo, Run, Spill, SpillOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everyone who can read and write here.
pub(crate) const KINDS: [DiskIo; 4] = [DiskIo::Auto, DiskIo::Threads, DiskIo::IoUring, DiskIo::Blocking];

/// Small blocks, in one directory.
pub(crate) fn options(directory: &Path, io: DiskIo) -> SpillOptions {
    SpillOptions {
        directories: vec![("test".into(), directory.into())],
        block_bytes: 1000,
        io,
        ..SpillOptions::from_env(0x5eed, 3)
    }
}

/// Whether the system lets us use `io_uring`; said if it does not.
pub(crate) fn has(io: DiskIo) -> bool {
    if io != DiskIo::IoUring {
        return true;
    }
    let directory = tempfile::tempdir().unwrap();
    let spill = Spill::new(options(directory.path(), io));
    let has = spill.file("probe").run().write(Buf::empty()).is_ok();
    if !has {
        eprintln!("skipped: no io_uring here");
        assert!(std::env::var_os("AEOLIAN_REQUIRE_ALL").is_none(), "io_uring is required");
    }
    has
}

/// Bytes that can be told from others, and are compressed to about half.
pub(crate) fn bytes(len: usize, seed: u64) -> Buf {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut all = Buf::zeroed(len);
    for (i, byte) in all.iter_mut().enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = if i / 64 % 2 == 0 { state as u8 } else { seed as u8 };
    }
    all
}

/// All blocks of a run.
pub(crate) fn read_all(run: Run) -> Vec<Buf> {
    let mut reader = run.read();
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

/// Bytes on the disk of all files of an operator.
pub(crate) fn on_disk(file: &aeolian_ops::spill::SpillFile) -> u64 {
    file.files().iter().map(|f| f.metadata().unwrap().blocks() * 512).sum()
}

/// Runs the test `name` of this program again, in a child that knows by the variable that it is one.
pub(crate) fn child(name: &str, variable: &str, value: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(variable, value);
    command
}

pub(crate) fn compressions() -> [Compression; 2] {
    [Compression::None, Compression::Lz4]
}
