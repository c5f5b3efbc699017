//! [`Array`]: the elements of a partition, in a buffer that a wire can take as it is.

use aeolian_net::Buf;
use bytemuck::{AnyBitPattern, NoUninit};
use std::marker::PhantomData;

/// What a partition may be made of: plain old data that any rank can read as it is.
pub trait Element: AnyBitPattern + NoUninit + Send + 'static {}

impl<T: AnyBitPattern + NoUninit + Send + 'static> Element for T {}

/// Elements in an engine-owned buffer; a slice in all that matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    buf: Buf,
    of: PhantomData<T>,
}

impl<T: Element> Array<T> {
    /// `len` zero elements.
    pub fn zeroed(len: usize) -> Array<T> {
        Array { buf: Buf::zeroed(len * size_of::<T>()), of: PhantomData }
    }

    /// The buffer with the elements' bytes.
    pub fn into_buf(self) -> Buf {
        self.buf
    }

    /// The elements of which these are the bytes.
    ///
    /// # Errors
    /// If they are not those of a whole number of elements.
    pub fn from_buf(buf: Buf) -> Result<Array<T>, String> {
        let each = size_of::<T>();
        if each > 0 && !buf.len().is_multiple_of(each) {
            return Err(format!("{} bytes of elements of {each}", buf.len()));
        }
        Ok(Array { buf, of: PhantomData })
    }
}

impl<T: Element> std::ops::Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.buf.cast()
    }
}

impl<T: Element> std::ops::DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.buf.cast_mut()
    }
}

impl<T: Element> From<&[T]> for Array<T> {
    fn from(values: &[T]) -> Array<T> {
        Array { buf: Buf::from_pod(values), of: PhantomData }
    }
}

impl<T: Element> From<Vec<T>> for Array<T> {
    fn from(values: Vec<T>) -> Array<T> {
        Array::from(&values[..])
    }
}
