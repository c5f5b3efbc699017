//! Collectives of tables of one small partition (or a few), on ranks that share memory: no list is made, no future polled.
//!
//! Each rank decides for itself; what it shows is what [`node`](crate::node) would show. Where another rank shows more, the call goes on
//! there.

use crate::call::{Call, Op};
use crate::check;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::node::{self, ALL, INLINE, Leaving};
use crate::partitioner::{Partitioner, place};
use crate::table::Table;
use aeolian_net::World;
use aeolian_net::shared::{Brief, Glance, Shown, View};
use smallvec::{SmallVec, smallvec};
use std::cell::Cell;
use std::ops::Range;

/// Looks at a ticket before other messages are moved, for each of what [`World::spins`] allows: many, unless the rank that is waited for may need this
/// core.
const LOOKS: u32 = 5;

/// Calls after which messages are moved even if nothing has to be waited for.
const CALLS: u64 = 64;

/// Partitions of a table that may go the short way.
pub(crate) const FEW: usize = 8;

type Parts<'p> = SmallVec<[Shown<'p>; 4]>;

/// What a call shows, and whom it waits for.
pub(crate) struct Plan<'p> {
    pub(crate) shape: u32,
    pub(crate) parts: Parts<'p>,
    pub(crate) wait: Range<u32>,
}

impl<'p> Plan<'p> {
    pub(crate) fn new(parts: Parts<'p>, wait: Range<u32>) -> Plan<'p> {
        Plan { shape: 0, parts, wait }
    }

    /// One part.
    pub(crate) fn one(part: Shown<'p>, wait: Range<u32>) -> Plan<'p> {
        Plan::new(smallvec![part], wait)
    }

    /// Only others show something.
    pub(crate) fn of_others(wait: Range<u32>) -> Plan<'p> {
        Plan::new(SmallVec::new(), wait)
    }
}

/// Says what a closure is, for [`blocking`].
pub(crate) fn plan<X: ?Sized, F>(plan: F) -> F
where
    F: for<'t> FnOnce(&World, &'t X) -> Option<Plan<'t>>,
{
    plan
}

/// The only partition of a table, if it is an array that fits a board.
pub(crate) fn only<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>, to: u32) -> Option<Shown<'_>> {
    let mut parts = table.iter();
    let (Some((id, part)), None, Some(_)) = (parts.next(), parts.next(), D::element()) else { return None };
    let bytes = D::bytes(part);
    (bytes.len() <= INLINE).then_some(Shown { id, to, bytes })
}

/// The partitions that leave a small table, if it is one of arrays; `gone` gets their ids. (Whether they fit a board is seen when they are shown.)
pub(crate) fn leaving<'t, D: Data, C: Combiner<D::Unit>>(
    world: &World,
    table: &'t Table<D, C>,
    partitioner: &(impl Partitioner + ?Sized),
    gone: &Cell<Leaving>,
) -> Option<Parts<'t>> {
    // Of a large table the partitioner is not asked twice.
    if table.len() > FEW || D::element().is_none() {
        return None;
    }
    let leaving = node::leaving(world.rank(), table, |id| place(partitioner, id, world.size())).ok()?;
    let shown = |&(id, to)| Some(Shown { id, to, bytes: D::bytes(table.get(id)?) });
    let parts = leaving.iter().map(shown).collect();
    gone.set(leaving);
    parts
}

/// What a rank shows to this one; nothing if that is more than can be seen the short way.
pub(crate) fn for_me<'v>(
    view: &'v View<'_>,
    world: &World,
    from: u32,
) -> impl Iterator<Item = Shown<'v>> + Clone + use<'v> {
    let me = world.rank();
    view.parts(from).into_iter().flatten().filter(move |shown| shown.to == me)
}

