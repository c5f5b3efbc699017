//! [`Disk`]: who reads and writes, behind one small trait; and the steps that all of them take.

use super::header::HEADER;
use super::options::DiskIo;
use aeolian_net::Buf;
use rustix::io::Errno;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

/// A block to write, or room for one that is to be read.
pub(super) struct Request {
    /// By which the caller knows it.
    pub(super) token: u64,
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) direction: Direction,
    pub(super) header: [u8; HEADER],
    pub(super) payload: Buf,
    /// What goes wrong at the first attempt (tests).
    pub(super) fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// A system call that goes wrong, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error number.
    Errno(i32),
    /// It moves no more than this many bytes.
    Short(usize),
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Os(Errno),
    /// The file ended after this many bytes.
    End(u64),
}

/// A request that has come to its end.
pub(super) struct Done {
    pub(super) request: Request,
    pub(super) outcome: Result<(), Trouble>,
}

/// Who reads and writes. Dropping it waits for the requests that were begun; those that were not are forgotten.
pub(super) trait Disk {
    /// Begins it, now or when there is room. What fails comes back as done.
    fn submit(&mut self, request: Request);
    /// One that is done, if there is one.
    fn poll(&mut self) -> Option<Done>;
    /// Waits for one that is done. Only to be called while there is one to come.
    fn wait(&mut self) -> Result<Done, Errno>;
    /// What it is; never [`DiskIo::Auto`].
    fn kind(&self) -> DiskIo;
}

/// What to do after a system call.
pub(super) enum Step {
    Again,
    Moved(u64),
    Failed(Trouble),
}

impl Request {
    /// Bytes that are to be moved.
    pub(super) fn total(&self) -> u64 {
        (HEADER + self.payload.len()) as u64
    }

    /// Which parts of header and payload are still to be moved when `done` bytes have been.
    pub(super) fn rest(&self, done: u64) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let done = done as usize;
        (done.min(HEADER)..HEADER, done.saturating_sub(HEADER)..self.payload.len())
    }

    /// What an answer of the system means when `done` bytes had been moved before.
    pub(super) fn judge(&self, answer: Result<usize, Errno>, done: u64) -> Step {
        match answer {
            Err(Errno::INTR | Errno::AGAIN) => Step::Again,
            Err(errno) => Step::Failed(Trouble::Os(errno)),
            // A disk that takes nothing and says nothing: not to be asked for ever.
            Ok(0) if self.direction == Direction::Write => Step::Failed(Trouble::Os(Errno::IO)),
            Ok(0) => Step::Failed(Trouble::End(done)),
            Ok(bytes) => Step::Moved(bytes as u64),
        }
    }

    /// Does all of it on this thread.
    pub(super) fn perform(mut self) -> Done {
        let mut done = 0;
        while done < self.total() {
            let answer = self.attempt(done);
            match self.judge(answer, done) {
                Step::Again => {}
                Step::Moved(bytes) => done += bytes,
                Step::Failed(trouble) => return Done { request: self, outcome: Err(trouble) },
            }
        }
        Done { request: self, outcome: Ok(()) }
    }

    /// One system call.
    fn attempt(&mut self, done: u64) -> Result<usize, Errno> {
        let (head, tail) = self.rest(done);
        let (head, tail) = match self.fault.take() {
            Some(Fault::Errno(errno)) => return Err(Errno::from_raw_os_error(errno)),
            Some(Fault::Short(limit)) => shorten(head, tail, limit),
            None => (head, tail),
        };
        let at = self.offset + done;
        match self.direction {
            Direction::Write => {
                let parts = [IoSlice::new(&self.header[head]), IoSlice::new(&self.payload[tail])];
                rustix::io::pwritev(&self.file, &parts, at)
            }
            Direction::Read => {
                let mut parts =
                    [IoSliceMut::new(&mut self.header[head]), IoSliceMut::new(&mut self.payload[tail])];
                rustix::io::preadv(&self.file, &mut parts, at)
            }
        }
    }
}

/// The first `limit` bytes of the two.
pub(super) fn shorten(
    mut head: std::ops::Range<usize>,
    mut tail: std::ops::Range<usize>,
    limit: usize,
) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let limit = limit.max(1);
    head.end = head.end.min(head.start + limit);
    tail.end = tail.end.min(tail.start + (limit - head.len()));
    (head, tail)
}

/// The caller does it itself.
#[derive(Default)]
pub(super) struct Blocking {
    done: std::collections::VecDeque<Done>,
}

impl Disk for Blocking {
    fn submit(&mut self, request: Request) {
        self.done.push_back(request.perform());
    }

    fn poll(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    fn wait(&mut self) -> Result<Done, Errno> {
        self.done.pop_front().ok_or(Errno::DEADLK)
    }

    fn kind(&self) -> DiskIo {
        DiskIo::Blocking
    }
}
