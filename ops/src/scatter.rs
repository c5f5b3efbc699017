//! [`scatter()`]: records of one size go to few batches, many at a time.
//!
//! Record by record, what is free of a batch is read from memory to which the record before may just have written it. Here it stays in registers
//! for as many records as there is certainly room for; and where there are two batches, as with two ranks, no branch and no address depends on
//! where a record goes: it is written to both, and moves one of them on.

use crate::batch;
use crate::filling::Free;
use crate::record::{Record, Writer};

/// Of more batches there is nearly always one that is almost full.
const FEW: usize = 8;

/// Longer records are not written to both of two batches.
const SHORT: usize = 32;

/// Whether this is the way for records of this type and so many batches.
pub(crate) const fn suits<T: Record>(slots: usize) -> bool {
    T::SIZE.is_some() && slots <= FEW
}

/// Puts records into the batches of `slot_of`, as long as there is certainly room. Returns the first that there may be no room for, or that cannot be
/// written, with its slot; `None` if all are in.
#[inline]
pub(crate) fn scatter<T: Record>(
    free: &mut [Free],
    records: &mut impl Iterator<Item = T>,
    mut slot_of: impl FnMut(&T) -> u32,
) -> Option<(u32, T)> {
    let size = width::<T>();
    // (The last one is written to both of two batches, too.)
    let room = free.iter().map(Free::left).min().unwrap_or(0) / size;
    let mut refused = None;
    match free {
        [low, high] if size <= SHORT => {
            let (mut x, mut y) = (low.at(), high.at());
            for record in records.by_ref().take(room) {
                let slot = slot_of(&record);
                // SAFETY: there is room for as many records in each.
                if slot > 1 || unsafe { !write(&record, x) || !write(&record, y) } {
                    refused = Some((slot, record));
                    break;
                }
                let high = slot as usize;
                x = x.wrapping_add(size & high.wrapping_sub(1));
                y = y.wrapping_add(size & high.wrapping_neg());
            }
            // SAFETY: each of the records has moved one of them on.
            unsafe {
                low.move_to(x);
                high.move_to(y);
            }
        }
        free if free.len() <= FEW => {
            let mut at = [std::ptr::null_mut(); FEW];
            at.iter_mut().zip(&*free).for_each(|(at, free)| *at = free.at());
            let slots = &mut at[..free.len()];
            for record in records.by_ref().take(room) {
                let slot = slot_of(&record);
                match slots.get_mut(slot as usize) {
                    // SAFETY: as above.
                    Some(at) if unsafe { write(&record, *at) } => *at = at.wrapping_add(size),
                    _ => {
                        refused = Some((slot, record));
                        break;
                    }
                }
            }
            // SAFETY: as above.
            free.iter_mut().zip(at).for_each(|(free, at)| unsafe { free.move_to(at) });
        }
        _ => {}
    }
    refused.or_else(|| records.next().map(|record| (slot_of(&record), record)))
}

/// Bytes of a record in a batch.
const fn width<T: Record>() -> usize {
    match T::SIZE {
        Some(0) => 1,
        Some(size) => size,
        None => usize::MAX,
    }
}

/// Whether a record could be written.
///
/// # Safety
/// Its bytes there are of a batch that nobody else looks at.
#[inline(always)]
unsafe fn write<T: Record>(record: &T, at: *mut u8) -> bool {
    // SAFETY: by the caller.
    let place = unsafe { std::slice::from_raw_parts_mut(at, width::<T>()) };
    batch::put(record, &mut Writer::new(place, 0)).is_some()
}
