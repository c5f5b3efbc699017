//! [`Join`]: rows of two sides that have the same key.

use crate::batch::Batch;
use crate::carrier::{Incoming, Route};
use crate::common::Common;
use crate::dataflow::Dataflow;
use crate::error::{OpsError, Result, Whose};
use crate::exchange::Exchange;
use crate::filling::Filling;
use crate::grouping::Grouping;
use crate::joining::hash::{self, HashJoin};
use crate::joining::merge::MergeJoin;
use crate::joining::share::{SHARES, Sharing};
use crate::joining::small::{Barriers, SmallSide, Spread, Way};
use crate::joining::{JoinKind, Joiner};
use crate::key::Key;
use crate::operator::{Insert, InsertError, Operator, Receiver, drive, insert_many};
use crate::outbox::{BATCHES, Outbox};
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::sorting::by::Together;
use crate::sorting::sorter::Sorted;
use crate::stores::{Count, Stored, Stores, counted};
use aeolian_net::bytes::Bytes;
use aeolian_net::{Buf, OpName, World};
use std::cell::Cell;
use std::rc::Rc;

static NAME: OpName = OpName("join");

/// Messages that are taken in one call of `progress`: other operators and the program want their turn.
const AT_ONCE: usize = 64;
/// A part whose smaller side does not fit is cut into so many,
const CUTS: usize = 16;
/// and each of these again, so often at most. What is too large still has hardly any other keys, and is sorted.
const DEPTH: u32 = 4;
/// Bytes of a batch that is cut.
const CUT: usize = 32 << 10;
/// A table that takes no more, or no more than a quarter of the budget, is not worth a cut.
const LEAST: u64 = 256 << 10;

/// How a [`Join`] matches rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum JoinAlgorithm {
    /// [`JoinAlgorithm::Broadcast`] if the right side turns out to be no more than 8 MiB, or a sixteenth of the budget, and the kind allows
    /// it; else [`JoinAlgorithm::Hash`].
    #[default]
    Auto,
    /// Rows go to the target of their key; there the smaller side of each part is held in a table, in which the other is looked up.
    Hash,
    /// Rows go to the target of their key; there both sides of each part are sorted, and walked along together.
    SortMerge,
    /// Right rows go to all targets, and left ones to one of their own rank (if it has none, to that of their key): then as by hash. Not
    /// for right and full joins: of a right row that is everywhere nobody knows whether it matches anywhere.
    Broadcast,
}

/// How a join went at the targets of a rank: [`Join::report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct JoinReport {
    /// Whether the right side went to all targets.
    pub broadcast: bool,
    /// Parts whose smaller side was held in a table.
    pub hashed: u64,
    /// Parts that were sorted.
    pub sorted: u64,
    /// Parts that were cut because their smaller side did not fit.
    pub cut: u64,
    /// Parts that were on disk.
    pub spilled: u64,
    /// Parts whose left rows were shared with other ranks, because this one had too much; and parts of others of which this rank got some.
    pub shared: u64,
    /// See `shared`.
    pub got: u64,
    /// Bytes of both sides at this rank's targets, and of the part with the most: more than its share if few keys have most rows.
    pub bytes: u64,
    /// See `bytes`.
    pub largest_part: u64,
}

impl std::fmt::Display for JoinReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = if self.broadcast { "right side to all targets" } else { "by hash of the key" };
        let JoinReport { hashed, sorted, cut, spilled, shared, got, .. } = self;
        write!(f, "{way}; {hashed} parts by table, {sorted} by sorting, {cut} cut, {spilled} on disk; ")?;
        if shared + got > 0 {
            write!(f, "skewed: {shared} parts shared with other ranks, some of {got} got from others; ")?;
        }
        write!(f, "{}, the largest part {}", Bytes(self.bytes), Bytes(self.largest_part))
    }
}

/// A row of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side<L, R> {
    /// Of the left one.
    Left(L),
    /// Of the right one.
    Right(R),
}

enum Matching<K: Key, L: Record, R: Record> {
    Hash(Box<HashJoin<K, L, R>>),
    Merge(Box<MergeJoin<K, L, R>>),
}

