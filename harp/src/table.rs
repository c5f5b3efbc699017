//! [`Table`]: partitions by id.

use crate::call::fingerprint;
use crate::check;
use crate::combiner::Combiner;
use crate::data::Data;
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

/// Partitions on their way, with their ids, ascending.
pub(crate) type Parts<D> = Vec<(u64, <D as Data>::Part)>;

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
pub struct Table<D: Data, C> {
    partitions: BTreeMap<u64, D::Part>,
    combiner: C,
    /// Fingerprint of the names of element type and combiner.
    names: u32,
}

impl<D: Data, C: Combiner<D::Unit>> Table<D, C> {
    /// A table without partitions.
    pub fn new(combiner: C) -> Table<D, C> {
        let names = fingerprint(&[D::name().as_bytes(), combiner.name().as_bytes()]);
        Table { partitions: BTreeMap::new(), combiner, names }
    }

    /// Another one without partitions, with the same combiner.
    pub fn like(&self) -> Table<D, C> {
        Table::new(self.combiner.clone())
    }

    /// Adds a partition; if the id is there, the new one is combined into it (and must have its length).
    pub fn add(&mut self, id: u64, data: impl Into<D::Part>) -> Result<Added> {
        self.add_from(id, data.into(), None)
    }

    pub(crate) fn add_from(&mut self, id: u64, data: D::Part, from: Option<u32>) -> Result<Added> {
        match self.partitions.get_mut(&id) {
            None => {
                self.partitions.insert(id, data);
                Ok(Added::Inserted)
            }
            Some(have) if D::len(have) == D::len(&data) => {
                self.combiner.combine(D::unit_mut(have), D::unit(&data));
                Ok(Added::Combined)
            }
            Some(have) => Err(HarpError::Lengths { id, have: D::len(have), came: D::len(&data), from }),
        }
    }

    /// Puts a partition in the place of what was there, which is returned.
    pub fn insert(&mut self, id: u64, data: impl Into<D::Part>) -> Option<D::Part> {
        self.partitions.insert(id, data.into())
    }

    /// Calls `function` for every partition, by ascending id: Harp's partition function.
    ///
    /// ```
    /// use aeolian_harp::{Sum, Table};
    /// let mut table = Table::<f64, Sum>::new(Sum);
    /// table.add(4, vec![1.0, 2.0])?;
    /// table.apply(|id, values| values.iter_mut().for_each(|v| *v *= id as f64));
    /// assert_eq!(table.get(4).unwrap()[..], [4.0, 8.0]);
    /// # Ok::<(), aeolian_harp::HarpError>(())
    /// ```
    pub fn apply(&mut self, mut function: impl FnMut(u64, &mut D::Unit)) {
        self.partitions.iter_mut().for_each(|(id, part)| function(*id, D::unit_mut(part)));
    }

    /// The partition of an id.
    pub fn get(&self, id: u64) -> Option<&D::Part> {
        self.partitions.get(&id)
    }

