//! [`Filling`]: a batch that is being filled.

use crate::batch;
use crate::record::{Record, Writer};
use aeolian_net::Buf;

/// A record that cannot be written: its `Serialize` refuses, or it is longer than its [`Record::size`] says.
#[derive(Debug)]
pub(crate) struct Unwritable;

/// A fresh batch of `most` bytes, or more if it must be, with this record in it; and how many bytes that takes.
pub(crate) fn begin<T: Record>(record: &T, most: usize) -> Result<(Buf, usize), Unwritable> {
    let size = batch::size(record);
    // (What cannot be written at all has no size.)
    if size == usize::MAX {
        return Err(Unwritable);
    }
    let mut bytes = Buf::stale(most.max(size));
    let mut writer = Writer::new(&mut bytes, 0);
    batch::put(record, &mut writer).ok_or(Unwritable)?;
    let filled = writer.position();
    Ok((bytes, filled))
}

/// A batch that is being filled.
pub(crate) struct Filling {
    bytes: Buf,
    filled: usize,
    most: usize,
}

impl Filling {
    /// Of about `most` bytes; a record that is longer has one of its own.
    pub(crate) fn new(most: usize) -> Filling {
        Filling { bytes: Buf::empty(), filled: 0, most }
    }

    /// Takes a record, and returns the batch that it did not fit into.
    #[inline]
    pub(crate) fn put<T: Record>(&mut self, record: &T) -> Result<Option<Buf>, Unwritable> {
        // Of records of one size the room is looked at once, not for each of their parts.
        if let Some(size) = T::SIZE.map(|size| size.max(1)) {
            if let Some(place) = self.bytes.get_mut(self.filled..self.filled + size)
                && batch::put(record, &mut Writer::new(place, 0)).is_some()
            {
                self.filled += size;
                return Ok(None);
            }
        } else {
            let mut writer = Writer::new(&mut self.bytes, self.filled);
            if batch::put(record, &mut writer).is_some() {
                self.filled = writer.position();
                return Ok(None);
            }
        }
        self.put_into_another(record)
    }

    #[cold]
    fn put_into_another<T: Record>(&mut self, record: &T) -> Result<Option<Buf>, Unwritable> {
        let (bytes, filled) = begin(record, self.most)?;
        let full = self.finish();
        (self.bytes, self.filled) = (bytes, filled);
        Ok(full)
    }

    /// What is in it, if anything is; nothing is left.
    pub(crate) fn finish(&mut self) -> Option<Buf> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(std::mem::take(&mut self.filled));
        (!bytes.is_empty()).then_some(bytes)
    }
}
