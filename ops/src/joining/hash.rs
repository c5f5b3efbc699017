//! [`HashJoin`]: one side held in a table, the other walked through.

use super::{Given, JoinKind, Joiner};
use crate::batch::{self, Batch};
use crate::error::{Result, Whose};
use crate::key::Key;
use crate::memory::{Memory, Reservation};
use crate::record::{Reader, Record};
use crate::stores::Reading;
use crate::table::elsewhere;
use aeolian_net::Buf;
use std::cell::Cell;
use std::rc::Rc;

/// Of these tables: which keys come to one part, others have decided.
const SEED: u64 = 0x701e_5eed_0000_0005;
/// What a row takes beside itself: its place in a chain, the beginning of one, whether it has matched.
const OF_ROW: usize = 2 * size_of::<u32>() + 1;
/// The end of a chain.
const END: u32 = u32::MAX;

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
        let mut rows: Vec<(K, H)> = Vec::new();
        let mut beside = 0;
        while let Some((_, batch)) = batches.next()? {
            let batch = Batch::<(K, H)>::new(batch, damaged.clone());
            if <(K, H)>::SIZE.is_some() {
                rows.reserve(batch.iter().size_hint().0);
            }
            batch.for_each(|row| {
                beside += elsewhere(&row.0) + elsewhere(&row.1);
                rows.push(row);
            });
            let holds = (rows.capacity() * (size_of::<(K, H)>() + OF_ROW)) as u64 + beside;
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
        for row in 0..table.rows.len() {
            let place = table.place(&table.rows[row].0);
            table.next[row] = std::mem::replace(&mut table.first[place], row as u32);
        }
        Ok(table)
    }

    #[inline]
    fn place(&self, key: &K) -> usize {
        key.hash(SEED) as usize & (self.first.len() - 1)
    }
}

/// Walks through one side with a table of the other.
struct Walk<K, W, H> {
    table: Table<K, H>,
    given: Given,
    walked: Reading,
    batch: Buf,
    at: usize,
    /// The row, whether it has matched, and the held one to try next.
    row: Option<(K, W)>,
    has_matched: bool,
    try_next: u32,
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
            row: None,
            has_matched: false,
            try_next: END,
            left: None,
            whose: whose.clone(),
        })
    }

    /// The next row that is walked to.
    #[inline]
    fn step(&mut self) -> Result<Option<(K, W)>> {
        while self.at == self.batch.len() {
            match self.walked.next()? {
                Some((_, batch)) => (self.batch, self.at) = (batch, 0),
                None => return Ok(None),
            }
        }
        let mut input = Reader::new(&self.batch[self.at..]);
        let row: (K, W) = batch::get(&mut input).ok_or_else(|| self.whose.unreadable::<(K, W)>("a batch"))?;
        self.at = self.batch.len() - input.rest().len();
        Ok(Some(row))
    }

    fn next<J, Y: Way<K, W, H, J>>(&mut self, joiner: &mut J) -> Result<Option<Y::Output>> {
        let given = self.given;
        while self.left.is_none() {
            if self.row.is_none() {
                let Some(row) = self.step()? else {
                    self.left = Some(0);
                    break;
                };
                self.try_next = self.table.first[self.table.place(&row.0)];
                self.has_matched = false;
                self.row = Some(row);
            }
            let Some((key, row)) = &self.row else { break };
            while let Some((there, held)) = self.table.rows.get(self.try_next as usize) {
                let at = self.try_next as usize;
                self.try_next = self.table.next[at];
                if !there.same(key) || !Y::matches(joiner, key, row, held) {
                    continue;
                }
                self.has_matched = true;
                if let Some(matched) = self.table.matched.get_mut(at) {
                    *matched = true;
                }
                if given.pairs {
                    return Ok(Some(Y::join(joiner, key, Some(row), Some(held))));
                }
                if given.walked_once || given.walked_alone {
                    // One that matches is enough.
                    self.try_next = END;
                }
            }
            let Some((key, row)) = self.row.take() else { break };
            if if self.has_matched { given.walked_once } else { given.walked_alone } {
                return Ok(Some(Y::join(joiner, &key, Some(&row), None)));
            }
        }
        while let Some(left) = &mut self.left {
            let at = *left;
            let Some((key, row)) = self.table.rows.get(at) else { break };
            *left += 1;
            let matched = self.table.matched.get(at).copied();
            if matched == Some(true) && given.held_once || matched == Some(false) && given.held_alone {
                return Ok(Some(Y::join(joiner, key, None, Some(row))));
            }
        }
        Ok(None)
    }
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

    /// What is given next.
    #[inline]
    pub(crate) fn next<J: Joiner<K, L, R>>(&mut self, joiner: &mut J) -> Result<Option<J::Output>> {
        match &mut self.0 {
            Held::Left(walk) => walk.next::<J, RightWalked>(joiner),
            Held::Right(walk) => walk.next::<J, LeftWalked>(joiner),
        }
    }

    /// What it takes to hold so many bytes of batches.
    pub(crate) fn room(bytes: u64, held: Option<usize>, in_memory: usize) -> u64 {
        match held {
            Some(size) => bytes / size.max(1) as u64 * (in_memory + OF_ROW) as u64,
            None => bytes.saturating_mul(3),
        }
    }
}
