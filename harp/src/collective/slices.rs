//! Collectives of plain slices, for those who have no table: the same length on all ranks.
//!
//! Ranks that share memory read each other's slices from copies in memory that they share, so that each byte is copied once more than in
//! a table, whose partitions lie there.

use super::{allgather, allreduce, broadcast, reduce};
use crate::array::{Array, Element};
use crate::brief::{self, Plan};
use crate::call::{Call, Op, fingerprint};
use crate::combiner::{Combiner, keep_first};
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::node::{ALL, INLINE, Shows};
use crate::table::Table;
use aeolian_net::shared::{Glance, Part, Shown, View, share};
use aeolian_net::{Buf, World};
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;

/// Every rank's `values` become the element-wise combination of all, in rank order, with the same bits everywhere: an
/// [`allreduce`](crate::allreduce()) of one slice.
///
/// Ranks that share memory each combine a share of the elements, and copy the others' shares.
///
/// # Errors
/// [`HarpError::Lengths`] if the ranks' slices do not have the same length.
///
/// ```
/// use aeolian_harp::{Sum, allreduce_slice};
/// let sums = aeolian_net::World::local(3, |mut world| {
///     let mut mine = [1u64, u64::from(world.rank())];
///     allreduce_slice(&mut world, &mut mine, Sum)?;
///     world.finish()?;
///     Ok(mine)
/// })?;
/// assert_eq!(sums, [[3, 3]; 3]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn allreduce_slice<T: Element, C: Combiner<[T]>>(
    world: &mut World,
    values: &mut [T],
    combiner: C,
) -> Result<()> {
    reduction(world, Op::AllreduceSlice, values, &combiner, None)
}

/// The `values` of `root` become the element-wise combination of all, in rank order; the others' stay: a [`reduce`](crate::reduce())
/// of one slice.
///
/// # Errors
/// [`HarpError::Lengths`] if the ranks' slices do not have the same length.
///
/// ```
/// use aeolian_harp::{Sum, reduce_slice};
/// let sums = aeolian_net::World::local(3, |mut world| {
///     let mut mine = [1u64, u64::from(world.rank())];
///     reduce_slice(&mut world, &mut mine, Sum, 2)?;
///     world.finish()?;
///     Ok(mine)
/// })?;
/// assert_eq!(sums, [[1, 0], [1, 1], [3, 3]]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn reduce_slice<T: Element, C: Combiner<[T]>>(
    world: &mut World,
    values: &mut [T],
    combiner: C,
    root: u32,
) -> Result<()> {
    reduction(world, Op::ReduceSlice, values, &combiner, Some(root))
}

/// All ranks' `values` become those of `root`: a [`broadcast`](crate::broadcast()) of one slice.
///
/// # Errors
/// [`HarpError::Lengths`] if a slice is not as long as the root's.
///
/// ```
/// use aeolian_harp::broadcast_slice;
/// let got = aeolian_net::World::local(3, |mut world| {
///     let mut mine = [world.rank(); 2];
///     broadcast_slice(&mut world, &mut mine, 1)?;
///     world.finish()?;
///     Ok(mine)
/// })?;
/// assert_eq!(got, [[1, 1]; 3]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn broadcast_slice<T: Element>(world: &mut World, values: &mut [T], root: u32) -> Result<()> {
    let agree = fingerprint(&[T::name().as_bytes(), &root.to_le_bytes()]);
    let plan = brief::plan::<[T], _>(|world, values| match world.rank() == root {
        true => Some(Plan::one(small(values)?, 0..0)),
        false if root < world.size() => Some(Plan::of_others(root..root + 1)),
        false => None,
    });
    let take = |view: &View<'_>, world: &World, values: &mut [T]| match view.of(root) {
        _ if world.rank() == root => Ok(true),
        Glance::One(shown) => copy(shown.bytes, values, root).map(|()| true),
        _ => Ok(false),
    };
    brief::blocking(world, Op::BroadcastSlice, agree, values, plan, take, async |call, values| {
        let here = call.rank() == call.root(root)?;
        if !call.near() {
            let mut table = Table::<T, _>::new(keep_first());
            if here {
                table.insert(0, &*values);
            }
            broadcast::body(call, &mut table, root).await?;
            return match table.get(0) {
                Some(came) if !here => copy(cast_slice(came), values, root),
                _ => Ok(()),
            };
        }
        if here {
            return call.show(0, || lend(cast_slice(values), 0..0)).await?.back().await.map(drop);
        }
        let mut view = call.show(0, Shows::new).await?;
        view.of(root).await?;
        let came = view.shown(root).next().map_or(&[][..], |shown| shown.bytes);
        copy(came, values, root)?;
        view.back().await.map(drop)
    })
}