/// A part's target, and its rows.
type Part<K, L, R> = (u32, Matching<K, L, R>);

/// Parts of both sides: of part i, the left side at place 2 i, the right one after it.
struct Level {
    stores: Stores,
    /// Parts that are left, last first.
    left: Vec<u32>,
    /// How often they were cut, of a part with a smaller side of how many bytes.
    depth: u32,
    cut_from: u64,
    /// Their target; of the first level, it is that of the slot.
    target: Option<u32>,
}

/// M sources of rows of two sides to N targets: rows with the same key meet at the key's target, which gets what the [`Joiner`] makes of
/// them.
///
/// Any source may insert rows of both sides, in any order: pairs of a key and what else a row has. (If one side is small, let it be the
/// right one, and insert it first: see [`Join::finish_right`].) Targets get their rows when all sources have finished, in any order.
///
/// Which keys are the same, [`Key`] says. So `None` is as good a key as others; in SQL it is not: leave such rows out, or let a predicate
/// refuse them. Of two keys that are the same and look different (-0.0 and 0.0) the joiner may get either.
///
/// Where few keys have most rows, a rank may get much more than others. It shares that with them, and what comes of it is given at targets
/// there; but not in right and full joins, which must know of all right rows whether they match any.
///
/// ```
/// use aeolian_ops::{Dataflow, Join, JoinAlgorithm, JoinKind, LogicalPlan, Operator, taking};
/// let rows = aeolian_net::World::local(2, |world| {
///     let flow = Dataflow::new(&world)?;
///     let mut rows = Vec::new();
///     let take = taking(|_target, batch| rows.extend(batch));
///     let join = |city: &String, people: Option<&u32>, river: Option<&String>| {
///         (city.clone(), people.copied(), river.cloned())
///     };
///     let plan = LogicalPlan::each_rank(&world);
///     let mut op = Join::new(&flow, &plan, JoinKind::Left, JoinAlgorithm::Auto, join, take)?;
///     let me = world.rank();
///     if me == 0 {
///         op.insert_all_left(me, [("Bern".into(), 137_000), ("Oslo".into(), 717_000)])?;
///     } else {
///         op.insert_all_right(me, [("Bern".into(), "Aare".into()), ("Wien".into(), "Donau".into())])?;
///     }
///     op.finish(me)?;
///     op.complete()?;
///     drop(op);
///     world.finish()?;
///     Ok(rows)
/// })?;
/// let mut rows = rows.concat();
/// rows.sort();
/// let bern = ("Bern".into(), Some(137_000), Some("Aare".into()));
/// assert_eq!(rows, [bern, ("Oslo".into(), Some(717_000), None)]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
///
/// *Cost*: a row is written once into the batch for its part of its target; there, one part after another is matched in the cache. One
/// round of rows; before it two short ones if it is to be decided where the right side goes ([`JoinAlgorithm::Auto`]), and after it three,
/// of which two are short, in the kinds that share what one rank has too much of. *Memory*: batches for each part of each target for both
/// sides, at each rank with sources; at the targets all rows, and for one part a table of its smaller side ([`JoinAlgorithm::Hash`]) or 32
/// bytes for each row ([`JoinAlgorithm::SortMerge`]). When that is more than the budget, whole parts go to disk, with both sides. One whose
/// smaller side does not fit is cut by other bits of the hash, up to four times; what does not fit then, or does not get smaller because
/// most of its rows have one key, is sorted by runs on disk and merged. There, right rows of one key are held as far as they fit, and left
/// ones walked through for each such portion. So no key has too many rows.
pub struct Join<K: Key, L: Record, R: Record, J: Joiner<K, L, R>, C> {
    left: Exchange<(K, L)>,
    right: Exchange<(K, R)>,
    kind: JoinKind,
    algorithm: JoinAlgorithm,
    joiner: J,
    receiver: C,
    grouping: Grouping,
    mine: Vec<u32>,
    levels: Vec<Level>,
    is_ordered: bool,
    /// If the right side may go to all targets.
    small: Option<SmallSide<K, R>>,
    spread: Spread,
    barriers: Barriers,
    /// If parts may be shared among ranks.
    sharing: Option<Sharing<K, L, R>>,
    report: JoinReport,
    giving: Option<Part<K, L, R>>,
    outbox: Outbox<J::Output>,
    common: Common,
    damaged: Rc<Cell<bool>>,
}

