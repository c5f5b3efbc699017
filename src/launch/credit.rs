//! How much data may be on its way: what goes the same way besides (signals, the news of a rank's end) must not wait
//! behind data that nobody takes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How much is sent before any of it has been taken.
pub(crate) const AHEAD: usize = 256 << 10;

/// The sender's account.
#[derive(Default)]
pub(crate) struct Credit {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    on_the_way: usize,
    lifted: bool,
}

impl Credit {
    /// The receiver took so many bytes.
    pub(crate) fn give(&self, bytes: u32) {
        let mut state = self.lock();
        state.on_the_way = state.on_the_way.saturating_sub(bytes as usize);
        self.changed.notify_all();
    }

    /// Waits until so many bytes may be sent: until less than [`AHEAD`] is on its way.
    pub(crate) fn take(&self, bytes: usize) {
        let full = |state: &mut State| !state.lifted && state.on_the_way >= AHEAD;
        let state = self.changed.wait_while(self.lock(), full);
        state.unwrap_or_else(PoisonError::into_inner).on_the_way += bytes;
    }

    /// From now on nobody waits: the receiver is gone.
    pub(crate) fn lift(&self) {
        self.lock().lifted = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
