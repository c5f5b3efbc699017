//! [`scatter()`]: records of one size go to few batches, many at a time.
//!
//! Record by record, what is free of a batch is read from memory to which the record before may just have written it. Here it stays in registers
//! for as many records as there is certainly room for; and where there are two batches, as with two ranks, no branch and no address depends on
//! where a record goes: it is written to both, and moves one of them on.

use crate::batch::{self, width};
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
    // (No room is enough for records of which that is not known.)
    let size = width::<T>().unwrap_or(usize::MAX);
    let room = free.iter().map(Free::left).min().unwrap_or(0) / size;
    let mut refused = None;
    match free {
        [low, high] if size <= SHORT => {
            let (mut x, mut y) = (low.at(), high.at());
            for record in records.by_ref().take(room) {
                let slot = slot_of(&record);
                // SAFETY: each has room for as many records as are taken, so also for this one, whichever those before it went to.
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

/// Whether a record could be written.
///
/// # Safety
/// Its bytes there are of a batch that nobody else looks at.
#[inline(always)]
unsafe fn write<T: Record>(record: &T, at: *mut u8) -> bool {
    // SAFETY: by the caller.
    let place = unsafe { std::slice::from_raw_parts_mut(at, width::<T>().unwrap_or(0)) };
    batch::put(record, &mut Writer::new(place, 0)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use aeolian_net::Buf;
    use proptest::prelude::*;
    use std::fmt::Debug;

    /// Records of these slots go to batches with so many bytes free: those before the first that is refused are where they belong, in order.
    fn check<T: Record + Clone + PartialEq + Debug>(records: &[(u32, T)], bytes: &[usize]) {
        let mut batches: Vec<Buf> = bytes.iter().map(|n| Buf::zeroed(*n)).collect();
        // SAFETY: nobody looks at the batches as long as they are written to.
        let mut free: Vec<Free> = batches.iter_mut().map(|batch| unsafe { Free::of(batch, 0) }).collect();
        let mut slots = records.iter().map(|(slot, _)| *slot);
        let mut given = records.iter().map(|(_, record)| record.clone());
        let refused = scatter(&mut free, &mut given, |_| slots.next().unwrap());
        let taken = records.len() - given.len() - usize::from(refused.is_some());
        assert_eq!((refused.as_ref(), slots.len()), (records.get(taken), given.len()));
        let room = bytes.iter().min().unwrap() / width::<T>().unwrap();
        let most = if bytes.len() > FEW { 0 } else { room.min(records.len()) };
        let is_wrong =
            |(slot, record): &(u32, T)| *slot as usize >= bytes.len() || record.size() == usize::MAX;
        assert!(taken == most || taken < most && refused.as_ref().is_some_and(is_wrong));
        for (slot, (batch, free)) in (0..).zip(batches.iter().zip(free)) {
            let came =
                Batch::<T>::new(Buf::from_slice(&batch[..batch.len() - free.left()]), Default::default());
            let want =
                records[..taken].iter().filter(|(to, _)| *to == slot).map(|(_, record)| record.clone());
            assert_eq!(came.collect::<Vec<_>>(), want.collect::<Vec<_>>());
        }
    }

    /// A number of which seven cannot be written.
    #[derive(Debug, Clone, PartialEq)]
    struct Picky(u16);

    impl Record for Picky {
        const SIZE: Option<usize> = Some(2);

        fn size(&self) -> usize {
            if self.0 == 7 { usize::MAX } else { 2 }
        }

        fn put(&self, out: &mut Writer<'_>) -> Option<()> {
            if self.0 == 7 { None } else { self.0.put(out) }
        }

        fn get(input: &mut crate::record::Reader<'_>) -> Option<Picky> {
            u16::get(input).map(Picky)
        }
    }

    proptest! {
        #[test]
        fn as_one_by_one(
            bytes in prop::collection::vec(0usize..600, 1..=FEW + 1),
            records in prop::collection::vec((any::<prop::sample::Index>(), 0u16..20), 0..200),
            is_astray in prop::bool::weighted(0.1),
        ) {
            let targets = bytes.len() + usize::from(is_astray);
            let records = records.iter().map(|(slot, x)| (slot.index(targets) as u32, *x));
            check(&records.clone().map(|(slot, x)| (slot, (u64::from(x), f64::from(x)))).collect::<Vec<_>>(), &bytes);
            check(&records.clone().map(|(slot, x)| (slot, (x as u8, x))).collect::<Vec<_>>(), &bytes);
            check(&records.clone().map(|(slot, x)| (slot, [x; 20])).collect::<Vec<_>>(), &bytes);
            check(&records.clone().map(|(slot, _)| (slot, ())).collect::<Vec<_>>(), &bytes);
            check(&records.map(|(slot, x)| (slot, Picky(x))).collect::<Vec<_>>(), &bytes);
        }
    }

    #[test]
    fn batches_are_filled_to_their_last_byte() {
        let records: Vec<(u32, u64)> = (0..8).map(|i| (i as u32 % 2, i)).collect();
        let mut batches = [Buf::zeroed(32), Buf::zeroed(32)];
        // SAFETY: as above.
        let mut free = batches.each_mut().map(|batch| unsafe { Free::of(batch, 0) });
        let mut given = records.iter().map(|(_, record)| *record);
        let slot = |record: &u64| *record as u32 % 2;
        let mut refused = Vec::new();
        while let Some((slot, record)) = scatter(&mut free, &mut given, slot) {
            assert!(free[slot as usize].put(&record));
            refused.push(record);
        }
        assert_eq!((refused.len() < 4, free.map(|free| free.left())), (true, [0, 0]));
        assert_eq!(
            (batches[0].cast::<u64>(), batches[1].cast::<u64>()),
            (&[0, 2, 4, 6][..], &[1, 3, 5, 7][..])
        );
    }
}
