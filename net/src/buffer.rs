//! [`Buf`]: the bytes of a message or a partition, owned by whoever holds them.
//!
//! A buffer is handed to a send and comes back from a receive: nothing in user code borrows memory that a wire is
//! using. It starts on a 64-byte boundary, so any plain-old-data slice can be viewed in place ([`Buf::cast`]).
//! Large buffers come from the rank's pool (`pool`), which the ranks of its node can read; their pages exist only once touched, so
//! making one for a message that a peer has announced costs memory only as its bytes arrive.

use crate::pool::{Block, Fill, Kind, POOL_FROM};
use bytemuck::{AnyBitPattern, NoUninit};

pub use crate::copying::copy;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: 64 plain bytes without padding; every bit pattern is valid.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above, `Copy`, `repr(C)`, no interior mutability.
unsafe impl bytemuck::Pod for Line {}

enum Store {
    Heap(Vec<Line>),
    Pool(Block),
}

/// Owned, 64-byte aligned bytes.
///
/// ```
/// use aeolian_net::Buf;
/// let mut b = Buf::from_pod(&[1.5f64, 2.5]);
/// b.cast_mut::<f64>()[0] += 1.0;
/// assert_eq!(b.cast::<f64>(), &[2.5, 2.5]);
/// assert_eq!(b.len(), 16);
/// ```
pub struct Buf {
    store: Store,
    len: usize,
}

impl Buf {
    /// No bytes, no allocation.
    pub const fn empty() -> Buf {
        Buf { store: Store::Heap(Vec::new()), len: 0 }
    }

    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Buf {
        Buf::filled(len, Fill::Zero, Kind::Shared)
    }

    /// `len` bytes of any value: zeros, or what a buffer of before has left. For those that are written over as a whole: what
    /// they cost is then paid once.
    pub fn stale(len: usize) -> Buf {
        Buf::filled(len, Fill::Stale, Kind::Shared)
    }

    /// The same of memory that no other rank can read, in large pages where the system has them: for what is sent as a message, or stays here.
    /// (A collective copies it where it could read a neighbour's buffer.)
    pub fn private(len: usize) -> Buf {
        Buf::filled(len, Fill::Stale, Kind::Private)
    }

    fn filled(len: usize, fill: Fill, kind: Kind) -> Buf {
        if len >= POOL_FROM {
            // What the system refuses (limits) is tried once more on the heap, whose failure aborts with the size.
            if let Ok(block) = Block::new(len, fill, kind) {
                return Buf { store: Store::Pool(block), len };
            }
        }
        Buf { store: Store::Heap(vec![Line([0; 64]); len.div_ceil(64)]), len }
    }

    /// `len` bytes of any value, for a message that a peer has announced; `None` if the system has no room for so many, which a damaged
    /// header may ask for.
    pub(crate) fn announced(len: u64, kind: Kind) -> Option<Buf> {
        let len = usize::try_from(len).ok()?;
        if len >= POOL_FROM {
            if let Ok(block) = Block::new(len, Fill::Stale, kind) {
                return Some(Buf { store: Store::Pool(block), len });
            }
            Vec::<Line>::new().try_reserve_exact(len.div_ceil(64)).ok()?;
        }
        Some(Buf::stale(len))
    }

    /// The block of the shared pool that it lies in, if it does.
    pub(crate) fn block(&self) -> Option<&Block> {
        match &self.store {
            Store::Heap(_) => None,
            Store::Pool(block) => (block.kind() == Kind::Shared).then_some(block),
        }
    }

    /// A copy of `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Buf {
        Buf::copied(bytes, Kind::Shared)
    }

    fn copied(bytes: &[u8], kind: Kind) -> Buf {
        let mut buf = Buf::filled(bytes.len(), Fill::Stale, kind);
        copy(bytes, &mut buf);
        buf
    }

    /// A copy of plain-old-data values.
    pub fn from_pod<T: NoUninit>(values: &[T]) -> Buf {
        Buf::from_slice(bytemuck::cast_slice(values))
    }

    /// Shortens to `len` bytes; longer than now is left as it is.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes seen as values of `T`; a tail shorter than one value is left out.
    ///
    /// Types that want more than 64-byte alignment do not exist among plain-old-data types.
    pub fn cast<T: AnyBitPattern>(&self) -> &[T] {
        let whole = self.len - self.len % size_of::<T>().max(1);
        bytemuck::cast_slice(&self[..whole])
    }

    /// As [`Buf::cast`], to write.
    pub fn cast_mut<T: AnyBitPattern + NoUninit>(&mut self) -> &mut [T] {
        let whole = self.len - self.len % size_of::<T>().max(1);
        bytemuck::cast_slice_mut(&mut self[..whole])
    }
}

impl std::ops::Deref for Buf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.store {
            Store::Heap(lines) => &bytemuck::cast_slice(lines)[..self.len],
            Store::Pool(block) => &block.bytes()[..self.len],
        }
    }
}

impl std::ops::DerefMut for Buf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.store {
            Store::Heap(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Store::Pool(block) => &mut block.bytes_mut()[..self.len],
        }
    }
}

impl Default for Buf {
    fn default() -> Buf {
        Buf::empty()
    }
}

impl Clone for Buf {
    fn clone(&self) -> Buf {
        let kind = match &self.store {
            Store::Heap(_) => Kind::Shared,
            Store::Pool(block) => block.kind(),
        };
        Buf::copied(self, kind)
    }
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf({} bytes)", self.len)
    }
}

impl PartialEq for Buf {
    fn eq(&self, other: &Buf) -> bool {
        self[..] == other[..]
    }
}

impl From<&[u8]> for Buf {
    fn from(bytes: &[u8]) -> Buf {
        Buf::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_is_aligned_zeroed_and_castable() {
        for len in [0, 1, 7, 8, 63, 64, 65, 4096, POOL_FROM - 1, POOL_FROM, POOL_FROM + 5] {
            let mut b = Buf::zeroed(len);
            assert_eq!(b.len(), len);
            assert!(b.iter().all(|&x| x == 0));
            assert_eq!(b.as_ptr() as usize % 64, 0);
            assert_eq!(b.cast::<u64>().len(), len / 8);
            b.cast_mut::<u64>().fill(7);
            b.truncate(len / 2);
            assert_eq!(b.len(), len / 2);
        }
    }

    #[test]
    fn private_ones_are_seen_by_nobody_and_so_are_their_copies() {
        for len in [POOL_FROM, 100_000, 40 << 20] {
            let mut private = Buf::private(len);
            private.fill(3);
            assert_eq!((private.len(), private.as_ptr() as usize % 64), (len, 0));
            let copy = private.clone();
            assert!(private.block().is_none() && copy.block().is_none() && copy == private);
            assert!(Buf::stale(len).block().is_some());
        }
        assert!(Buf::private(0).is_empty());
    }
}
