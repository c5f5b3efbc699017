//! [`Memory`]: the budget of a rank, from which its operators reserve.

use std::cell::Cell;
use std::rc::Rc;

/// What a rank's operators may keep in memory together.
///
/// Whoever is refused spills: nobody waits for memory, so no operator can stop another. What an operator cannot do without (a batch
/// for each target, the head of each run that it merges) it [takes](Reservation::take) without asking; it counts all the same.
#[derive(Debug)]
pub struct Memory {
    limit: u64,
    used: Cell<u64>,
    peak: Cell<u64>,
}

impl Memory {
    /// A budget of so many bytes.
    pub fn new(limit: u64) -> Rc<Memory> {
        Rc::new(Memory { limit, used: Cell::new(0), peak: Cell::new(0) })
    }

    /// Bytes that may be used.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// The most bytes that were in use.
    pub fn peak(&self) -> u64 {
        self.peak.get()
    }

    /// Whether more is in use than may be.
    pub fn is_over(&self) -> bool {
        self.used() > self.limit
    }

    /// Bytes that are left.
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used())
    }

    /// Nothing yet, for one operator.
    pub fn reserve(self: &Rc<Memory>) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }
}

/// What one operator has of the budget; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Rc<Memory>,
    bytes: u64,
}

impl Reservation {
    /// More, if the budget has as much.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.memory.used().saturating_add(bytes) <= self.memory.limit;
        if fits {
            self.take(bytes);
        }
        fits
    }

    /// More, also beyond the budget.
    pub fn take(&mut self, bytes: u64) {
        let memory = &self.memory;
        memory.used.set(memory.used().saturating_add(bytes));
        memory.peak.set(memory.peak().max(memory.used()));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Less; at most all.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.used.set(self.memory.used() - bytes);
    }

    /// So much of what is held, at most all, apart from this.
    pub fn split(&mut self, bytes: u64) -> Reservation {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Reservation { memory: self.memory.clone(), bytes }
    }

    /// The budget that it is of.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_operators_share_a_budget() {
        let memory = Memory::new(100);
        let (mut a, mut b) = (memory.reserve(), memory.reserve());
        assert!(a.grow(60) && !b.grow(41) && b.grow(40));
        b.take(10);
        assert_eq!((memory.used(), memory.free(), b.bytes(), a.grow(0)), (110, 0, 50, false));
        b.shrink(999);
        drop(a);
        assert_eq!((memory.used(), memory.peak(), memory.limit()), (0, 110, 100));
    }
}