/// `all` becomes the slices of all ranks, one after the other: an [`allgather`](crate::allgather()) of one slice each.
///
/// # Errors
/// [`HarpError::Usage`] unless `all` is as long as as many of `mine` as there are ranks, [`HarpError::Lengths`] if another rank's is
/// longer or shorter.
///
/// ```
/// use aeolian_harp::allgather_slice;
/// let got = aeolian_net::World::local(3, |mut world| {
///     let mut all = [0; 3];
///     let mine = [world.rank() * 10];
///     allgather_slice(&mut world, &mine, &mut all)?;
///     world.finish()?;
///     Ok(all)
/// })?;
/// assert_eq!(got, [[0, 10, 20]; 3]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn allgather_slice<T: Element>(world: &mut World, mine: &[T], all: &mut [T]) -> Result<()> {
    let (len, size) = (mine.len(), world.size() as usize);
    let fits = all.len() == len * size;
    let agree = fingerprint(&[T::name().as_bytes()]);
    let at = |rank: u32| rank as usize * len..(rank as usize + 1) * len;
    if fits {
        all[at(world.rank())].copy_from_slice(mine);
    }
    let plan = brief::plan::<[T], _>(|world, all| {
        Some(Plan::one(small(all.get(at(world.rank())).filter(|_| fits)?)?, 0..world.size()))
    });
    let take = |view: &View<'_>, world: &World, all: &mut [T]| {
        for rank in 0..world.size() {
            let Glance::One(shown) = view.of(rank) else { return Ok(false) };
            copy(shown.bytes, &mut all[at(rank)], rank)?;
        }
        Ok(true)
    };
    brief::blocking(world, Op::AllgatherSlice, agree, all, plan, take, async |call, all| {
        if !fits {
            return Err(HarpError::Usage(format!(
                "{len} elements of each of {size} ranks do not make {}\n  help: give room for {}",
                all.len(),
                len * size
            )));
        }
        if !call.near() {
            let mut table = Table::<T, _>::new(keep_first());
            table.insert(u64::from(call.rank()), mine);
            allgather::body(call, &mut table).await?;
            for (rank, (_, part)) in (0..call.size()).zip(table.iter()) {
                copy(cast_slice(part), &mut all[at(rank)], rank)?;
            }
            return Ok(());
        }
        let mut view = call.show(0, || lend(cast_slice(mine), 0..0)).await?;
        view.all().await?;
        for rank in (0..call.size()).filter(|&r| r != call.rank()) {
            let came = view.shown(rank).next().map_or(&[][..], |shown| shown.bytes);
            copy(came, &mut all[at(rank)], rank)?;
        }
        view.back().await.map(drop)
    })
}

/// A slice that fits a board, as it is shown there.
fn small<T: Element>(values: &[T]) -> Option<Shown<'_>> {
    let bytes = cast_slice::<T, u8>(values);
    (bytes.len() <= INLINE).then_some(Shown { id: 0, to: ALL, bytes })
}

/// What rank `from` has shown becomes `values`.
fn copy<T: Element>(bytes: &[u8], values: &mut [T], from: u32) -> Result<()> {
    let to = cast_slice_mut::<T, u8>(values);
    if to.len() != bytes.len() {
        let each = size_of::<T>().max(1);
        return Err(HarpError::Lengths {
            id: 0,
            have: to.len() / each,
            came: bytes.len() / each,
            from: Some(from),
        });
    }
    to.copy_from_slice(bytes);
    Ok(())
}

/// A copy to be lent, but for what nobody else will read.
fn lend(bytes: &[u8], but: Range<usize>) -> Shows<'static> {
    let mut buf = Buf::stale(bytes.len());
    buf[..but.start].copy_from_slice(&bytes[..but.start]);
    buf[but.end..].copy_from_slice(&bytes[but.end..]);
    Shows::from_iter([(0, ALL, Part::Lent(buf))])
}

