//! [`MergeJoin`]: two sides in the same order, walked along together.

use super::{Given, JoinKind, Joiner};
use crate::batch;
use crate::common::Common;
use crate::error::{OpsError, Result, Whose};
use crate::filling::Filling;
use crate::key::Key;
use crate::memory::Reservation;
use crate::record::{Reader, Record};
use crate::sorting::Rule;
use crate::sorting::by::Together;
use crate::sorting::sorter::{Sorted, run_block};
use crate::spill::{Run, RunReader, RunWriter};
use crate::table::elsewhere;
use aeolian_net::Buf;
use std::cmp::Ordering;

/// Rows of one key that are held at a time take no less, however little memory is free, or a quarter of the budget.
const LEAST: u64 = 64 << 10;

/// One side: rows in order, and the key of the next.
struct Side<K: Key, V: Record> {
    rows: Sorted<Together<K, V>>,
    next: Option<(u64, K)>,
}

impl<K: Key, V: Record> Side<K, V> {
    fn new(rows: Sorted<Together<K, V>>, whose: &Whose) -> Result<Side<K, V>> {
        let mut side = Side { rows, next: None };
        side.look(whose)?;
        Ok(side)
    }

    fn look(&mut self, whose: &Whose) -> Result<()> {
        self.next = match self.rows.peek() {
            None => None,
            Some(bytes) => {
                let key = Together::<K, V>::read(&mut Reader::new(bytes))
                    .ok_or_else(|| whose.unreadable::<(K, V)>("a batch"))?;
                Some((Together::<K, V>::prefix(&key), key))
            }
        };
        Ok(())
    }

    /// The next row.
    fn take(&mut self, whose: &Whose) -> Result<Option<(K, V)>> {
        let Some(bytes) = self.rows.peek() else { return Ok(None) };
        let row = batch::get(&mut Reader::new(bytes)).ok_or_else(|| whose.unreadable::<(K, V)>("a batch"))?;
        self.rows.advance()?;
        self.look(whose)?;
        Ok(Some(row))
    }

    /// Goes past the next row.
    fn skip(&mut self, whose: &Whose) -> Result<()> {
        self.rows.advance()?;
        self.look(whose)
    }

    fn is_at(&self, prefix: u64, key: &K) -> bool {
        self.next.as_ref().is_some_and(|next| next.0 == prefix && next.1.same(key))
    }
}

/// The left rows of one key, to be walked through more than once.
struct Replay {
    run: Run,
    reader: RunReader,
    block: Buf,
    at: usize,
}

impl Replay {
    /// From the beginning.
    fn again(&mut self) {
        (self.reader, self.block, self.at) = (self.run.reader(), Buf::empty(), 0);
    }

    /// The next row, as `read` takes it from its bytes.
    fn next<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
        unreadable: impl FnOnce() -> OpsError,
    ) -> Result<Option<T>> {
        if self.at == self.block.len() {
            let Some(block) = self.reader.next()? else { return Ok(None) };
            (self.block, self.at) = (block, 0);
        }
        let mut input = Reader::new(&self.block[self.at..]);
        let row = read(&mut input).ok_or_else(unreadable)?;
        self.at = self.block.len() - input.rest().len();
        Ok(Some(row))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Left rows against the right ones that are held.
    Walk,
    /// Right ones that are held, and match none.
    HeldAlone,
    /// Left ones that matched none of several portions of right ones.
    WalkedAlone,
}

/// The rows of one key. Right ones are held, a portion at a time; if there are several, the left ones are put to disk, to be walked
/// through for each.
struct Group<K, L, R> {
    prefix: u64,
    key: K,
    held: Vec<R>,
    matched: Vec<bool>,
    room: Reservation,
    replay: Option<Replay>,
    /// Whether left row i of the replay has matched.
    walked: Vec<bool>,
    /// Of these.
    walked_room: Reservation,
    phase: Phase,
    /// The left row, its number, whether it has matched, and the right one to try next.
    row: Option<L>,
    number: usize,
    has_matched: bool,
    at: usize,
}

pub(crate) struct MergeJoin<K: Key, L: Record, R: Record> {
    left: Side<K, L>,
    right: Side<K, R>,
    group: Option<Box<Group<K, L, R>>>,
    given: Given,
    common: Common,
}

