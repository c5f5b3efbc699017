//! What a process as a whole can say of its end: an exit without farewell, and signals.

use super::client::Shared;
use super::protocol::ToMaster;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

/// Signals that ask a program to end.
const SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1];

static JOB: OnceLock<Weak<Shared>> = OnceLock::new();

extern "C" fn at_exit() {
    if let Some(job) = JOB.get().and_then(Weak::upgrade)
        && !job.finished.load(Ordering::Acquire)
    {
        job.send_and_flush(ToMaster::Left);
    }
}

/// True if the program and its launcher have left a signal at its default.
fn is_default(signal: i32) -> bool {
    // SAFETY: asks only; `old` is a local of the right type.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut old) == 0 && old.sa_sigaction == libc::SIG_DFL
    }
}

pub(super) fn install(shared: &Arc<Shared>) {
    if JOB.set(Arc::downgrade(shared)).is_err() {
        return;
    }
    // SAFETY: a plain function without arguments; it runs before the process is torn down.
    unsafe { libc::atexit(at_exit) };
    for (signal, slot) in SIGNALS.into_iter().zip(&shared.signals) {
        if !is_default(signal) {
            continue;
        }
        let Ok((read, write)) = UnixStream::pair() else { continue };
        let ready = read.set_nonblocking(true).is_ok() && write.set_nonblocking(true).is_ok();
        if ready && signal_hook::low_level::pipe::register(signal, write).is_ok() {
            slot.store(read.into_raw_fd(), Ordering::Release);
        }
    }
}

/// What to poll for signals. (The descriptors stay open as long as the process: the handlers do too.)
pub(super) fn signal_fds(shared: &Shared) -> Vec<BorrowedFd<'static>> {
    shared
        .signals
        .iter()
        .map(|s| s.load(Ordering::Acquire))
        .filter(|&fd| fd >= 0)
        // SAFETY: opened by `install` and never closed.
        .map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
        .collect()
}

/// Signals that have come since the last call.
pub(super) fn pending_signals(shared: &Shared) -> Vec<i32> {
    let mut came = Vec::new();
    for (signal, slot) in SIGNALS.into_iter().zip(&shared.signals) {
        let fd = slot.load(Ordering::Acquire);
        if fd < 0 {
            continue;
        }
        // SAFETY: as in `signal_fds`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut bytes = [0; 16];
        if matches!(rustix::io::read(fd, &mut bytes), Ok(n) if n > 0) {
            came.push(signal);
        }
    }
    came
}
