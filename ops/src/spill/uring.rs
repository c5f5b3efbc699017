//! [`Uring`]: the kernel reads and writes while the rank computes (`io_uring`, Linux 5.5 and newer).
//!
//! What it cannot do without waiting, it hands to threads of its own; they are kept to two, as many as ours would be.

use super::disk::{Direction, Disk, Done, Fault, Request, Step, shorten};
use super::options::DiskIo;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd;

/// Bytes of one system call at most: what an answer can count.
const PIECE: usize = 1 << 30;

/// A request that the kernel has. It does not move while it is there: the kernel knows the addresses of its parts.
struct Slot {
    request: Request,
    parts: [libc::iovec; 2],
    done: u64,
}

/// The kernel as the one who reads and writes.
pub(super) struct Uring {
    ring: IoUring,
    slots: HashMap<u64, Box<Slot>>,
    done: VecDeque<Done>,
}

impl Uring {
    /// Sets up a ring for so many requests on their way: there is then always room for their answers.
    ///
    /// # Errors
    /// If the system has none or does not permit it.
    pub(super) fn new(requests: usize) -> io::Result<Uring> {
        let entries = requests.clamp(8, 4096).next_power_of_two();
        // From Linux 6.1 on, answers are taken in when we ask for them and do not interrupt us: writes were steadier on two cores.
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let ring = match builder.build(entries as u32) {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => IoUring::new(entries as u32)?,
            ring => ring?,
        };
        let params = ring.params();
        if !params.is_feature_nodrop() || !params.is_feature_submit_stable() {
            return Err(Errno::NOSYS.into());
        }
        // Kernels before 5.15 do not know it and use as many threads as they like.
        let _ = ring.submitter().register_iowq_max_workers(&mut [2, 0]);
        Ok(Uring { ring, slots: HashMap::new(), done: VecDeque::new() })
    }

    /// Hands the rest of a request to the kernel.
    fn push(&mut self, token: u64) {
        let Some(slot) = self.slots.get_mut(&token) else { return };
        let (mut head, mut tail) = slot.request.rest(slot.done);
        match slot.request.fault.take() {
            Some(Fault::Errno(errno)) => return self.answer(token, Err(Errno::from_raw_os_error(errno))),
            Some(Fault::Short(limit)) => (head, tail) = shorten(head, tail, limit),
            None => {}
        }
        (head, tail) = shorten(head, tail, PIECE);
        let slot = &mut **slot;
        let part =
            |bytes: &mut [u8]| libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        slot.parts = [part(&mut slot.request.header[head]), part(&mut slot.request.payload[tail])];
        let (fd, at) = (types::Fd(slot.request.file.as_raw_fd()), slot.request.offset + slot.done);
        let (parts, n) = (slot.parts.as_ptr(), slot.parts.len() as u32);
        let entry = match slot.request.direction {
            Direction::Write => opcode::Writev::new(fd, parts, n).offset(at).build(),
            Direction::Read => opcode::Readv::new(fd, parts, n).offset(at).build(),
        };
        if let Err(errno) = self.hand_over(&entry.user_data(token)) {
            self.answer(token, Err(errno));
        }
    }

    fn hand_over(&mut self, entry: &squeue::Entry) -> Result<(), Errno> {
        loop {
            // SAFETY: file, iovecs, header and payload that the entry points to are in a boxed slot that is kept, and not touched, until
            // its answer has come (`drop` waits for it, or lets the slots leak).
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                break;
            }
            // The queue is full: the kernel takes it over first.
            self.enter(0)?;
        }
        // What fails now is handed over by the next call.
        let _ = self.enter(0);
        Ok(())
    }

    /// Tells the kernel of new entries, and waits for so many answers.
    fn enter(&mut self, answers: usize) -> Result<(), Errno> {
        match self.ring.submit_and_wait(answers) {
            Ok(_) => Ok(()),
            Err(e) => Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
        }
    }

    /// Takes in the answers that are there.
    fn reap(&mut self) {
        if self.ring.submission().taskrun() {
            // What fails now is found by the next wait.
            let _ = self.enter(0);
        }
        let answers: Vec<(u64, i32)> = self.ring.completion().map(|c| (c.user_data(), c.result())).collect();
        for (token, result) in answers {
            let answer = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
            self.answer(token, answer);
        }
    }

    /// What the kernel said of a request.
    fn answer(&mut self, token: u64, answer: Result<usize, Errno>) {
        let Some(slot) = self.slots.get_mut(&token) else { return };
        let outcome = match slot.request.judge(answer, slot.done) {
            Step::Moved(bytes) if slot.done + bytes < slot.request.total() => {
                slot.done += bytes;
                return self.push(token);
            }
            Step::Again => return self.push(token),
            Step::Moved(_) => Ok(()),
            Step::Failed(trouble) => Err(trouble),
        };
        if let Some(slot) = self.slots.remove(&token) {
            self.done.push_back(Done { request: slot.request, outcome });
        }
    }

    /// Waits for answers.
    fn wait_for_answers(&mut self) -> Result<(), Errno> {
        match self.enter(1) {
            // A signal, or answers that must be taken first.
            Ok(()) | Err(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {
                self.reap();
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }
}

impl Disk for Uring {
    fn submit(&mut self, request: Request) {
        let token = request.token;
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        self.slots.insert(token, Box::new(Slot { request, parts: [nothing; 2], done: 0 }));
        self.push(token);
    }

    fn poll(&mut self) -> Option<Done> {
        self.reap();
        self.done.pop_front()
    }

    fn wait(&mut self) -> Result<Done, Errno> {
        self.reap();
        loop {
            if let Some(done) = self.done.pop_front() {
                return Ok(done);
            }
            if self.slots.is_empty() {
                return Err(Errno::DEADLK);
            }
            self.wait_for_answers()?;
        }
    }

    fn kind(&self) -> DiskIo {
        DiskIo::IoUring
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.reap();
        while !self.slots.is_empty() {
            if self.wait_for_answers().is_err() {
                // The kernel may still write there.
                std::mem::forget(std::mem::take(&mut self.slots));
            }
        }
    }
}
