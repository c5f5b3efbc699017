//! [`Threads`]: at most two threads that read and write, where the kernel has no `io_uring` for us.

use super::disk::{Direction, Disk, Done, Request};
use super::options::DiskIo;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// One writes while the other reads.
const THREADS: usize = 2;

#[derive(Default)]
struct Queue {
    reads: VecDeque<Request>,
    writes: VecDeque<Request>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request; `None` when there will be none.
    fn next(&self) -> Option<Request> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            // Someone may be waiting for a read; for a write only once too many are behind.
            if let Some(request) = queue.reads.pop_front() {
                return Some(request);
            }
            if let Some(request) = queue.writes.pop_front() {
                return Some(request);
            }
            queue = self.came.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Threads for the disk only.
pub(super) struct Threads {
    shared: Arc<Shared>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Begins them.
    ///
    /// # Errors
    /// If the system gives not even one.
    pub(super) fn new() -> io::Result<Threads> {
        let shared = Arc::<Shared>::default();
        let (sender, done) = channel();
        let mut threads = Vec::new();
        for i in 0..THREADS {
            let (shared, sender): (_, Sender<Done>) = (shared.clone(), sender.clone());
            let body = move || {
                while let Some(request) = shared.next() {
                    if sender.send(request.perform()).is_err() {
                        return;
                    }
                }
            };
            match std::thread::Builder::new().name(format!("aeolian-spill-{i}")).spawn(body) {
                Ok(thread) => threads.push(thread),
                Err(e) if threads.is_empty() => return Err(e),
                Err(_) => break,
            }
        }
        Ok(Threads { shared, done, threads })
    }
}

impl Disk for Threads {
    fn submit(&mut self, request: Request) {
        let mut queue = self.shared.lock();
        match request.direction {
            Direction::Read => queue.reads.push_back(request),
            Direction::Write => queue.writes.push_back(request),
        }
        drop(queue);
        self.shared.came.notify_one();
    }

    fn poll(&mut self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    fn wait(&mut self) -> Result<Done, Errno> {
        self.done.recv().map_err(|_| Errno::PIPE)
    }

    fn kind(&self) -> DiskIo {
        DiskIo::Threads
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.reads.clear();
        queue.writes.clear();
        drop(queue);
        self.shared.came.notify_all();
        for thread in self.threads.drain(..) {
            // It does not panic; and if it did, there is nothing left that it could have spoilt.
            let _ = thread.join();
        }
    }
}
