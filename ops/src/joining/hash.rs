//! [`HashJoin`]: one side held in a table, the other walked through.

use super::{Given, JoinKind, Joiner};
use crate::batch::{self, Batch};
use crate::error::{Result, Whose};
use crate::filling::Filling;
use crate::key::Key;
use crate::memory::{Memory, Reservation};
use crate::prefetch;
use crate::record::{Reader, Record};
use crate::stores::Reading;
use crate::table::elsewhere;
use aeolian_net::Buf;
use std::cell::Cell;
use std::rc::Rc;

/// Of these tables: which keys come to one part, others have decided.
const SEED: u64 = 0x701e_5eed_0000_0005;
/// What a row takes beside itself: its place in a chain, the beginning of one or two, whether it has matched.
const OF_ROW: usize = 3 * size_of::<u32>() + 1;
/// What the key of a row takes beside its bytes if those are elsewhere, and what its value does: of the allocator.
const ELSEWHERE: usize = 2 * 16;
/// Rows that are looked at before they are gone along.
const BLOCK: usize = 32;
/// The end of a chain.
const END: u32 = u32::MAX;
/// Rows of a table: their numbers are what chains are made of.
const MOST: u64 = END as u64;

/// Whether a side of so many rows can be held, if there is memory for it.
pub(crate) fn may_hold(rows: u64) -> bool {
    rows <= MOST
}

/// What it takes to hold so many rows, of so many bytes in batches.
pub(crate) fn room<T: Record>(rows: u64, bytes: u64) -> u64 {
    let of_row = size_of::<T>() + OF_ROW;
    let (of_row, bytes) = match T::SIZE {
        Some(size) if size <= size_of::<T>() => (of_row, 0),
        _ => (of_row + ELSEWHERE, bytes),
    };
    rows.saturating_mul(of_row as u64).saturating_add(bytes)
}

/// Which side is which.
trait Way<K, W, H, J> {
    type Output;

    fn join(joiner: &mut J, key: &K, walked: Option<&W>, held: Option<&H>) -> Self::Output;

    fn matches(joiner: &mut J, key: &K, walked: &W, held: &H) -> bool;
}

struct LeftWalked;

impl<K, L, R, J: Joiner<K, L, R>> Way<K, L, R, J> for LeftWalked {
    type Output = J::Output;

    #[inline]
    fn join(joiner: &mut J, key: &K, walked: Option<&L>, held: Option<&R>) -> J::Output {
        joiner.join(key, walked, held)
    }

    #[inline]
    fn matches(joiner: &mut J, key: &K, walked: &L, held: &R) -> bool {
        joiner.matches(key, walked, held)
    }
}

struct RightWalked;

impl<K, L, R, J: Joiner<K, L, R>> Way<K, R, L, J> for RightWalked {
    type Output = J::Output;

    #[inline]
    fn join(joiner: &mut J, key: &K, walked: Option<&R>, held: Option<&L>) -> J::Output {
        joiner.join(key, held, walked)
    }

    #[inline]
    fn matches(joiner: &mut J, key: &K, walked: &R, held: &L) -> bool {
        joiner.matches(key, held, walked)
    }
}

/// Rows in a hash table with chains.
struct Table<K, H> {
    rows: Vec<(K, H)>,
    /// hash -> the first row with it
    first: Vec<u32>,
    /// row -> the next one in its place
    next: Vec<u32>,
    matched: Vec<bool>,
    _room: Reservation,
}

impl<K: Key, H: Record> Table<K, H> {
    fn new(
        mut batches: Reading,
        needs_matched: bool,
        memory: &Rc<Memory>,
        whose: &Whose,
    ) -> Result<Table<K, H>> {
        let damaged = Rc::new(Cell::new(false));
        let mut room = memory.reserve();
        let mut rows: Vec<(K, H)> = Vec::with_capacity(usize::try_from(batches.records).unwrap_or(0));
        let mut beside = 0;
        while let Some((_, batch)) = batches.next()? {
            let batch = Batch::<(K, H)>::new(batch, damaged.clone());
            batch.for_each(|row| {
                beside += elsewhere(&row.0) + elsewhere(&row.1);
                rows.push(row);
            });
            let holds = (rows.len() * (size_of::<(K, H)>() + OF_ROW)) as u64 + beside;
            room.take(holds.saturating_sub(room.bytes()));
        }
        if damaged.get() {
            return Err(whose.unreadable::<(K, H)>("a batch"));
        }
        let mut table = Table {
            first: vec![END; rows.len().next_power_of_two()],
            next: vec![END; rows.len()],
            matched: vec![false; if needs_matched { rows.len() } else { 0 }],
            rows,
            _room: room,
        };
        let mut places = [0; BLOCK];
        for start in (0..table.rows.len()).step_by(BLOCK) {
            let block = &table.rows[start..(start + BLOCK).min(table.rows.len())];
            for (place, row) in places.iter_mut().zip(block) {
                *place = table.place(&row.0);
                prefetch::to_write((&raw const table.first[*place]).cast());
            }
            for (place, row) in places.into_iter().zip(start..start + block.len()) {
                table.next[row] = std::mem::replace(&mut table.first[place], row as u32);
            }
        }
        Ok(table)
    }

