//! The ring of bytes (`net/src/transport/shm/ring.rs`): bytes are read after they were written and written over after they were read, and
//! neither end sleeps while the other one waits for it (with the bell, as `net/src/transport/shm/mod.rs` puts them together).

use aeolian_models::{Pipe, explore, fails, mirrors};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

/// What may be taken away.
#[derive(Clone, Copy)]
struct Rules {
    publish_head: Ordering,
    publish_tail: Ordering,
    /// In `Consumer::writer_waits`.
    reader_fence: bool,
    /// The writer says that it waits for room.
    starved: bool,
}

const AS_IT_IS: Rules = Rules {
    publish_head: Ordering::Release,
    publish_tail: Ordering::Release,
    reader_fence: true,
    starved: true,
};

/// Places of the ring.
const SIZE: u64 = 1;

struct Ring {
    head: AtomicU64,
    tail: AtomicU64,
    starved: AtomicU32,
    data: Vec<UnsafeCell<u64>>,
}

impl Ring {
    fn new() -> Ring {
        Ring {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            starved: AtomicU32::new(0),
            data: (0..SIZE).map(|_| UnsafeCell::new(0)).collect(),
        }
    }
}

/// `Producer`, of one item at a time.
struct Producer {
    head: u64,
    tail: u64,
}

impl Producer {
    fn full(&mut self, ring: &Ring) -> bool {
        if self.head - self.tail >= SIZE {
            self.tail = ring.tail.load(Ordering::Acquire);
        }
        self.head - self.tail >= SIZE
    }

    /// `write2`
    fn write(&mut self, ring: &Ring, item: u64, rules: Rules) -> bool {
        if self.full(ring) {
            if rules.starved {
                ring.starved.store(1, Ordering::Relaxed);
            }
            fence(Ordering::SeqCst);
            self.tail = ring.tail.load(Ordering::Acquire);
            if self.full(ring) {
                return false;
            }
        }
        // SAFETY: nobody else touches a place of which the counters say that it is free, which is what loom checks.
        ring.data[(self.head % SIZE) as usize].with_mut(|at| unsafe { *at = item });
        self.head += 1;
        ring.head.store(self.head, rules.publish_head);
        true
    }
}

/// `Consumer`, of one item at a time.
struct Consumer {
    head: u64,
    tail: u64,
}

impl Consumer {
    fn read(&mut self, ring: &Ring, rules: Rules) -> Option<u64> {
        if self.head == self.tail {
            self.head = ring.head.load(Ordering::Acquire);
        }
        if self.head == self.tail {
            return None;
        }
        // SAFETY: as for the producer, of a place that is full.
        let item = ring.data[(self.tail % SIZE) as usize].with(|at| unsafe { *at });
        self.tail += 1;
        ring.tail.store(self.tail, rules.publish_tail);
        Some(item)
    }

    fn writer_waits(&self, ring: &Ring, rules: Rules) -> bool {
        if rules.reader_fence {
            fence(Ordering::SeqCst);
        }
        ring.starved.load(Ordering::Relaxed) != 0
    }
}

/// One rank's flag and bell.
#[derive(Default)]
struct Bell {
    asleep: AtomicU32,
    pipe: Pipe,
}

impl Bell {
    fn ring_if_asleep(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) != 0 && self.asleep.swap(0, Ordering::Relaxed) != 0 {
            self.pipe.ring();
        }
    }

    /// What `Engine::sleep` does: raises the flag, tries once more, and sleeps if that moved nothing.
    fn sleep_unless(&self, mut moved: impl FnMut() -> bool) -> bool {
        self.asleep.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let moved = moved();
        if !moved {
            self.pipe.sleep();
        }
        self.asleep.store(0, Ordering::Relaxed);
        self.pipe.clear();
        moved
    }
}

/// Items pass through the ring; both ends only spin.
fn spinning(rules: Rules, items: u64) {
    let ring = Arc::new(Ring::new());
    let writer = {
        let ring = ring.clone();
        thread::spawn(move || {
            let mut end = Producer { head: 0, tail: 0 };
            for item in 1..=items {
                while !end.write(&ring, item, rules) {
                    thread::yield_now();
                }
            }
        })
    };
    let mut end = Consumer { head: 0, tail: 0 };
    for item in 1..=items {
        let got = loop {
            match end.read(&ring, rules) {
                Some(got) => break got,
                None => thread::yield_now(),
            }
        };
        assert_eq!(got, item);
    }
    writer.join().unwrap();
}

/// A writer that sleeps while there is no room, and a reader that wakes it.
fn starving(rules: Rules) {
    let (ring, bell) = (Arc::new(Ring::new()), Arc::new(Bell::default()));
    let writer = {
        let (ring, bell) = (ring.clone(), bell.clone());
        thread::spawn(move || {
            let mut end = Producer { head: 0, tail: 0 };
            for item in 1..=SIZE + 1 {
                while !end.write(&ring, item, rules) {
                    if bell.sleep_unless(|| end.write(&ring, item, rules)) {
                        break;
                    }
                }
            }
        })
    };
    let mut end = Consumer { head: 0, tail: 0 };
    let first = loop {
        match end.read(&ring, rules) {
            Some(got) => break got,
            None => thread::yield_now(),
        }
    };
    // There is room for the last item now: the writer must come to know of it.
    if end.writer_waits(&ring, rules) {
        bell.ring_if_asleep();
    }
    bell.pipe.over();
    writer.join().unwrap();
    assert_eq!((first, end.read(&ring, rules)), (1, Some(2)));
}

#[test]
fn items_pass() {
    explore(|| spinning(AS_IT_IS, 2));
}

#[test]
fn the_release_of_the_head_is_needed() {
    fails("Causality violation", || spinning(Rules { publish_head: Ordering::Relaxed, ..AS_IT_IS }, 2));
}

#[test]
fn the_release_of_the_tail_is_needed() {
    fails("Causality violation", || spinning(Rules { publish_tail: Ordering::Relaxed, ..AS_IT_IS }, 2));
}

#[test]
fn a_starved_writer_is_woken() {
    explore(|| starving(AS_IT_IS));
}

#[test]
fn the_readers_fence_is_needed() {
    fails("asleep for ever", || starving(Rules { reader_fence: false, ..AS_IT_IS }));
}

#[test]
fn the_writers_flag_is_needed() {
    fails("asleep for ever", || starving(Rules { starved: false, ..AS_IT_IS }));
}

#[test]
fn the_code_is_as_it_was_modelled() {
    let source = include_str!("../../net/src/transport/shm/ring.rs");
    mirrors(
        source,
        &[
            "fn room",
            "tail.0.load(Ordering::Acquire)",
            "fn write2",
            "starved.0.store(1, Ordering::Relaxed);",
            "fence(Ordering::SeqCst);",
            "tail.0.load(Ordering::Acquire)",
            "head.0.store(self.head, Ordering::Release);",
            "fn available",
            "head.0.load(Ordering::Acquire)",
            "fn take",
            "tail.0.store(self.tail, Ordering::Release);",
            "fn writer_waits",
            "fence(Ordering::SeqCst);",
            "starved.0.load(Ordering::Relaxed)",
        ],
    );
    let shm = include_str!("../../net/src/transport/shm/mod.rs");
    mirrors(
        shm,
        &["fn pull", "self.inc.writer_waits()", "self.ringer.ring_if_asleep(self.segment.asleep());"],
    );
}
