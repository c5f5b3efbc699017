//! A doorbell: wakes a rank that sleeps in `poll`.
//!
//! A pipe, because a process of the same node can open the other end through `/proc/PID/fd` without any name in a file
//! system, and because it can be polled together with sockets. The flag in front of it keeps the ordinary case, a rank
//! that is awake, free of system calls: the sleeper sets it, looks for work once more, and only then sleeps; whoever
//! makes work looks at the flag afterwards (Dekker's rule: both sides put a fence between their store and load; see `fences`).

use crate::error::{NetError, Result};
use crate::fences;
use rustix::fs::OFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The sleeper's end.
pub(crate) struct Bell {
    read: OwnedFd,
    write: OwnedFd,
}

impl Bell {
    pub(crate) fn new() -> Result<Bell> {
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)
                .map_err(|e| NetError::os("making a doorbell pipe")(e.into()))?;
        Ok(Bell { read, write })
    }

    /// To sleep on.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Rings from within this process.
    pub(crate) fn ringer(&self) -> Result<Ringer> {
        let write = rustix::io::fcntl_dupfd_cloexec(&self.write, 0)
            .map_err(|e| NetError::os("duplicating a doorbell")(e.into()))?;
        Ok(Ringer { write })
    }

    /// Takes all rings.
    pub(crate) fn clear(&self) {
        let mut sink = [0u8; 64];
        while matches!(rustix::io::read(&self.read, &mut sink), Ok(n) if n == sink.len()) {}
    }
}

/// The waker's end.
pub(crate) struct Ringer {
    write: OwnedFd,
}

impl Ringer {
    /// Opens the bell of another process of this node by the number that the bell's reading end has there.
    pub(crate) fn open(pid: u32, fd: i32) -> std::io::Result<Ringer> {
        let path = format!("/proc/{pid}/fd/{fd}");
        let write = rustix::fs::open(
            path,
            OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        Ok(Ringer { write })
    }

    /// Rings. A full pipe means that it rings already; a sleeper that is gone needs no waking.
    pub(crate) fn ring(&self) {
        let _ = rustix::io::write(&self.write, &[1]);
    }

    /// Rings if the flag says that the other side sleeps. Call after the work has been published.
    pub(crate) fn ring_if_asleep(&self, asleep: &AtomicU32) {
        fence(Ordering::SeqCst);
        self.ring_after_fence(asleep);
    }

    /// As [`Ringer::ring_if_asleep`], for a caller that has put the fence after publishing.
    pub(crate) fn ring_after_fence(&self, asleep: &AtomicU32) {
        if asleep.load(Ordering::Relaxed) != 0 && asleep.swap(0, Ordering::Relaxed) != 0 {
            self.ring();
        }
    }
}

/// Before a sleep: raise the flag. The caller looks for work once more afterwards.
pub(crate) fn fall_asleep(asleep: &AtomicU32) {
    asleep.store(1, Ordering::Relaxed);
    fences::heavy();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_through_proc_once_per_sleep() {
        let bell = Bell::new().unwrap();
        use std::os::fd::AsRawFd;
        let ringer = Ringer::open(std::process::id(), bell.fd().as_raw_fd()).unwrap();
        let asleep = AtomicU32::new(0);
        let readable = |timeout_ms: i64| {
            let mut fds = [rustix::event::PollFd::from_borrowed_fd(bell.fd(), rustix::event::PollFlags::IN)];
            let t = rustix::event::Timespec { tv_sec: 0, tv_nsec: timeout_ms * 1_000_000 };
            rustix::event::poll(&mut fds, Some(&t)).unwrap() == 1
        };
        ringer.ring_if_asleep(&asleep);
        assert!(!readable(0), "nobody sleeps: no ring");
        fall_asleep(&asleep);
        ringer.ring_if_asleep(&asleep);
        ringer.ring_if_asleep(&asleep);
        assert!(readable(900));
        bell.clear();
        assert!(!readable(0), "one sleep, one ring");
    }
}