fn reduction<T: Element, C: Combiner<[T]>>(
    world: &mut World,
    op: Op,
    values: &mut [T],
    combiner: &C,
    root: Option<u32>,
) -> Result<()> {
    let root_bytes = root.map_or([0; 4], u32::to_le_bytes);
    let agree = fingerprint(&[T::name().as_bytes(), combiner.name().as_bytes(), &root_bytes]);
    let wanted = root.is_none_or(|root| root == world.rank());
    let plan = brief::plan::<[T], _>(|world, values| {
        if root.is_some_and(|root| root >= world.size()) {
            return None;
        }
        let wait = if wanted { 0..world.size() } else { 0..0 };
        Some(Plan::one(small(values)?, wait))
    });
    let take = |view: &View<'_>, world: &World, values: &mut [T]| {
        if !wanted {
            return Ok(true);
        }
        let bytes = |rank| match view.of(rank) {
            Glance::One(shown) => Some(shown.bytes),
            _ => None,
        };
        let alike = |rank| bytes(rank).is_some_and(|bytes| bytes.len() == size_of_val(values));
        if !(0..world.size()).all(alike) {
            return Ok(false);
        }
        if world.rank() != 0 {
            copy(bytes(0).unwrap_or_default(), values, 0)?;
        }
        for rank in 1..world.size() {
            let combined =
                T::with_unit(bytes(rank).unwrap_or_default(), |other| combiner.combine(values, other));
            combined.map_err(|what| HarpError::Decode { rank, what })?;
        }
        Ok(true)
    };
    brief::blocking(world, op, agree, values, plan, take, async |call, values| {
        if let Some(root) = root {
            call.root(root)?;
        }
        // What decides must be equal on all ranks: one may be here only because a place on its board was not free. A table shows what
        // the short way does.
        let long = size_of_val(&*values) > INLINE;
        match T::element().filter(|_| call.near() && long && combiner.law().elementwise) {
            Some(element) => by_shares(call, values, combiner, root, element).await,
            None => as_table(call, values, combiner, root).await,
        }
    })
}

/// Each rank combines its share of all, and the others copy it.
async fn by_shares<T: Element, C: Combiner<[T]>>(
    call: &Call,
    values: &mut [T],
    combiner: &C,
    root: Option<u32>,
    element: usize,
) -> Result<()> {
    let me = call.rank();
    let bytes = cast_slice_mut::<T, u8>(values);
    let share_of = |rank| share(bytes.len(), element, rank, call.size());
    let shares: Vec<Range<usize>> = (0..call.size()).map(share_of).collect();
    let mut first = call.show(0, || lend(bytes, shares[me as usize].clone())).await?;
    first.all().await?;
    for rank in 0..call.size() {
        let (have, came) = (bytes.len(), first.shown(rank).next().map_or(0, |shown| shown.bytes.len()));
        if have != came {
            let (have, came) = (have / element, came / element);
            return Err(HarpError::Lengths { id: 0, have, came, from: Some(rank) });
        }
    }
    first.combine_share(bytes, element, |into, other| {
        T::with_pieces(into, other, |into, other| combiner.combine(into, other));
    })?;
    // All have combined theirs.
    let mut second = call.show(0, Shows::new).await?;
    if root.is_none_or(|root| root == me) {
        second.all().await?;
        for (rank, range) in (0..call.size()).zip(shares) {
            first.copy_share(rank, range.clone(), &mut bytes[range])?;
        }
    }
    second.back().await?;
    first.back().await.map(drop)
}

async fn as_table<T: Element, C: Combiner<[T]>>(
    call: &Call,
    values: &mut [T],
    combiner: &C,
    root: Option<u32>,
) -> Result<()> {
    let mut table = Table::<T, C>::new(combiner.clone());
    table.insert(0, Array::from(&*values));
    match root {
        Some(root) => reduce::body(call, &mut table, root).await?,
        None => allreduce::body(call, &mut table).await?,
    }
    match table.get(0) {
        Some(all) => copy(cast_slice(all), values, call.rank()),
        None => Ok(()),
    }
}
