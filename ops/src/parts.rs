//! [`Parts`]: the pairs of all targets of a rank, in parts, one pair a key.

use crate::batch::Batch;
use crate::dataflow::Dataflow;
use crate::grouping::Grouping;
use crate::key::Key;
use crate::memory::Reservation;
use crate::record::Record;
use crate::table::{Pairs, Table};
use aeolian_net::Buf;
use std::cell::Cell;
use std::rc::Rc;

/// Bytes of batches that wait until their part has enough of them.
const HEAP: u64 = 64 << 20;

struct Part<K, V> {
    table: Table<K, V>,
    /// Batches that are not in the table yet.
    heap: Vec<Buf>,
    bytes: u64,
}

/// The parts of a rank's targets.
///
/// A batch touches other lines of its part's table with each record. So batches wait until there are many of one part: then its table
/// comes into the cache once for all of them.
pub(crate) struct Parts<K, V> {
    grouping: Grouping,
    /// slot -> its part; those of other ranks' targets stay empty
    parts: Vec<Part<K, V>>,
    /// Bytes of all heaps, and how many there may be.
    heaped: u64,
    most: u64,
    room: Reservation,
    damaged: Rc<Cell<bool>>,
}

impl<K: Key, V: Record> Parts<K, V> {
    pub(crate) fn new(flow: &Dataflow, grouping: Grouping, targets: usize) -> Parts<K, V> {
        let part = |_| Part { table: Table::new(flow), heap: Vec::new(), bytes: 0 };
        Parts {
            grouping,
            parts: (0..targets * grouping.parts as usize).map(part).collect(),
            heaped: 0,
            most: HEAP.min(flow.memory().limit() / 8),
            room: flow.memory().reserve(),
            damaged: Rc::default(),
        }
    }

    /// A batch of a slot; false if it cannot be read.
    pub(crate) fn add(&mut self, slot: u32, bytes: Buf, combine: &mut impl FnMut(&mut V, V)) -> bool {
        let part = &mut self.parts[slot as usize];
        let more = bytes.len() as u64;
        part.heap.push(bytes);
        part.bytes += more;
        self.heaped += more;
        self.room.take(more);
        if self.heaped > self.most {
            // Those with the most have been waiting the longest: about half of all.
            let least = self.heaped / self.parts.iter().filter(|p| p.bytes > 0).count().max(1) as u64;
            for slot in 0..self.parts.len() {
                if self.parts[slot].bytes >= least {
                    self.work_off(slot, combine);
                }
            }
        }
        !self.damaged.get()
    }

    fn work_off(&mut self, slot: usize, combine: &mut impl FnMut(&mut V, V)) {
        let part = &mut self.parts[slot];
        for bytes in part.heap.drain(..) {
            part.table.add_all(&Batch::new(bytes, self.damaged.clone()), combine);
        }
        self.heaped -= part.bytes;
        self.room.shrink(part.bytes);
        part.bytes = 0;
    }

    /// All pairs of a slot; none are left there.
    pub(crate) fn take(&mut self, slot: u32, combine: &mut impl FnMut(&mut V, V)) -> Pairs<K, V> {
        self.work_off(slot as usize, combine);
        self.parts[slot as usize].table.take()
    }

    /// Whether all could be read.
    pub(crate) fn is_whole(&self) -> bool {
        !self.damaged.get()
    }

    pub(crate) fn grouping(&self) -> Grouping {
        self.grouping
    }
}