    /// The partition of an id, to write.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut D::Part> {
        self.partitions.get_mut(&id)
    }

    /// Takes a partition out.
    pub fn remove(&mut self, id: u64) -> Option<D::Part> {
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

    /// The ids of all partitions, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.partitions.keys().copied()
    }

    /// All partitions, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &D::Part)> {
        self.partitions.iter().map(|(id, data)| (*id, data))
    }

    /// All partitions, to write, by ascending id.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut D::Part)> {
        self.partitions.iter_mut().map(|(id, data)| (*id, data))
    }

    /// The combiner.
    pub fn combiner(&self) -> &C {
        &self.combiner
    }

    pub(crate) fn names(&self) -> u32 {
        self.names
    }

    /// Takes all partitions out.
    pub(crate) fn take(&mut self) -> Parts<D> {
        std::mem::take(&mut self.partitions).into_iter().collect()
    }

    /// Combines the partition of which these are the bytes into the one of its id, or makes it.
    pub(crate) fn add_bytes(&mut self, id: u64, bytes: &[u8], from: u32) -> Result<()> {
        let bad = |e: String| HarpError::Decode { rank: from, what: format!("partition {id}: {e}") };
        let Some(have) = self.partitions.get_mut(&id) else {
            self.partitions.insert(id, D::from_bytes(bytes).map_err(bad)?);
            return Ok(());
        };
        if let Some(width) = D::width()
            && bytes.len() != width * D::len(have)
        {
            let (have, came) = (D::len(have), bytes.len() / width);
            return Err(HarpError::Lengths { id, have, came, from: Some(from) });
        }
        D::with_unit(bytes, |unit| self.combiner.combine(D::unit_mut(have), unit)).map_err(bad)
    }

    /// Replaces the bytes of all partitions, which must have these lengths.
    pub(crate) fn overwrite<'b>(&mut self, bytes: impl Iterator<Item = &'b [u8]>) {
        for (part, bytes) in self.partitions.values_mut().zip(bytes) {
            D::overwrite(part, bytes);
        }
    }

    /// The table gets these partitions instead of its own, in their place if they are like them.
    pub(crate) fn become_bytes<'b>(
        &mut self,
        parts: impl Iterator<Item = (u64, &'b [u8])> + Clone,
        from: u32,
    ) -> Result<()> {
        let alike = |(have, part): (&u64, &D::Part), (id, bytes): (u64, &[u8])| {
            *have == id && D::element().is_some_and(|element| D::len(part) * element == bytes.len())
        };
        let same = parts.clone().count() == self.partitions.len()
            && self.partitions.iter().zip(parts.clone()).all(|(have, came)| alike(have, came));
        if same {
            self.overwrite(parts.map(|(_, bytes)| bytes));
            return Ok(());
        }
        self.partitions.clear();
        for (id, bytes) in parts {
            self.add_bytes(id, bytes, from)?;
        }
        Ok(())
    }

    /// In builds with debug assertions: whether the combiner is associative for the first partition that meets one of these.
    pub(crate) fn check<'p>(&self, mut others: impl Iterator<Item = (u64, &'p D::Part)>) -> Result<()> {
        if !cfg!(debug_assertions) {
            return Ok(());
        }
        match others.find_map(|(id, other)| Some((id, self.partitions.get(&id)?, other))) {
            Some((id, mine, other)) => check::by_the_way::<D, C>(&self.combiner, id, mine, other),
            None => Ok(()),
        }
    }

    /// Fingerprint of ids and lengths; zero for values that have no length.
    pub(crate) fn shape(&self) -> u32 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for (id, part) in &self.partitions {
            for word in [*id, D::len(part) as u64] {
                hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
            }
        }
        (hash ^ (hash >> 32)) as u32
    }

    /// Bytes of all partitions, if they are arrays that may be combined where they lie.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let element = D::element()?;
        Some(self.partitions.values().map(|part| D::len(part) * element).sum())
    }

    /// Puts the lower ranks' partitions in front of this table's: `self` becomes `lower . self`.
    pub(crate) fn combine_below(&mut self, lower: Parts<D>, from: u32) -> Result<()> {
        let higher = std::mem::replace(&mut self.partitions, lower.into_iter().collect());
        self.combine_above(higher, from)
    }

    /// Puts the higher ranks' partitions behind this table's: `self` becomes `self . higher`.
    pub(crate) fn combine_above(
        &mut self,
        higher: impl IntoIterator<Item = (u64, D::Part)>,
        from: u32,
    ) -> Result<()> {
        for (id, data) in higher {
            self.add_from(id, data, Some(from))?;
        }
        Ok(())
    }
}

impl<D: Data, C: Clone> Clone for Table<D, C> {
    fn clone(&self) -> Table<D, C> {
        Table {
            partitions: self.partitions.iter().map(|(id, part)| (*id, D::copy(part))).collect(),
            combiner: self.combiner.clone(),
            names: self.names,
        }
    }
}

impl<D: Data<Part: PartialEq>, C> PartialEq for Table<D, C> {
    fn eq(&self, other: &Table<D, C>) -> bool {
        self.partitions == other.partitions
    }
}

impl<D: Data<Part: std::fmt::Debug>, C> std::fmt::Debug for Table<D, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.partitions).finish()
    }
}