impl<K: Key, L: Record, R: Record, J: Joiner<K, L, R>, C: Receiver<Batch<J::Output>>> Join<K, L, R, J, C> {
    /// How rows of each side of a part are counted.
    const COUNTS: [Count; 2] = [counted::<(K, L)>, counted::<(K, R)>];

    /// On the tasks of `plan`; all ranks alike, but for the joiner and the receiver.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if the plan is for a world of another size or has sources, but no targets.
    pub fn new(
        flow: &Dataflow,
        plan: &LogicalPlan,
        kind: JoinKind,
        algorithm: JoinAlgorithm,
        joiner: J,
        receiver: C,
    ) -> Result<Join<K, L, R, J, C>> {
        plan.needs_targets(NAME.0)?;
        let way = match algorithm {
            JoinAlgorithm::Auto if kind.goes_by_left() => Some(Way::Open),
            JoinAlgorithm::Broadcast if kind.goes_by_left() => Some(Way::ToAll),
            JoinAlgorithm::Broadcast => {
                return Err(OpsError::Plan(format!(
                    "a {kind:?} join cannot send its right side to all targets"
                )));
            }
            _ => None,
        };
        let grouping = Grouping::new(plan.targets().len());
        let route = Route::ToOne { parts: grouping.parts };
        let left = Exchange::numbered(flow, &NAME, flow.number(), "left side", plan, route)?;
        let right = Exchange::numbered(flow, &NAME, left.name().1, "right side", plan, route)?;
        let small = way.map(|way| SmallSide::new(flow, &NAME, left.name().1, plan, way)).transpose()?;
        let is_shared = kind.goes_by_left() && plan.target_ranks().len() > 1;
        let sharing = is_shared.then(|| Sharing::new(flow, &NAME, left.name().1, plan)).transpose()?;
        let whose = left.whose();
        let mut join = Join {
            right,
            kind,
            algorithm,
            joiner,
            receiver,
            mine: plan.targets_of(flow.world().rank()).collect(),
            levels: Vec::new(),
            is_ordered: false,
            small,
            spread: Spread::new(grouping.parts, left.batch_bytes()),
            barriers: Barriers::default(),
            sharing,
            report: JoinReport::default(),
            giving: None,
            outbox: Outbox::new(whose.clone()),
            common: Common::new(flow, whose),
            grouping,
            damaged: Rc::default(),
            left,
        };
        join.open();
        Ok(join)
    }

    /// As at the beginning of a round.
    fn open(&mut self) {
        let slots = self.grouping.slots();
        self.levels = vec![Level {
            stores: Stores::new(&self.common, 2 * slots, &Self::COUNTS),
            left: self.mine.iter().flat_map(|target| self.grouping.slots_of(*target)).collect(),
            depth: 0,
            cut_from: u64::MAX,
            target: None,
        }];
        self.is_ordered = false;
        self.report = JoinReport::default();
    }

    /// Takes a left row of a source that is on this rank, or hands it back.
    ///
    /// # Errors
    /// As [`Insert::insert`].
    pub fn insert_left(&mut self, source: u32, row: (K, L)) -> Result<(), InsertError<(K, L)>> {
        match self.left.may_insert(source)? {
            true => self.put_left(row),
            false => Err(InsertError::Full(row)),
        }
    }

    #[inline]
    fn put_left(&mut self, row: (K, L)) -> Result<(), InsertError<(K, L)>> {
        let hash = Grouping::hash(&row.0);
        let mut slot = self.grouping.slot_of_hash(hash);
        if self.small.as_ref().is_some_and(|small| small.way == Way::ToAll) && !self.mine.is_empty() {
            // It stays here. (Lower bits than those of the slot.)
            let target = self.mine[hash as u32 as usize % self.mine.len()];
            slot = self.grouping.slots_of(target).start + slot % self.grouping.parts;
        }
        self.left.put_own(slot, row)
    }

