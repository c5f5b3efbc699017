//! A single-producer, single-consumer ring of bytes in shared memory.
//!
//! Two free-running counters, each on a cache line of its own and written by one side only: `head` counts bytes written,
//! `tail` bytes read; the ring holds `head - tail` of them. A side publishes its counter with release order after it
//! has touched the bytes and reads the other's with acquire order before; it keeps a copy of the other's counter and
//! looks again only when that copy says "full" or "empty", so the lines travel between the cores as seldom as they can.
//! Large transfers are published in pieces so that both sides work at the same time, inside the cache.
//!
//! A peer that writes nonsense into the counters can make its own messages unreadable (the frame header is checked), not
//! more: all positions are taken modulo the ring's size and lengths are bounded by it.

use crate::copying::copy_raw;
use memmap2::MmapRaw;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Bytes of the counters in front of a ring's data.
pub const CONTROL: usize = 384;

/// Largest piece that is published at once.
const PIECE: usize = 64 << 10;

#[repr(C, align(128))]
struct Line<T>(T);

#[repr(C)]
struct Counters {
    head: Line<AtomicU64>,
    tail: Line<AtomicU64>,
    /// The writer has more to write than fits and wants to be woken when there is room.
    starved: Line<AtomicU32>,
}

const _: () = assert!(size_of::<Counters>() == CONTROL);

struct Ring {
    base: *mut u8,
    size: u64,
    _map: Arc<MmapRaw>,
}

impl Ring {
    fn counters(&self) -> &Counters {
        // SAFETY: `base` points to CONTROL bytes of mapped memory, 128-aligned by the segment's layout; only atomics.
        unsafe { &*self.base.cast::<Counters>() }
    }

    fn data(&self) -> *mut u8 {
        // SAFETY: the data follows the counters inside the same map.
        unsafe { self.base.add(CONTROL) }
    }
}

/// The writing end.
pub struct Producer {
    ring: Ring,
    head: u64,
    tail: u64,
}

// SAFETY: the pointer is into shared memory that the Arc keeps mapped; there is one producer a ring.
unsafe impl Send for Producer {}

impl Producer {
    /// # Safety
    /// `base` points to `CONTROL + size` bytes inside `map`, 128-aligned, and there is no other producer of this ring
    /// in any process. `size` is a power of two.
    pub unsafe fn new(base: *mut u8, size: u32, map: Arc<MmapRaw>) -> Producer {
        let ring = Ring { base, size: size as u64, _map: map };
        let head = ring.counters().head.0.load(Ordering::Relaxed);
        Producer { tail: ring.counters().tail.0.load(Ordering::Acquire), head, ring }
    }

    fn room(&mut self, want: usize) -> u64 {
        let size = self.ring.size;
        let mut used = self.head.wrapping_sub(self.tail);
        if used.saturating_add(want.min(PIECE) as u64) > size {
            self.tail = self.ring.counters().tail.0.load(Ordering::Acquire);
            used = self.head.wrapping_sub(self.tail);
        }
        size.saturating_sub(used)
    }

    fn copy(&mut self, at: u64, bytes: &[u8]) {
        let start = (at & (self.ring.size - 1)) as usize;
        let first = bytes.len().min(self.ring.size as usize - start);
        // SAFETY: both parts lie inside the data area: `start < size` and the second part is the wrapped rest, shorter
        // than `size` because the caller checked the room; the consumer does not read it before `head` is published.
        unsafe {
            copy_raw(bytes.as_ptr(), self.ring.data().add(start), first);
            copy_raw(bytes.as_ptr().add(first), self.ring.data(), bytes.len() - first);
        }
    }

    /// Writes as much as fits, up to one piece, of `a` followed by `b`. Returns the bytes written; 0 means full (the
    /// reader will find the ring starved and wake the writer).
    pub fn write2(&mut self, a: &[u8], b: &[u8]) -> usize {
        let want = a.len() + b.len();
        let mut room = self.room(want) as usize;
        if room == 0 {
            self.ring.counters().starved.0.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.tail = self.ring.counters().tail.0.load(Ordering::Acquire);
            room = self.room(want) as usize;
            if room == 0 {
                return 0;
            }
        }
        let n = want.min(room).min(PIECE);
        let from_a = a.len().min(n);
        self.copy(self.head, &a[..from_a]);
        self.copy(self.head + from_a as u64, &b[..n - from_a]);
        self.head += n as u64;
        self.ring.counters().head.0.store(self.head, Ordering::Release);
        n
    }

    /// Nothing more to write for now.
    pub fn satisfied(&mut self) {
        let starved = &self.ring.counters().starved.0;
        if starved.load(Ordering::Relaxed) != 0 {
            starved.store(0, Ordering::Relaxed);
        }
    }
}

/// The reading end.
pub struct Consumer {
    ring: Ring,
    head: u64,
    tail: u64,
}

// SAFETY: as for the producer; one consumer a ring.
unsafe impl Send for Consumer {}