impl<K: Key, L: Record, R: Record> MergeJoin<K, L, R> {
    pub(crate) fn new(
        kind: JoinKind,
        left: Sorted<Together<K, L>>,
        right: Sorted<Together<K, R>>,
        common: &Common,
    ) -> Result<MergeJoin<K, L, R>> {
        Ok(MergeJoin {
            left: Side::new(left, &common.whose)?,
            right: Side::new(right, &common.whose)?,
            group: None,
            given: kind.given(true),
            common: common.clone(),
        })
    }

    /// What is given next.
    pub(crate) fn next<J: Joiner<K, L, R>>(&mut self, joiner: &mut J) -> Result<Option<J::Output>> {
        loop {
            if let Some(group) = &mut self.group {
                if let Some(output) =
                    group.next(self.given, &mut self.left, &mut self.right, &self.common, joiner)?
                {
                    return Ok(Some(output));
                }
                self.group = None;
            }
            let whose = &self.common.whose;
            let order = match (&self.left.next, &self.right.next) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.0.cmp(&right.0).then_with(|| left.1.order(&right.1)),
            };
            match order {
                Ordering::Less => {
                    if let Some((key, row)) = self.left.take(whose)?
                        && self.given.walked_alone
                    {
                        return Ok(Some(joiner.join(&key, Some(&row), None)));
                    }
                }
                Ordering::Greater => {
                    if let Some((key, row)) = self.right.take(whose)?
                        && self.given.held_alone
                    {
                        return Ok(Some(joiner.join(&key, None, Some(&row))));
                    }
                }
                Ordering::Equal => {
                    self.group = Some(Box::new(Group::new(&mut self.left, &mut self.right, &self.common)?));
                }
            }
        }
    }
}

impl<K: Key, L: Record, R: Record> Group<K, L, R> {
    /// Both sides are at the same key.
    fn new(left: &mut Side<K, L>, right: &mut Side<K, R>, common: &Common) -> Result<Group<K, L, R>> {
        let whose = &common.whose;
        let none = || aeolian_net::NetError::Internal("a group of no rows".into());
        let prefix = right.next.as_ref().ok_or_else(none)?.0;
        let (key, first) = right.take(whose)?.ok_or_else(none)?;
        let mut group = Group {
            prefix,
            key,
            held: Vec::new(),
            matched: Vec::new(),
            room: common.memory.reserve(),
            replay: None,
            walked: Vec::new(),
            walked_room: common.memory.reserve(),
            phase: Phase::Walk,
            row: None,
            number: 0,
            has_matched: false,
            at: 0,
        };
        group.hold(Some(first), right, common)?;
        if right.is_at(prefix, &group.key) {
            group.put_left_aside(left, common)?;
        }
        Ok(group)
    }

    /// Holds the next portion of right rows.
    fn hold(&mut self, first: Option<R>, right: &mut Side<K, R>, common: &Common) -> Result<()> {
        self.held.clear();
        self.room.shrink(u64::MAX);
        let memory = &common.memory;
        let most = (memory.free() / 4).max(LEAST.min(memory.limit() / 4));
        let mut row = first;
        loop {
            if row.is_none() && right.is_at(self.prefix, &self.key) {
                row = right.take(&common.whose)?.map(|(_, row)| row);
            }
            let Some(row) = row.take() else { break };
            self.room.take((size_of::<R>() + 1) as u64 + elsewhere(&row));
            self.held.push(row);
            if self.room.bytes() >= most {
                break;
            }
        }
        self.matched.clear();
        self.matched.resize(self.held.len(), false);
        Ok(())
    }

    /// Writes all left rows of the key to disk.
    fn put_left_aside(&mut self, left: &mut Side<K, L>, common: &Common) -> Result<()> {
        let mut run: RunWriter = common.spill.run();
        let mut filling = Filling::new(run_block(common));
        while left.is_at(self.prefix, &self.key)
            && let Some((_, row)) = left.take(&common.whose)?
        {
            self.walked.push(false);
            let more = (self.walked.capacity() as u64).saturating_sub(self.walked_room.bytes());
            self.walked_room.take(more);
            let full = filling.put(&row).map_err(|_| common.whose.unwritable::<L>())?;
            full.map(|full| run.write(full)).transpose()?;
        }
        filling.finish().map(|rest| run.write(rest)).transpose()?;
        let run = run.finish()?;
        let reader = run.reader();
        self.replay = Some(Replay { run, reader, block: Buf::empty(), at: 0 });
        Ok(())
    }