    /// The same for a right row.
    ///
    /// # Errors
    /// As [`Insert::insert`].
    pub fn insert_right(&mut self, source: u32, row: (K, R)) -> Result<(), InsertError<(K, R)>> {
        match self.right.may_insert(source)? {
            true => self.put_right(source, row),
            false => Err(InsertError::Full(row)),
        }
    }

    #[inline]
    fn put_right(&mut self, source: u32, row: (K, R)) -> Result<(), InsertError<(K, R)>> {
        if let Some(small) = &mut self.small
            && small.way != Way::ByHash
        {
            let taken = match small.way {
                Way::ToAll => small.all.may_insert(source)? && small.all.put(0, &row)?,
                _ => small.has_room() && small.keep(&row).map(|()| true)?,
            };
            return if taken { Ok(()) } else { Err(InsertError::Full(row)) };
        }
        self.right.put_own(self.grouping.slot_of_hash(Grouping::hash(&row.0)), row)
    }

    /// This source has no more right rows. A small right side that all sources finish before they insert left rows can go to all targets,
    /// so that left ones need not move ([`JoinAlgorithm::Auto`]).
    ///
    /// # Errors
    /// As [`Operator::finish`].
    pub fn finish_right(&mut self, source: u32) -> Result<()> {
        self.right.may_finish(source)?;
        if let Some(small) = &self.small {
            small.all.may_finish(source)?;
        }
        self.right.finish(source)?;
        match &mut self.small {
            Some(small) => small.all.finish(source),
            None => Ok(()),
        }
    }

    /// Moves the operator on until it is known whether the right side goes to all targets: on all ranks, sources finish theirs by
    /// [`Join::finish_right`], before this or at least without waiting for what comes after it.
    ///
    /// # Errors
    /// As [`Operator::progress`].
    pub fn decide(&mut self) -> Result<()> {
        drive(self, |join| {
            let is_open = join.small.as_ref().is_some_and(|small| small.way == Way::Open);
            Ok((!is_open || join.left.plan().sources_of(join.left.world().rank()).next().is_none())
                .then_some(()))
        })
    }

    /// How it went so far, at this rank.
    pub fn report(&self) -> JoinReport {
        let broadcast = self.small.as_ref().is_some_and(|small| small.way == Way::ToAll);
        let (shared, got) = self.sharing.as_ref().map_or((0, 0), |sharing| (sharing.shared, sharing.got));
        JoinReport { broadcast, shared, got, ..self.report }
    }

    /// Inserts all of these left rows, moving the operator on where there is no room.
    ///
    /// # Errors
    /// As [`Insert::insert`] and [`Operator::progress`].
    pub fn insert_all_left(&mut self, source: u32, rows: impl IntoIterator<Item = (K, L)>) -> Result<()> {
        insert_many(self, source, rows, &mut [], |join, source| join.left.may_insert(source), Join::put_left)
    }

    /// The same for right rows.
    ///
    /// # Errors
    /// As [`Insert::insert`] and [`Operator::progress`].
    pub fn insert_all_right(&mut self, source: u32, rows: impl IntoIterator<Item = (K, R)>) -> Result<()> {
        let put = |join: &mut Self, row| join.put_right(source, row);
        insert_many(self, source, rows, &mut [], |join, source| join.right.may_insert(source), put)
    }