    #[inline]
    fn place(&self, key: &K) -> usize {
        key.hash(SEED) as usize & (self.first.len() - 1)
    }
}

/// Walks through one side with a table of the other.
///
/// Rows of one size are looked at a block ahead: where their chains begin is told to the processor for all of a block, then what is there, and only
/// then they are gone along (Chen et al., *Improving hash join performance through prefetching*, 2004).
struct Walk<K, W, H> {
    table: Table<K, H>,
    given: Given,
    walked: Reading,
    batch: Buf,
    at: usize,
    /// Where the chains of the next rows begin, and the next one of these.
    ahead: Vec<u32>,
    next_ahead: usize,
    /// A row that is not through: the held one to try next, and whether it has matched.
    row: Option<((K, W), u32, bool)>,
    /// All are walked through; of the held ones, the next to be looked at.
    left: Option<usize>,
    whose: Whose,
}

impl<K: Key, W: Record, H: Record> Walk<K, W, H> {
    fn new(
        given: Given,
        walked: Reading,
        held: Reading,
        memory: &Rc<Memory>,
        whose: &Whose,
    ) -> Result<Walk<K, W, H>> {
        Ok(Walk {
            table: Table::new(held, given.held_alone || given.held_once, memory, whose)?,
            given,
            walked,
            batch: Buf::empty(),
            at: 0,
            ahead: Vec::with_capacity(BLOCK),
            next_ahead: 0,
            row: None,
            left: None,
            whose: whose.clone(),
        })
    }

    /// Looks at rows of one size before they are walked to. (The batch is not at its end.)
    fn look_ahead(&mut self, width: usize) {
        self.ahead.clear();
        self.next_ahead = 0;
        for row in self.batch[self.at..].chunks_exact(width).take(BLOCK) {
            // (What cannot be read is told where it is walked to.)
            let place = <(K, W)>::get(&mut Reader::new(row)).map_or(0, |row| self.table.place(&row.0));
            prefetch::to_write((&raw const self.table.first[place]).cast());
            self.ahead.push(place as u32);
        }
        for ahead in &mut self.ahead {
            *ahead = self.table.first[*ahead as usize];
            prefetch::to_write(self.table.rows.as_ptr().wrapping_add(*ahead as usize).cast());
            prefetch::to_write(self.table.next.as_ptr().wrapping_add(*ahead as usize).cast());
        }
    }

    /// The next row that is walked to, and where its chain begins.
    #[inline(always)]
    fn step(&mut self) -> Result<Option<((K, W), u32)>> {
        while self.at == self.batch.len() {
            match self.walked.next()? {
                Some((_, batch)) => {
                    (self.batch, self.at) = (batch, 0);
                    self.next_ahead = self.ahead.len();
                }
                None => return Ok(None),
            }
        }
        if let Some(width) = <(K, W)>::SIZE.filter(|width| *width > 0)
            && self.next_ahead == self.ahead.len()
        {
            self.look_ahead(width);
        }
        let mut input = Reader::new(&self.batch[self.at..]);
        let row: (K, W) = batch::get(&mut input).ok_or_else(|| self.whose.unreadable::<(K, W)>("a batch"))?;
        self.at = self.batch.len() - input.rest().len();
        let first = match self.ahead.get(self.next_ahead) {
            Some(first) => *first,
            None => self.table.first[self.table.place(&row.0)],
        };
        self.next_ahead += 1;
        Ok(Some((row, first)))
    }

