//! Ranks as threads of one process: messages change hands by pointer.

use super::bell::{Bell, Ringer, fall_asleep};
use super::{Arrival, Packet, Transport, TransportKind};
use crate::error::{NetError, Result};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

struct Mailbox {
    queue: Mutex<VecDeque<Arrival>>,
    asleep: AtomicU32,
    ringer: Ringer,
}

/// One rank's wire to the other threads.
pub struct Local {
    rank: u32,
    bell: Bell,
    boxes: Arc<Vec<Mailbox>>,
    taken: VecDeque<Arrival>,
}

impl Local {
    /// The wires of `n` ranks.
    pub fn mesh(n: u32) -> Result<Vec<Local>> {
        let bells = (0..n).map(|_| Bell::new()).collect::<Result<Vec<_>>>()?;
        let boxes = bells
            .iter()
            .map(|bell| {
                Ok(Mailbox {
                    queue: Mutex::new(VecDeque::new()),
                    asleep: AtomicU32::new(0),
                    ringer: bell.ringer()?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let boxes = Arc::new(boxes);
        Ok(bells
            .into_iter()
            .zip(0..)
            .map(|(bell, rank)| Local { rank, bell, boxes: boxes.clone(), taken: VecDeque::new() })
            .collect())
    }
}

impl Transport for Local {
    fn kind(&self) -> TransportKind {
        TransportKind::Local
    }

    fn post(&mut self, peer: u32, packet: Packet) -> Result<()> {
        let Some(to) = self.boxes.get(peer as usize) else {
            return Err(NetError::Internal(format!("no rank {peer} in a world of {}", self.boxes.len())));
        };
        to.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(Arrival { from: self.rank, packet });
        to.ringer.ring_if_asleep(&to.asleep);
        Ok(())
    }

    fn progress(&mut self, inbox: &mut Vec<Arrival>) -> Result<bool> {
        let mine = &self.boxes[self.rank as usize];
        {
            let mut queue = mine.queue.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *queue, &mut self.taken);
        }
        let moved = !self.taken.is_empty();
        inbox.extend(self.taken.drain(..));
        Ok(moved)
    }

    fn idle(&self) -> bool {
        true
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.fd())
    }

    fn nudge(&self, peer: u32) {
        if let Some(to) = self.boxes.get(peer as usize) {
            to.ringer.ring_after_fence(&to.asleep);
        }
    }

    fn arm(&mut self) {
        fall_asleep(&self.boxes[self.rank as usize].asleep);
    }

    fn disarm(&mut self) {
        self.boxes[self.rank as usize].asleep.store(0, Ordering::Relaxed);
        self.bell.clear();
    }
}

/// Wakes one thread of a local world.
pub struct LocalWaker {
    rank: u32,
    boxes: Arc<Vec<Mailbox>>,
}

impl Local {
    /// Something to wake this rank with.
    pub fn waker(&self) -> LocalWaker {
        LocalWaker { rank: self.rank, boxes: self.boxes.clone() }
    }
}

impl LocalWaker {
    /// Wakes the rank if it sleeps.
    pub fn wake(&self) {
        self.boxes[self.rank as usize].ringer.ring();
    }
}