    /// The next part that is to be matched: its target, and how.
    fn next_part(&mut self) -> Result<Option<Part<K, L, R>>> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some(part) = level.left.pop() else {
                if self.levels.len() == 1 {
                    return Ok(None);
                }
                self.levels.pop();
                continue;
            };
            let places = [2 * part as usize, 2 * part as usize + 1];
            let target = level.target.unwrap_or_else(|| self.grouping.target(part));
            let [left, right] = places.map(|place| level.stores.bytes(place));
            let rows = places.map(|place| level.stores.records(place));
            if left == 0 && right == 0 {
                continue;
            }
            let is_spilled = places.iter().any(|place| level.stores.is_spilled(*place));
            let report = &mut self.report;
            report.spilled += u64::from(is_spilled);
            if level.depth == 0 {
                report.bytes += left + right;
                report.largest_part = report.largest_part.max(left + right);
            }
            let holds_left = left < right;
            let [left_rows, right_rows] = places.map(|place| level.stores.take(place));
            let (left_rows, right_rows) = (left_rows?, right_rows?);
            // (What is held goes from its batches into the table.)
            let (held, needs) = match holds_left {
                true => (rows[0], hash::room::<(K, L)>(rows[0], left).saturating_sub(left_rows.in_memory())),
                false => {
                    (rows[1], hash::room::<(K, R)>(rows[1], right).saturating_sub(right_rows.in_memory()))
                }
            };
            let memory = &self.common.memory;
            let may_hold = self.algorithm != JoinAlgorithm::SortMerge && hash::may_hold(held);
            if may_hold && needs <= memory.free().saturating_add(level.stores.in_memory()) {
                // (They are taken from the end.)
                level.stores.make_room(needs, level.left.iter().map(|part| *part as usize))?;
            }
            if may_hold && needs <= memory.free().max(LEAST.min(memory.limit() / 4)) {
                report.hashed += 1;
                let (left, right) = (left_rows.read(), right_rows.read());
                let whose = &self.common.whose;
                let join = HashJoin::new(self.kind, left, right, holds_left, memory, whose)?;
                return Ok(Some((target, Matching::Hash(Box::new(join)))));
            }
            let smaller = left.min(right);
            let (depth, cut_from) = (level.depth, level.cut_from);
            if self.algorithm == JoinAlgorithm::SortMerge || depth == DEPTH || smaller > cut_from / 10 * 9 {
                report.sorted += 1;
                let left = Sorted::<Together<K, L>>::of(&self.common, left_rows)?;
                let right = Sorted::<Together<K, R>>::of(&self.common, right_rows)?;
                let join = MergeJoin::new(self.kind, left, right, &self.common)?;
                return Ok(Some((target, Matching::Merge(Box::new(join)))));
            }
            report.cut += 1;
            let mut cut = Level {
                stores: Stores::new(&self.common, 2 * CUTS, &Self::COUNTS),
                left: (0..CUTS as u32).collect(),
                depth: depth + 1,
                cut_from: smaller,
                target: Some(target),
            };
            self.cut_side::<L>(&mut cut, 0, left_rows)?;
            self.cut_side::<R>(&mut cut, 1, right_rows)?;
            // What is in memory comes first. (They are taken from the end.)
            cut.left.sort_by_key(|part| !cut.stores.is_spilled(2 * *part as usize));
            self.levels.push(cut);
        }
    }

    /// Cuts one side of a part.
    fn cut_side<V: Record>(&self, cut: &mut Level, side: usize, rows: Stored) -> Result<()> {
        let mut rows = rows.read();
        let mut filling: Vec<Filling> = (0..CUTS).map(|_| Filling::new(CUT)).collect();
        let seed = u64::from(cut.depth) << 32 | 0xc075;
        while let Some((_, batch)) = rows.next()? {
            for row in Batch::<(K, V)>::new(batch, self.damaged.clone()) {
                let part = row.0.hash(seed) as usize % CUTS;
                let full = filling[part].put(&row).map_err(|_| self.common.whose.unwritable::<(K, V)>())?;
                if let Some(full) = full {
                    cut.stores.add(2 * part + side, 0, full)?;
                }
            }
        }
        if self.damaged.get() {
            return Err(self.common.whose.unreadable::<(K, V)>("a batch"));
        }
        for (part, filling) in filling.iter_mut().enumerate() {
            if let Some(rest) = filling.finish() {
                cut.stores.add(2 * part + side, 0, rest)?;
            }
        }
        Ok(())
    }

    /// Hands over what all is there for; true if anything moved.
    fn give(&mut self) -> Result<bool> {
        let mut moved = false;
        if !std::mem::replace(&mut self.is_ordered, true)
            && let Some(level) = self.levels.first_mut()
        {
            // What was spilled comes last, when the memory of all others is free. (They are taken from the end.)
            level.left.sort_by_key(|part| !level.stores.is_spilled(2 * *part as usize));
        }
        for _ in 0..BATCHES {
            if self.giving.is_none() {
                self.giving = self.next_part()?;
            }
            let Some((target, matching)) = &mut self.giving else { break };
            let joiner = &mut self.joiner;
            let given = match matching {
                Matching::Hash(join) => {
                    let fill = |filling: &mut Filling, _: &Whose| join.fill(joiner, filling);
                    self.outbox.hand_over_filled(&mut self.receiver, *target, fill)?
                }
                Matching::Merge(join) => {
                    self.outbox.hand_over(&mut self.receiver, *target, || join.next(joiner))?
                }
            };
            if given {
                moved = true;
            } else if self.outbox.is_empty() {
                (self.giving, moved) = (None, true);
            } else {
                break;
            }
        }
        Ok(moved)
    }

    /// Takes what has come of one side; true if anything has.
    fn receive<V: Record>(
        exchange: &mut Exchange<(K, V)>,
        stores: &mut Stores,
        side: usize,
        barriers: &mut Barriers,
    ) -> Result<bool> {
        let mut moved = false;
        for _ in 0..AT_ONCE {
            let Some(incoming) = exchange.receive()? else { break };
            moved = true;
            match incoming {
                // Whose they are makes no difference.
                Incoming::Batch { slot, bytes, .. } => stores.add(2 * slot as usize + side, 0, bytes)?,
                Incoming::ForAll(_) | Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => barriers.hear(side, marks),
            }
        }
        Ok(moved)
    }

    /// The same of right rows that went to all targets: each target of this rank gets all of them, in parts.
    fn receive_all(&mut self) -> Result<bool> {
        let (Some(small), Some(level)) = (&mut self.small, self.levels.first_mut()) else { return Ok(false) };
        let (grouping, mine, stores) = (self.grouping, &self.mine, &mut level.stores);
        let mut add = |part: u32, bytes: Buf| {
            let mut bytes = Some(bytes);
            for (at, target) in mine.iter().enumerate() {
                let one = if at + 1 == mine.len() { bytes.take() } else { bytes.clone() };
                let slot = grouping.slots_of(*target).start + part;
                stores.add(2 * slot as usize + 1, 0, one.unwrap_or_default())?;
            }
            Ok(())
        };
        let mut moved = false;
        for _ in 0..AT_ONCE {
            let Some(incoming) = small.all.receive()? else { break };
            moved = true;
            match incoming {
                Incoming::ForAll(bytes) => {
                    let batch = Batch::<(K, R)>::new(bytes, self.damaged.clone());
                    let part = |key: &K| grouping.part_of_hash(Grouping::hash(key));
                    self.spread.cut(batch, part, &mut add)?;
                    if self.damaged.get() {
                        return Err(self.common.whose.unreadable::<(K, R)>("a batch"));
                    }
                }
                Incoming::Batch { .. } | Incoming::Watermark(_) => {}
                Incoming::Barrier(marks) => self.barriers.hear(2, marks),
            }
        }
        if small.all.has_ended() {
            self.spread.finish(&mut add)?;
        }
        Ok(moved)
    }

    /// Moves on what is shared with other ranks, when all rows have come.
    fn share(&mut self) -> Result<bool> {
        let Some(sharing) = self.sharing.as_mut() else { return Ok(false) };
        if sharing.has_ended() {
            return sharing.wind_up();
        }
        if self.levels.len() == 1 {
            self.levels.push(Level {
                stores: Stores::new(&self.common, 2 * SHARES as usize, &Self::COUNTS),
                left: (0..SHARES).collect(),
                depth: 0,
                cut_from: u64::MAX,
                target: self.mine.first().copied(),
            });
        }
        match &mut self.levels[..] {
            [own, shared, ..] => sharing.progress(&own.left, &mut own.stores, &mut shared.stores),
            _ => Ok(false),
        }
    }

    /// Which edges have ended: left, right, right to all.
    fn ended(&self) -> [bool; 3] {
        let all = self.small.as_ref().is_none_or(|small| small.all.has_ended());
        [self.left.has_ended(), self.right.has_ended(), all]
    }
}

