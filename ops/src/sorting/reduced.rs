//! [`Reduced`]: sorted pairs, those of the same key as one.

use super::by::Together;
use super::sorter::Sorted;
use crate::batch;
use crate::error::{Result, Whose};
use crate::key::Key;
use crate::record::{Reader, Record};

pub(crate) struct Reduced<K: Key, V: Record> {
    sorted: Sorted<Together<K, V>>,
    /// The first pair of the next key, which was read to know that the one before had no more.
    ahead: Option<(K, V)>,
    whose: Whose,
}

impl<K: Key, V: Record> Reduced<K, V> {
    pub(crate) fn new(sorted: Sorted<Together<K, V>>, whose: Whose) -> Reduced<K, V> {
        Reduced { sorted, ahead: None, whose }
    }

    /// The next pair as it was inserted.
    fn read(&mut self) -> Result<Option<(K, V)>> {
        let Some(bytes) = self.sorted.peek() else { return Ok(None) };
        let damaged = || self.whose.unreadable::<(K, V)>("a batch");
        let pair = batch::get(&mut Reader::new(bytes)).ok_or_else(damaged)?;
        self.sorted.advance()?;
        Ok(Some(pair))
    }

    /// The next one.
    pub(crate) fn next(&mut self, combine: &mut dyn FnMut(&mut V, V)) -> Result<Option<(K, V)>> {
        let first = match self.ahead.take() {
            None => self.read()?,
            ahead => ahead,
        };
        let Some((key, mut value)) = first else { return Ok(None) };
        while let Some((next, more)) = self.read()? {
            if !next.same(&key) {
                self.ahead = Some((next, more));
                break;
            }
            combine(&mut value, more);
        }
        Ok(Some((key, value)))
    }
}