    /// The next left row.
    fn walk(&mut self, left: &mut Side<K, L>, whose: &Whose) -> Result<Option<L>> {
        match &mut self.replay {
            Some(replay) => replay.next(batch::get, || whose.unreadable::<L>("a spilled run")),
            None if left.is_at(self.prefix, &self.key) => Ok(left.take(whose)?.map(|(_, row)| row)),
            None => Ok(None),
        }
    }

    /// Goes past left rows that have matched, without reading them.
    fn skip_matched(&mut self, whose: &Whose) -> Result<()> {
        let skip = |input: &mut Reader<'_>| match L::SIZE {
            Some(size) => input.bytes(size.max(1)).map(drop),
            None => L::skip(input),
        };
        while let Some(replay) = &mut self.replay
            && self.walked.get(self.number) == Some(&true)
            && replay.next(skip, || whose.unreadable::<L>("a spilled run"))?.is_some()
        {
            self.number += 1;
        }
        Ok(())
    }

    fn next<J: Joiner<K, L, R>>(
        &mut self,
        given: Given,
        left: &mut Side<K, L>,
        right: &mut Side<K, R>,
        common: &Common,
        joiner: &mut J,
    ) -> Result<Option<J::Output>> {
        let whose = &common.whose;
        loop {
            match self.phase {
                Phase::Walk => {
                    if self.row.is_none() {
                        if !given.pairs {
                            self.skip_matched(whose)?;
                        }
                        self.row = self.walk(left, whose)?;
                        self.at = 0;
                        self.has_matched = self.walked.get(self.number).copied().unwrap_or(false);
                        self.number += 1;
                    }
                    let Some(row) = &self.row else {
                        (self.phase, self.at) = (Phase::HeldAlone, 0);
                        continue;
                    };
                    while let Some(held) = self.held.get(self.at) {
                        let at = self.at;
                        self.at += 1;
                        if !joiner.matches(&self.key, row, held) {
                            continue;
                        }
                        self.matched[at] = true;
                        self.has_matched = true;
                        if let Some(walked) = self.walked.get_mut(self.number - 1) {
                            *walked = true;
                        }
                        if given.pairs {
                            return Ok(Some(joiner.join(&self.key, Some(row), Some(held))));
                        }
                        if given.walked_once {
                            let row = self.row.take();
                            return Ok(Some(joiner.join(&self.key, row.as_ref(), None)));
                        }
                        if !given.pairs {
                            // One that matches is enough.
                            break;
                        }
                    }
                    let row = self.row.take();
                    // Of several portions, only after the last is it known.
                    if given.walked_alone && !self.has_matched && self.replay.is_none() {
                        return Ok(Some(joiner.join(&self.key, row.as_ref(), None)));
                    }
                }
                Phase::HeldAlone => {
                    while let Some(held) = self.held.get(self.at) {
                        self.at += 1;
                        if given.held_alone && !self.matched[self.at - 1] {
                            return Ok(Some(joiner.join(&self.key, None, Some(held))));
                        }
                    }
                    let Some(replay) = &mut self.replay else { return Ok(None) };
                    let all_have = self.walked.iter().all(|matched| *matched);
                    if all_have && !given.pairs {
                        // No right row that is still to come makes a difference.
                        while right.is_at(self.prefix, &self.key) {
                            right.skip(whose)?;
                        }
                    }
                    replay.again();
                    (self.at, self.number) = (0, 0);
                    if right.is_at(self.prefix, &self.key) {
                        self.phase = Phase::Walk;
                        self.hold(None, right, common)?;
                    } else if given.walked_alone && !all_have {
                        self.phase = Phase::WalkedAlone;
                    } else {
                        return Ok(None);
                    }
                }
                Phase::WalkedAlone => {
                    self.skip_matched(whose)?;
                    let Some(row) = self.walk(left, whose)? else { return Ok(None) };
                    self.number += 1;
                    return Ok(Some(joiner.join(&self.key, Some(&row), None)));
                }
            }
        }
    }
}
