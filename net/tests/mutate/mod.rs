//! Damaged input for decoders, the same for the same seed, and how much memory a decoder takes for it.
//!
//! `MUTATION_SEED` repeats what a failure tells of.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Damaged inputs that a decoder is given.
const INPUTS: u64 = 20_000;
/// A decoder may take this for any input (`serde` reserves up to 1 MiB for a list whose length it has only been told), ...
const FLOOR: usize = 2 << 20;
/// ... and this for each byte of it.
const FACTOR: usize = 64;

/// Random numbers by splitmix64.
pub struct Rng(u64);

impl Rng {
    /// With the seed that was asked for, or another one for each run, which is printed.
    pub fn seeded(what: &str) -> Rng {
        let given = std::env::var("MUTATION_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        println!("{what}: MUTATION_SEED={seed}");
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A number that lengths are not, as a fixed word or a varint.
fn huge(rng: &mut Rng) -> Vec<u8> {
    let near =
        [u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 48, (1 << 48) + 1, 1 << 32, u64::from(u32::MAX), 1 << 20, 0];
    let number = near[rng.below(near.len())].wrapping_add(rng.next() % 3);
    match rng.below(4) {
        0 => number.to_le_bytes().to_vec(),
        1 => (number as u32).to_le_bytes().to_vec(),
        2 => (number as u16).to_le_bytes().to_vec(),
        _ => {
            let (mut rest, mut bytes) = (number, Vec::new());
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
            bytes
        }
    }
}

/// `good` with one to three damages.
pub fn damaged(rng: &mut Rng, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len());
        match rng.below(7) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            2 if !bytes.is_empty() => bytes[at] = rng.next() as u8,
            // A length is replaced: over what is there, ...
            3 => {
                let number = huge(rng);
                let end = (at + number.len()).min(bytes.len());
                bytes.splice(at..end, number);
            }
            // ... or in place of one byte, which is most varints.
            4 => {
                let number = huge(rng);
                let end = (at + 1).min(bytes.len());
                bytes.splice(at..end, number);
            }
            5 => bytes.extend((0..rng.below(40)).map(|_| rng.next() as u8)),
            _ => {
                let piece = bytes[at..(at + rng.below(24)).min(bytes.len())].to_vec();
                let to = rng.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

/// Gives `decode` each of the good inputs, which must be fine, and many damaged ones: it says what is wrong if it came to something that it must
/// not, panics nowhere, and takes memory by what came, not by what was announced.
pub fn withstands(what: &str, good: &[Vec<u8>], decode: impl FnMut(&[u8]) -> Result<bool, String>) {
    withstands_some(INPUTS, what, good, decode);
}

/// As [`withstands`], so many damaged inputs: for decoders that take long.
pub fn withstands_some(
    inputs: u64,
    what: &str,
    good: &[Vec<u8>],
    mut decode: impl FnMut(&[u8]) -> Result<bool, String>,
) {
    let mut rng = Rng::seeded(what);
    let seed = rng.0;
    for bytes in good {
        assert_eq!(decode(bytes), Ok(true), "{what} of its own making");
    }
    let mut refused = 0;
    for round in 0..inputs {
        let which = rng.below(good.len());
        let bytes = damaged(&mut rng, &good[which]);
        match within_memory(&bytes, &mut decode) {
            Ok(fine) => refused += u64::from(!fine),
            Err(e) => {
                let shown = &bytes[..bytes.len().min(400)];
                panic!("{what}, seed {seed}, input {round} ({} bytes {shown:02x?}): {e}", bytes.len());
            }
        }
    }
    assert!(
        refused > inputs / 10,
        "{what}, seed {seed}: only {refused} damaged inputs of {inputs} were refused"
    );
}

/// What `decode` says of any input, or that it took more memory than that is worth.
pub fn within_memory(
    bytes: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<bool, String>,
) -> Result<bool, String> {
    let (outcome, peak) = peak_of(|| decode(bytes));
    if peak > FLOOR + FACTOR * bytes.len() {
        return Err(format!("{peak} bytes of memory"));
    }
    outcome
}

/// Counts what the thread has from the heap.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no counters any more, and nobody who asks.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK.try_with(|peak| peak.set(peak.get().max(live.get())))
    });
}

// SAFETY: all is done by the system's allocator, as it was asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let at = unsafe { System.alloc(layout) };
        // What the system refuses costs nothing.
        if !at.is_null() {
            count(layout.size() as isize);
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most heap that `work` had at a time, beyond what there was before.
fn peak_of<R>(work: impl FnOnce() -> R) -> (R, usize) {
    let before = LIVE.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let result = work();
    (result, (PEAK.with(Cell::get) - before) as usize)
}