impl Consumer {
    /// # Safety
    /// As [`Producer::new`], with "consumer" for "producer".
    pub unsafe fn new(base: *mut u8, size: u32, map: Arc<MmapRaw>) -> Consumer {
        let ring = Ring { base, size: size as u64, _map: map };
        let tail = ring.counters().tail.0.load(Ordering::Relaxed);
        Consumer { head: tail, tail, ring }
    }

    fn available(&mut self, want: usize) -> usize {
        if ((self.head.wrapping_sub(self.tail)) as usize) < want {
            self.head = self.ring.counters().head.0.load(Ordering::Acquire);
        }
        // A counter that a broken peer has set too far is cut to the ring: the frame check finds the nonsense.
        self.head.wrapping_sub(self.tail).min(self.ring.size) as usize
    }

    fn take(&mut self, out: &mut [u8]) {
        let start = (self.tail & (self.ring.size - 1)) as usize;
        let first = out.len().min(self.ring.size as usize - start);
        // SAFETY: inside the data area as in `Producer::copy`; the acquire load of `head` makes the bytes visible, and the
        // producer does not write there before `tail` is published.
        unsafe {
            copy_raw(self.ring.data().add(start), out.as_mut_ptr(), first);
            copy_raw(self.ring.data(), out.as_mut_ptr().add(first), out.len() - first);
        }
        self.tail += out.len() as u64;
        self.ring.counters().tail.0.store(self.tail, Ordering::Release);
    }

    /// Fills `out` whole, or takes nothing and returns false.
    pub fn read_exact(&mut self, out: &mut [u8]) -> bool {
        if self.available(out.len()) < out.len() {
            return false;
        }
        self.take(out);
        true
    }

    /// Reads what is there, up to one piece and `out`'s length; returns how much.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        let want = out.len().min(PIECE);
        let n = self.available(want).min(want);
        if n > 0 {
            self.take(&mut out[..n]);
        }
        n
    }

    /// True if the writer waits for room. Call after reading.
    pub fn writer_waits(&self) -> bool {
        fence(Ordering::SeqCst);
        self.ring.counters().starved.0.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(size: u32) -> (Producer, Consumer) {
        let map = Arc::new(MmapRaw::from(memmap2::MmapMut::map_anon(CONTROL + size as usize).unwrap()));
        // SAFETY: page-aligned map of the right length, one end each.
        unsafe {
            (
                Producer::new(map.as_mut_ptr(), size, map.clone()),
                Consumer::new(map.as_mut_ptr(), size, map.clone()),
            )
        }
    }

    proptest! {
        #[test]
        fn equals_a_queue(steps in prop::collection::vec((0usize..300, 0usize..300), 1..200)) {
            let (mut p, mut c) = ends(256);
            let (mut wrote, mut read) = (0u64, 0u64);
            for (w, r) in steps {
                let bytes: Vec<u8> = (0..w as u64).map(|i| (wrote + i) as u8).collect();
                let n = p.write2(&bytes[..w / 3], &bytes[w / 3..]);
                prop_assert!(n <= w && wrote + n as u64 - read <= 256);
                prop_assert!(n == w || wrote + n as u64 - read == 256, "stops early only when full");
                wrote += n as u64;
                let mut out = vec![0; r];
                let got = c.read(&mut out);
                prop_assert_eq!(got as u64, (wrote - read).min(r as u64));
                for &v in &out[..got] {
                    prop_assert_eq!(v, read as u8);
                    read += 1;
                }
            }
        }
    }

    #[test]
    fn nonsense_in_the_counters_is_full_or_empty_never_more_than_the_ring() {
        for nonsense in [1, 257, u64::MAX, u64::MAX / 2, u64::MAX - 10] {
            let (mut p, mut c) = ends(256);
            assert_eq!(p.write2(&[], &[7; 256]), 256);
            p.ring.counters().tail.0.store(nonsense, Ordering::Release);
            for _ in 0..3 {
                assert!(p.write2(&[1; 100], &[2; 400]) <= 256);
            }
            c.ring.counters().head.0.store(nonsense, Ordering::Release);
            assert!(c.read(&mut [0; 1000]) <= 256);
        }
    }

    #[test]
    fn two_threads_pass_a_long_stream_through_a_small_ring() {
        let (mut p, mut c) = ends(1024);
        const N: usize = 3_000_000;
        let writer = std::thread::spawn(move || {
            let mut at = 0usize;
            let block: Vec<u8> = (0..=255).collect();
            while at < N {
                let off = at % 256;
                let n = p.write2(&[], &block[off..off + (256 - off).min(N - at)]);
                at += n;
                if n == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut out = [0; 777];
        let mut at = 0usize;
        while at < N {
            let n = c.read(&mut out);
            assert!(out[..n].iter().enumerate().all(|(i, &v)| v == (at + i) as u8));
            at += n;
            if n == 0 {
                std::thread::yield_now();
            }
        }
        writer.join().unwrap();
    }
}
