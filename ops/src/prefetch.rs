//! Telling the processor what memory is about to be touched.

/// Bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

/// This line is about to be written. It may be anywhere.
#[inline(always)]
pub(crate) fn to_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program sees, and does not fault, wherever it points. (Processors without this one take it for nothing.)
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
