//! Copying, around a slow path of processors.
//!
//! Where the destination begins 1 to 31 bytes after the source, counted within a page of 4 KiB, a long copy takes AMD's processors of the day (Zen 3 and
//! 4, `rep movsb`, by which the C library and the kernel copy) 5 to 20 times as long; others lose by it too, because each load seems to need the store before it. It is no rare
//! case: the C library puts a long `Vec` 16 bytes into a page, and our own buffers begin with one. Two copies within the first-level cache are faster.

use std::hint::black_box;
use std::mem::MaybeUninit;

/// Shorter copies are made by other instructions.
const LONG: usize = 2 << 10;

const PAGE: usize = 4 << 10;

/// Whether a copy of so many bytes from there to there is a slow one.
pub(crate) fn is_slow(from: usize, to: usize, len: usize) -> bool {
    len >= LONG && (1..32).contains(&(to.wrapping_sub(from) % PAGE))
}

/// How far into a buffer, which begins at `at`, a copy from `from` is a fast one, and one onwards to where it is slow to copy from there.
pub(crate) fn detour(from: usize, at: usize) -> usize {
    from.wrapping_add(PAGE / 2).wrapping_sub(at) % PAGE
}

/// `to` becomes `from`, which is as long.
///
/// # Panics
/// If it is not.
#[inline]
pub fn copy(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "copies are as long as what they are copies of");
    // SAFETY: both are so long, and what is borrowed exclusively is not the other.
    unsafe { copy_raw(from.as_ptr(), to.as_mut_ptr(), from.len()) }
}

/// As [`std::ptr::copy_nonoverlapping`].
///
/// # Safety
/// As there.
#[inline]
pub(crate) unsafe fn copy_raw(from: *const u8, to: *mut u8, len: usize) {
    match is_slow(from as usize, to as usize, len) {
        // SAFETY: by this function's contract.
        true => unsafe { by_detour(from, to, len) },
        // SAFETY: as above.
        false => unsafe { std::ptr::copy_nonoverlapping(from, to, len) },
    }
}

#[cold]
unsafe fn by_detour(from: *const u8, to: *mut u8, len: usize) {
    let mut room = [MaybeUninit::<u8>::uninit(); 2 * PAGE];
    let start = detour(from as usize, room.as_ptr() as usize);
    let between = room[start..start + PAGE].as_mut_ptr().cast::<u8>();
    for at in (0..len).step_by(PAGE) {
        let n = PAGE.min(len - at);
        // SAFETY: `at + n <= len`, and `between` has room for a page.
        unsafe {
            std::ptr::copy_nonoverlapping(from.add(at), between, n);
            // Else the compiler sees through it, and makes one copy of the two.
            std::ptr::copy_nonoverlapping(black_box(between).cast_const(), to.add(at), n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_and_length() {
        let from: Vec<u8> = (0..5 * PAGE).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut room = vec![0; 8 * PAGE];
        for ahead in [0, 1, 16, 31, 32, 4095] {
            for len in [0, 1, LONG - 1, LONG, PAGE, PAGE + 1, 3 * PAGE - 7] {
                let at =
                    (from.as_ptr() as usize).wrapping_add(ahead).wrapping_sub(room.as_ptr() as usize) % PAGE;
                room.fill(0);
                copy(&from[..len], &mut room[at..at + len]);
                assert_eq!(room[at..at + len], from[..len], "{len} bytes, {ahead} ahead");
                assert!(room[..at].iter().chain(&room[at + len..]).all(|&b| b == 0));
                let slow = is_slow(from.as_ptr() as usize, room[at..].as_ptr() as usize, len);
                assert_eq!(slow, len >= LONG && (1..32).contains(&ahead));
            }
        }
    }
}
