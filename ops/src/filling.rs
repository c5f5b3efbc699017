//! [`Filling`]: a batch that is being filled, and [`Free`]: what is free of it.

use crate::batch;
use crate::error::{Result, Whose};
use crate::prefetch;
use crate::record::{Record, Writer};
use aeolian_net::Buf;

/// A record that cannot be written: its `Serialize` refuses, or it is longer than its [`Record::size`] says.
#[derive(Debug)]
pub(crate) struct Unwritable;

/// A fresh batch of `most` bytes, or more if it must be, with this record in it; and how many bytes that takes.
pub(crate) fn begin<T: Record>(record: &T, most: usize) -> std::result::Result<(Buf, usize), Unwritable> {
    let size = batch::size(record);
    // (What cannot be written at all has no size.)
    if size == usize::MAX {
        return Err(Unwritable);
    }
    let mut bytes = Buf::private(most.max(size));
    let mut writer = Writer::new(&mut bytes, 0);
    batch::put(record, &mut writer).ok_or(Unwritable)?;
    let filled = writer.position();
    Ok((bytes, filled))
}

/// What is free of a batch: where its next record goes. (Of one of many slots it is two words, which lie together with those of the others, and
/// writing a record looks at nothing else.)
pub(crate) struct Free {
    at: *mut u8,
    left: usize,
}

impl Free {
    /// Of no batch.
    pub(crate) const NONE: Free = Free { at: std::ptr::NonNull::dangling().as_ptr(), left: 0 };

    /// Of a batch whose first bytes are filled.
    ///
    /// # Safety
    /// It may be written to only as long as the batch is neither dropped nor borrowed since.
    pub(crate) unsafe fn of(batch: &mut Buf, filled: usize) -> Free {
        let free = &mut batch[filled..];
        Free { at: free.as_mut_ptr(), left: free.len() }
    }

    /// Bytes that are left.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Where its first byte is.
    pub(crate) fn at(&self) -> *mut u8 {
        self.at
    }

    /// What is before `at` is written.
    ///
    /// # Safety
    /// It was free.
    pub(crate) unsafe fn move_to(&mut self, at: *mut u8) {
        self.left -= at as usize - self.at as usize;
        self.at = at;
    }

    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        // SAFETY: `left` bytes from `at` on are a batch's, which nobody else looks at, by the contract of `of`.
        (len <= self.left).then(|| unsafe { std::slice::from_raw_parts_mut(self.at, len) })
    }

    #[inline]
    fn advance(&mut self, len: usize) {
        self.at = self.at.wrapping_add(len);
        self.left -= len;
        // A record of one of many slots comes to a line that no cache has, and each store would wait for it in turn.
        prefetch::to_write(self.at.wrapping_add(2 * prefetch::LINE));
    }

    /// Takes a record if there is room for it.
    #[inline(always)]
    pub(crate) fn put<T: Record>(&mut self, record: &T) -> bool {
        // Of records of one size the room is looked at once, not for each of their parts.
        let most = batch::width::<T>().unwrap_or(self.left);
        let Some(room) = self.room(most) else { return false };
        let mut writer = Writer::new(room, 0);
        let is_written = batch::put(record, &mut writer).is_some();
        let len = writer.position();
        if is_written {
            self.advance(len);
        }
        is_written
    }

    /// The same for the bytes of a record.
    #[inline(always)]
    pub(crate) fn put_bytes<T: Record>(&mut self, record: &[u8]) -> bool {
        // (Of records of one size the compiler knows how much is copied.)
        let len = batch::width::<T>().unwrap_or(record.len());
        match (self.room(len), record.get(..len)) {
            (Some(room), Some(record)) => {
                room.copy_from_slice(record);
                self.advance(len);
                true
            }
            _ => false,
        }
    }
}

/// A batch that is being filled.
pub(crate) struct Filling {
    bytes: Buf,
    free: Free,
    most: usize,
}

impl Filling {
    /// Of about `most` bytes; a record that is longer has one of its own.
    pub(crate) fn new(most: usize) -> Filling {
        Filling { bytes: Buf::empty(), free: Free::NONE, most }
    }