    /// Fills a batch with what is given next, and returns it; or the rest, when there is no more. (What is made is written straight into the batch.)
    #[inline(always)]
    fn fill<J, Y: Way<K, W, H, J, Output: Record>>(
        &mut self,
        joiner: &mut J,
        filling: &mut Filling,
    ) -> Result<Option<Buf>> {
        let given = self.given;
        while self.left.is_none() {
            let (row, mut next, mut has_matched) = match self.row.take() {
                Some(row) => row,
                None => match self.step()? {
                    Some((row, first)) => (row, first, false),
                    None => {
                        self.left = Some(0);
                        break;
                    }
                },
            };
            while let Some((there, held)) = self.table.rows.get(next as usize) {
                let at = next as usize;
                next = self.table.next[at];
                if !there.same(&row.0) || !Y::matches(joiner, &row.0, &row.1, held) {
                    continue;
                }
                has_matched = true;
                if let Some(matched) = self.table.matched.get_mut(at) {
                    *matched = true;
                }
                if given.pairs {
                    let made = Y::join(joiner, &row.0, Some(&row.1), Some(held));
                    if let Some(full) = put(filling, made, &self.whose)? {
                        self.row = Some((row, next, has_matched));
                        return Ok(Some(full));
                    }
                } else if given.walked_once || given.walked_alone {
                    // One that matches is enough.
                    break;
                }
            }
            if if has_matched { given.walked_once } else { given.walked_alone } {
                let made = Y::join(joiner, &row.0, Some(&row.1), None);
                if let Some(full) = put(filling, made, &self.whose)? {
                    return Ok(Some(full));
                }
            }
        }
        while let Some(left) = &mut self.left {
            let at = *left;
            let Some((key, row)) = self.table.rows.get(at) else { break };
            *left += 1;
            let matched = self.table.matched.get(at).copied();
            if matched == Some(true) && given.held_once || matched == Some(false) && given.held_alone {
                let made = Y::join(joiner, key, None, Some(row));
                if let Some(full) = put(filling, made, &self.whose)? {
                    return Ok(Some(full));
                }
            }
        }
        Ok(filling.finish())
    }
}

#[inline(always)]
fn put<T: Record>(filling: &mut Filling, made: T, whose: &Whose) -> Result<Option<Buf>> {
    filling.put_own(made).map_err(|_| whose.unwritable::<T>())
}

enum Held<K, L, R> {
    Left(Walk<K, R, L>),
    Right(Walk<K, L, R>),
}

pub(crate) struct HashJoin<K, L, R>(Held<K, L, R>);

impl<K: Key, L: Record, R: Record> HashJoin<K, L, R> {
    /// Holds the left side or else the right one, all of it, and walks through the other.
    pub(crate) fn new(
        kind: JoinKind,
        left: Reading,
        right: Reading,
        holds_left: bool,
        memory: &Rc<Memory>,
        whose: &Whose,
    ) -> Result<HashJoin<K, L, R>> {
        let given = kind.given(!holds_left);
        Ok(HashJoin(match holds_left {
            true => Held::Left(Walk::new(given, right, left, memory, whose)?),
            false => Held::Right(Walk::new(given, left, right, memory, whose)?),
        }))
    }

    /// Fills a batch with what is given next.
    pub(crate) fn fill<J: Joiner<K, L, R>>(
        &mut self,
        joiner: &mut J,
        filling: &mut Filling,
    ) -> Result<Option<Buf>>
    where
        J::Output: Record,
    {
        match &mut self.0 {
            Held::Left(walk) => walk.fill::<J, RightWalked>(joiner, filling),
            Held::Right(walk) => walk.fill::<J, LeftWalked>(joiner, filling),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_more_rows_than_there_are_numbers_is_not_held() {
        assert!(may_hold(0) && may_hold(MOST));
        // The number of the last one would be the end of a chain.
        assert!(!may_hold(MOST + 1) && MOST <= u64::from(END));
    }

    #[test]
    fn rows_of_few_bytes_take_more_than_those() {
        assert_eq!(room::<(u64, u64)>(10, 160), 290);
        let row = size_of::<(String, String)>() as u64;
        assert!(room::<(String, String)>(1000, 5000) > 1000 * (row + 2 * 16 + 5));
        assert_eq!(room::<(String, String)>(u64::MAX, 1), u64::MAX);
    }
}