impl<K, L, R, J, C> Operator for Join<K, L, R, J, C>
where
    K: Key,
    L: Record,
    R: Record,
    J: Joiner<K, L, R>,
    C: Receiver<Batch<J::Output>>,
{
    /// Of both sides.
    fn finish(&mut self, source: u32) -> Result<()> {
        self.left.may_finish(source)?;
        if !self.right.has_finished(source) {
            self.finish_right(source)?;
        }
        self.left.finish(source)
    }

    /// Of both sides. (A right side that has not been found small by then goes by hash.)
    fn barrier(&mut self, source: u32, mark: Vec<u8>) -> Result<()> {
        self.left.may_come_to_barrier(source)?;
        if !self.right.has_finished(source) {
            self.right.may_come_to_barrier(source)?;
            if let Some(small) = &self.small {
                small.all.may_come_to_barrier(source)?;
            }
            self.right.barrier(source, mark.clone())?;
            if let Some(small) = &mut self.small {
                small.all.barrier(source, mark.clone())?;
                small.hurry();
            }
        }
        self.left.barrier(source, mark)
    }

    fn is_at_barrier(&self, source: u32) -> bool {
        let small = self.small.as_ref();
        self.left.is_at_barrier(source)
            || self.right.is_at_barrier(source)
            || small.is_some_and(|small| small.all.is_at_barrier(source))
    }

    fn progress(&mut self) -> Result<bool> {
        let mut moved = self.left.progress()?;
        let mut is_sent = true;
        if let Some(small) = &mut self.small {
            moved |= small.progress(self.right.have_finished())?;
            let grouping = self.grouping;
            is_sent = small.send(&mut self.right, |key| grouping.slot_of_hash(Grouping::hash(key)))?;
            // What was kept goes before the end is told.
            if is_sent || !small.all.is_about_to_end() {
                moved |= small.all.progress()?;
            }
        }
        if is_sent || !self.right.is_about_to_end() {
            moved |= self.right.progress()?;
        }
        if self.ended() != [true; 3] {
            if let Some(level) = self.levels.first_mut() {
                moved |= Self::receive(&mut self.left, &mut level.stores, 0, &mut self.barriers)?;
                moved |= Self::receive(&mut self.right, &mut level.stores, 1, &mut self.barriers)?;
            }
            moved |= self.receive_all()?;
            while let Some(marks) = self.barriers.next(self.ended()) {
                self.mine.iter().for_each(|target| self.receiver.barrier(*target, &marks));
            }
        }
        if self.ended() == [true; 3] {
            moved |= self.share()?;
            if self.sharing.as_ref().is_none_or(Sharing::has_ended) {
                moved |= self.give()?;
            }
        }
        Ok(moved)
    }

    fn is_complete(&self) -> bool {
        self.left.is_over()
            && self.right.is_over()
            && self.small.as_ref().is_none_or(SmallSide::is_over)
            && self.sharing.as_ref().is_none_or(Sharing::is_over)
            && self.giving.is_none()
            && self.outbox.is_empty()
            && self.levels.iter().all(|level| level.left.is_empty())
    }

    fn is_held_up(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn reset(&mut self) -> Result<()> {
        let whole = self.is_complete();
        self.left.reset(whole)?;
        self.right.another_round();
        self.small.as_mut().map(SmallSide::another_round).transpose()?;
        self.sharing.as_mut().into_iter().for_each(Sharing::another_round);
        self.open();
        Ok(())
    }

    fn world(&self) -> World {
        self.left.world().handle()
    }

    fn name(&self) -> (&'static OpName, u64) {
        self.left.name()
    }
}

impl<K, L, R, J, C> Insert<Side<(K, L), (K, R)>> for Join<K, L, R, J, C>
where
    K: Key,
    L: Record,
    R: Record,
    J: Joiner<K, L, R>,
    C: Receiver<Batch<J::Output>>,
{
    #[inline]
    fn insert(
        &mut self,
        source: u32,
        row: Side<(K, L), (K, R)>,
    ) -> Result<(), InsertError<Side<(K, L), (K, R)>>> {
        match row {
            Side::Left(row) => self.insert_left(source, row).map_err(|e| e.map(Side::Left)),
            Side::Right(row) => self.insert_right(source, row).map_err(|e| e.map(Side::Right)),
        }
    }
}
