//! Mapping a file, and what happens when somebody shortens it meanwhile.
//!
//! Reading a page of a mapping that lies behind the file's new end raises SIGBUS. A handler turns this into one line
//! that says so and the exit code `IO`; nothing else can be done, since the numbers are gone.

use std::fs::File;
use std::path::Path;
use std::sync::Once;

use aeolian::net::exit;
use memmap2::{Mmap, MmapOptions};

use crate::{Error, Result};

const MESSAGE: &str = "\nerror: a mapped input file was shortened or became unreadable while the job used it (SIGBUS)\n  \
    help: do not change an input while a job runs, and see whether its file system is healthy; run again\n  \
    exit code: 74 (IO)\n";

/// Maps `len` bytes from `offset` of `file` for reading.
pub fn map(file: &File, path: &Path, offset: u64, len: u64) -> Result<Mmap> {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: the handler calls only async-signal-safe functions (write, _exit); an all-zero sigaction is valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
    });
    // SAFETY: the mapping is read-only and private. Another process may change the file's bytes, which then are other
    // numbers, but any bit pattern is a valid f32 or f64; shortening the file raises SIGBUS, handled above.
    let map = unsafe { MmapOptions::new().offset(offset).len(len as usize).map(file) };
    map.map_err(|e| Error::read(path, offset, &e))
}

extern "C" fn on_sigbus(_: libc::c_int) {
    // SAFETY: write and _exit are async-signal-safe, and MESSAGE is static.
    unsafe {
        libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(i32::from(exit::IO));
    }
}