    /// Takes a record, and returns the batch that it did not fit into.
    #[inline]
    pub(crate) fn put<T: Record>(&mut self, record: &T) -> std::result::Result<Option<Buf>, Unwritable> {
        match self.free.put(record) {
            true => Ok(None),
            false => self.put_into_another(record),
        }
    }

    /// The same; only if the batch is full anything is called with the record, and by value ([`Exchange::put_own`](crate::exchange::Exchange::put_own)
    /// says why).
    #[inline(always)]
    pub(crate) fn put_own<T: Record>(&mut self, record: T) -> std::result::Result<Option<Buf>, Unwritable> {
        match self.free.put(&record) {
            true => Ok(None),
            false => self.put_own_into_another(record),
        }
    }

    #[cold]
    fn put_own_into_another<T: Record>(&mut self, record: T) -> std::result::Result<Option<Buf>, Unwritable> {
        self.put_into_another(&record)
    }

    #[cold]
    fn put_into_another<T: Record>(&mut self, record: &T) -> std::result::Result<Option<Buf>, Unwritable> {
        let (bytes, filled) = begin(record, self.most)?;
        let full = self.finish();
        self.bytes = bytes;
        // SAFETY: whatever takes or looks at the batch goes by `finish`, which takes it away from `free` first.
        self.free = unsafe { Free::of(&mut self.bytes, filled) };
        Ok(full)
    }

    /// Takes what `next` gives until a batch is full, and returns that; or what there is of one, when there is no more.
    #[inline]
    pub(crate) fn fill<T: Record>(
        &mut self,
        whose: &Whose,
        mut next: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<Buf>> {
        while let Some(record) = next()? {
            if let Some(full) = self.put_own(record).map_err(|_| whose.unwritable::<T>())? {
                return Ok(Some(full));
            }
        }
        Ok(self.finish())
    }

    /// What is in it, if anything is; nothing is left.
    pub(crate) fn finish(&mut self) -> Option<Buf> {
        let free = std::mem::replace(&mut self.free, Free::NONE);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(bytes.len() - free.left());
        (!bytes.is_empty()).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;

    #[test]
    fn batches_are_filled_to_their_last_byte() {
        let mut filling = Filling::new(24);
        let mut full: Vec<Buf> = (0..7u64).filter_map(|i| filling.put(&i).unwrap()).collect();
        assert_eq!(full.iter().map(|b| b.len()).collect::<Vec<_>>(), [24, 24]);
        full.extend(filling.finish());
        assert!(filling.finish().is_none());
        let records = full.into_iter().flat_map(|bytes| Batch::<u64>::new(bytes, Default::default()));
        assert_eq!(records.collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn a_record_that_is_longer_has_a_batch_of_its_own() {
        let mut filling = Filling::new(8);
        let words = ["a", "", "a word of more than eight bytes", "b"].map(String::from);
        let mut full: Vec<Buf> = Vec::new();
        for word in &words {
            full.extend(filling.put_own(word.clone()).unwrap());
        }
        full.extend(filling.finish());
        assert_eq!(full.len(), 3);
        let records = full.into_iter().flat_map(|bytes| Batch::<String>::new(bytes, Default::default()));
        assert_eq!(records.collect::<Vec<_>>(), words);
    }

    #[test]
    fn nothing_goes_into_no_batch() {
        let mut none = Free::NONE;
        assert!(!none.put(&1u8) && !none.put(&String::from("a")) && !none.put_bytes::<u16>(&[1, 2]));
        let mut bytes = Buf::private(3);
        // SAFETY: nobody else looks at the batch while it is written to.
        let mut free = unsafe { Free::of(&mut bytes, 0) };
        assert!(free.put(&7u16) && !free.put(&8u16) && free.put(&9u8) && !free.put(&1u8));
        // Bytes of a record that is shorter than it says are none.
        assert_eq!((free.left(), free.put_bytes::<u16>(&[1])), (0, false));
        assert_eq!((bytes[..2] == 7u16.to_ne_bytes(), bytes[2]), (true, 9));
    }
}
