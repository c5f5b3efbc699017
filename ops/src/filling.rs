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
        let most = T::SIZE.map_or(self.left, |size| size.max(1));
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
        let len = T::SIZE.map_or(record.len(), |size| size.max(1));
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
