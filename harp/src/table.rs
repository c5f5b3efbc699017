//! [`Table`]: partitions by id.

use crate::array::{Array, Element};
use crate::combiner::Combiner;
use crate::error::{HarpError, Result};
use std::collections::BTreeMap;

/// What adding a partition did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The id was new.
    Inserted,
    /// It was combined with the one of that id.
    Combined,
}

/// The partitions that one rank holds, by id (`u64`), and the combiner for those that meet.
///
/// ```
/// use aeolian_harp::{Added, Max, Table};
/// let mut table = Table::<i32, Max>::new(Max);
/// assert_eq!(table.add(7, vec![1, 5])?, Added::Inserted);
/// assert_eq!(table.add(7, vec![3, 2])?, Added::Combined);
/// assert_eq!(table.get(7).unwrap().to_vec(), [3, 5]);
/// # Ok::<(), aeolian_harp::HarpError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table<T, C> {
    partitions: BTreeMap<u64, Array<T>>,
    combiner: C,
}

impl<T: Element, C: Combiner<T>> Table<T, C> {
    /// A table without partitions.
    pub fn new(combiner: C) -> Table<T, C> {
        Table { partitions: BTreeMap::new(), combiner }
    }

    /// Adds a partition; if the id is there, the new one is combined into it (and must have its length).
    pub fn add(&mut self, id: u64, data: impl Into<Array<T>>) -> Result<Added> {
        self.add_from(id, data.into(), String::new)
    }

    pub(crate) fn add_from(
        &mut self,
        id: u64,
        data: Array<T>,
        from: impl FnOnce() -> String,
    ) -> Result<Added> {
        match self.partitions.get_mut(&id) {
            None => {
                self.partitions.insert(id, data);
                Ok(Added::Inserted)
            }
            Some(have) if have.len() == data.len() => {
                self.combiner.combine(have, &data);
                Ok(Added::Combined)
            }
            Some(have) => Err(HarpError::Lengths { id, have: have.len(), came: data.len(), from: from() }),
        }
    }

    /// The partition of an id.
    pub fn get(&self, id: u64) -> Option<&Array<T>> {
        self.partitions.get(&id)
    }

    /// The partition of an id, to write.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Array<T>> {
        self.partitions.get_mut(&id)
    }

    /// Takes a partition out.
    pub fn remove(&mut self, id: u64) -> Option<Array<T>> {
        self.partitions.remove(&id)
    }

    /// Drops all partitions.
    pub fn clear(&mut self) {
        self.partitions.clear();
    }

    /// How many partitions are here.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// True without partitions.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// All partitions, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Array<T>)> {
        self.partitions.iter().map(|(id, data)| (*id, data))
    }

    /// All partitions, to write, by ascending id.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Array<T>)> {
        self.partitions.iter_mut().map(|(id, data)| (*id, data))
    }

    /// The combiner.
    pub fn combiner(&self) -> &C {
        &self.combiner
    }

    /// Puts the lower ranks' table `lower` in front of this one: `self` becomes `lower . self`.
    pub(crate) fn combine_below(&mut self, mut lower: Table<T, C>, from: u32) -> Result<()> {
        std::mem::swap(&mut self.partitions, &mut lower.partitions);
        self.combine_above(lower, from)
    }

    /// Puts the higher ranks' table behind this one: `self` becomes `self . higher`.
    pub(crate) fn combine_above(&mut self, higher: Table<T, C>, from: u32) -> Result<()> {
        for (id, data) in higher.partitions {
            self.add_from(id, data, || format!(" from rank {from}"))?;
        }
        Ok(())
    }
}
