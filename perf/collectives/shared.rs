//! What the measurement needs and the library that is measured must not have a part in: a file that all ranks map, with the aligned
//! start of every timed call and the times of all ranks. The counterpart of the first half of `coll_mpi.c`.

use aeolian::Failure;
use memmap2::MmapRaw;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(crate) const MAX_ITERATIONS: usize = 20_000;
/// Of the back-to-back loop: the median of them does not see one interruption.
pub(crate) const PIECES: usize = 8;
const MAX_RANKS: usize = 64;
const HOPS: u64 = 400;

// In words of 8 bytes: a flag has two cache lines to itself.
const LINE: usize = 16;
const HOP: usize = MAX_RANKS * LINE;
const ITERATIONS: usize = HOP + 2 * LINE;
const BACK_TO_BACK: usize = ITERATIONS + LINE;
const TIMES: usize = BACK_TO_BACK + MAX_RANKS * PIECES;
const WORDS: usize = TIMES + MAX_RANKS * MAX_ITERATIONS;

pub(crate) struct Shared {
    map: MmapRaw,
    me: usize,
    size: usize,
    cores: usize,
    epoch: u64,
    hops: u64,
}

impl Shared {
    pub(crate) fn open(path: &str, me: usize, size: usize, cores: usize) -> Result<Shared, Failure> {
        if size > MAX_RANKS {
            return Err(Failure::new(2, format!("at most {MAX_RANKS} ranks")));
        }
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        file.set_len(WORDS as u64 * 8)?;
        let shared = Shared { map: MmapRaw::map_raw(&file)?, me, size, cores, epoch: 0, hops: 0 };
        // So that no page is touched for the first time while something is measured.
        (0..MAX_ITERATIONS).for_each(|i| shared.set_time(i, 0.0));
        Ok(shared)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < WORDS);
        // SAFETY: the map starts on a page, has WORDS words, lives as long as `self`, and is only used as atomics.
        unsafe { &*self.map.as_mut_ptr().cast::<AtomicU64>().add(at) }
    }

    /// All ranks are here, within a hand-over of each other; a long wait calls `progress`.
    pub(crate) fn aligned(
        &mut self,
        mut progress: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.epoch += 1;
        self.word(self.me * LINE).store(self.epoch, Ordering::Release);
        let (spins, mut s) = (if self.size > self.cores { 20 } else { 5000 }, 0);
        for rank in 0..self.size {
            while self.word(rank * LINE).load(Ordering::Acquire) < self.epoch {
                s += 1;
                if s < spins {
                    std::hint::spin_loop();
                    continue;
                }
                s = 0;
                progress()?;
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Nanoseconds of a hand-over of a cache line between the cores of ranks 0 and 1; 0 where ranks share cores.
    pub(crate) fn hand_over(&mut self) -> f64 {
        if self.size < 2 || self.size > self.cores || self.me > 1 {
            return 0.0;
        }
        let mut times = Vec::with_capacity(HOPS as usize);
        let (mine, other) = (HOP + self.me * LINE, HOP + (1 - self.me) * LINE);
        for _ in 0..HOPS {
            self.hops += 1;
            let begin = Instant::now();
            if self.me == 0 {
                self.word(mine).store(self.hops, Ordering::Release);
            }
            while self.word(other).load(Ordering::Acquire) < self.hops {
                std::hint::spin_loop();
            }
            if self.me == 1 {
                self.word(mine).store(self.hops, Ordering::Release);
            }
            times.push(begin.elapsed().as_secs_f64());
        }
        median(times) * 0.5e9
    }

    pub(crate) fn set_iterations(&self, n: usize) {
        self.word(ITERATIONS).store(n as u64, Ordering::Release);
    }

    pub(crate) fn iterations(&self) -> usize {
        self.word(ITERATIONS).load(Ordering::Acquire) as usize
    }

    pub(crate) fn set_time(&self, i: usize, seconds: f64) {
        self.word(TIMES + self.me * MAX_ITERATIONS + i).store(seconds.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn set_back_to_back(&self, piece: usize, seconds: f64) {
        self.word(BACK_TO_BACK + self.me * PIECES + piece).store(seconds.to_bits(), Ordering::Relaxed);
    }

    /// The slowest rank's times, ascending.
    pub(crate) fn slowest(&self, iterations: usize) -> Vec<f64> {
        self.over_ranks(TIMES, MAX_ITERATIONS, iterations)
    }

    /// The slowest rank's times of the pieces of the back-to-back loop.
    pub(crate) fn slowest_back_to_back(&self, pieces: usize) -> Vec<f64> {
        self.over_ranks(BACK_TO_BACK, PIECES, pieces)
    }

    fn over_ranks(&self, base: usize, stride: usize, count: usize) -> Vec<f64> {
        let time = |rank: usize, i: usize| {
            f64::from_bits(self.word(base + rank * stride + i).load(Ordering::Relaxed))
        };
        let mut times: Vec<f64> =
            (0..count).map(|i| (0..self.size).map(|r| time(r, i)).fold(0.0, f64::max)).collect();
        times.sort_by(f64::total_cmp);
        times
    }
}

pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// What this process has sent and received over TCP: shows which wire is really used.
pub(crate) fn tcp_bytes() -> f64 {
    // Where the two counters stand in the kernel's `struct tcp_info`, which libc's is too old to have.
    const ACKED: usize = 120;
    const RECEIVED: usize = 128;
    let mut sum = 0;
    for fd in 0..1024 {
        let mut info = [0u64; 32];
        let mut len = size_of_val(&info) as libc::socklen_t;
        // SAFETY: `info` has `len` bytes; a descriptor that is no TCP socket is an error and leaves it as it is.
        let failed = unsafe {
            libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
        };
        if failed == 0 {
            sum += info[ACKED / 8] + info[RECEIVED / 8];
        }
    }
    sum as f64
}

/// GB/s of one thread copying 32 MiB.
pub(crate) fn memcpy_bandwidth() -> f64 {
    let (from, mut to) = (vec![1u8; 32 << 20], vec![2u8; 32 << 20]);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begin = Instant::now();
        std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&to);
        best = best.min(begin.elapsed().as_secs_f64());
    }
    from.len() as f64 / best * 1e-9
}