/// Runs a collective on `values`, a table or a slice. Where `plan` has one, it is tried the short way: `take` looks at what the ranks show, and says whether that was
/// all. Else `body` is run.
pub(crate) fn blocking<X: ?Sized>(
    world: &mut World,
    op: Op,
    agree: u32,
    values: &mut X,
    plan: impl for<'t> FnOnce(&World, &'t X) -> Option<Plan<'t>>,
    take: impl FnOnce(&View<'_>, &World, &mut X) -> Result<bool>,
    body: impl AsyncFnOnce(&Call, &mut X) -> Result<()>,
) -> Result<()> {
    let call = Call::begin(world, op, agree)?;
    call.enter(op);
    let outcome = short(world, &call, values, plan, take).and_then(|done| {
        if done {
            return Ok(());
        }
        world.run(async {
            call.open().await?;
            body(&call, values).await.map_err(|e| call.of_job(e))
        })
    });
    world.leave();
    outcome
}

/// True if the call is done.
fn short<X: ?Sized>(
    world: &mut World,
    call: &Call,
    values: &mut X,
    plan: impl for<'t> FnOnce(&World, &'t X) -> Option<Plan<'t>>,
    take: impl FnOnce(&View<'_>, &World, &mut X) -> Result<bool>,
) -> Result<bool> {
    if !call.near() {
        return Ok(false);
    }
    if world.has_tasks() || call.number().is_multiple_of(CALLS) {
        world.progress()?;
    }
    let (brief, wait) = {
        let Some(plan) = plan(world, values) else { return Ok(false) };
        let (number, tag) = call.coming_exposure();
        let Some(brief) = world.try_brief(number, tag, plan.shape, &plan.parts) else { return Ok(false) };
        (brief, plan.wait)
    };
    call.next_exposure()?;
    if !brief.ready(wait.clone(), LOOKS * world.spins().max(1)) {
        wait_long(world, call, &brief, wait)?;
    }
    let done = take(&brief.view(), world, values).map_err(|e| call.of_job(e))?;
    if !done {
        call.keep(brief.into_exposure()?);
    }
    Ok(done)
}

#[cold]
fn wait_long(world: &mut World, call: &Call, brief: &Brief, wait: Range<u32>) -> Result<()> {
    let spins = world.spins().max(1);
    world.wait_until(|_| {
        if brief.ready(wait.clone(), spins) {
            return Ok(Some(Ok(())));
        }
        Ok(brief.parted().map(|(rank, ticket)| Err(call.parted(rank, ticket))))
    })?
}

/// The only partition becomes the combination of all ranks', if all have one of that id and length.
pub(crate) fn combine<D: Data, C: Combiner<D::Unit>>(
    view: &View<'_>,
    world: &World,
    table: &mut Table<D, C>,
) -> Result<bool> {
    let (me, size) = (world.rank(), world.size());
    let Some(Shown { id, bytes: mine, .. }) = only(table, ALL) else { return Ok(false) };
    let alike = |rank| matches!(view.of(rank), Glance::One(s) if s.id == id && s.bytes.len() == mine.len());
    if !(0..size).all(|rank| rank == me || alike(rank)) {
        return Ok(false);
    }
    let bytes = |rank| match view.of(rank) {
        Glance::One(shown) => shown.bytes,
        _ => &[],
    };
    if cfg!(debug_assertions)
        && size > 1
        && let (Ok(one), Ok(other)) = (D::from_bytes(bytes(0)), D::from_bytes(bytes(1)))
    {
        check::by_the_way::<D, C>(table.combiner(), id, &one, &other)?;
    }
    if me != 0 {
        table.overwrite(std::iter::once(bytes(0)));
    }
    for rank in 1..size {
        table.add_bytes(id, bytes(rank), rank)?;
    }
    Ok(true)
}

/// The table also gets what the others show, if no two ranks have the same id: as far as can be seen at once, from ascending ids.
pub(crate) fn unite<D: Data, C: Combiner<D::Unit>>(
    view: &View<'_>,
    world: &World,
    table: &mut Table<D, C>,
) -> Result<bool> {
    let mut before = None;
    for rank in 0..world.size() {
        match view.of(rank) {
            Glance::One(shown) if before.is_none_or(|id| id < shown.id) => before = Some(shown.id),
            _ => return Ok(false),
        }
    }
    for rank in (0..world.size()).filter(|&r| r != world.rank()) {
        if let Glance::One(shown) = view.of(rank) {
            table.add_bytes(shown.id, shown.bytes, rank)?;
        }
    }
    Ok(true)
}
