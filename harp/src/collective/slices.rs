//! Collectives of plain slices, for those who have no table: the same length on all ranks.
//!
//! Ranks of one node copy from each other's slices where they lie, by a system call (`process_vm_readv`) for what is long. Where the system does not allow that,
//! and for what is short, a slice is first copied into memory that they share, where the partitions of a table lie from the start.

use super::{allgather, allreduce, broadcast, reduce};
use crate::array::{Array, Element};
use crate::brief::{self, Plan};
use crate::call::{Call, MPI_FROM_OF_SLICES, Op, Pending, fingerprint, starting};
use crate::combiner::{Combiner, keep_first};
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::node::{self, ALL, INLINE, Shows};
use crate::table::Table;
use aeolian_net::shared::{Glance, Part, Shown, View, share};
use aeolian_net::{Buf, World, buffer};
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;

/// Bytes that are combined at once: the operands stay in the first-level cache.
const PIECE: usize = 16 << 10;

/// As above, if the system has to copy them: few calls, and the operands stay in the second-level cache.
const PRIVATE_PIECE: usize = 128 << 10;

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

/// Starts an [`allreduce_slice`]; the values come back combined.
///
/// ```
/// use aeolian_harp::{Sum, iallreduce_slice};
/// aeolian_net::World::local(3, |mut world| {
///     let sums = iallreduce_slice(&world, vec![1u64, u64::from(world.rank())], Sum)?;
///     // ... what does not need them ...
///     assert_eq!(sums.wait()?, [3, 3]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn iallreduce_slice<T: Element, C: Combiner<[T]> + 'static>(
    world: &World,
    values: Vec<T>,
    combiner: C,
) -> Result<Pending<Vec<T>>> {
    started_reduction(world, Op::AllreduceSlice, values, combiner, None)
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

/// Starts a [`reduce_slice`]; the values come back, at the root combined.
pub fn ireduce_slice<T: Element, C: Combiner<[T]> + 'static>(
    world: &World,
    values: Vec<T>,
    combiner: C,
    root: u32,
) -> Result<Pending<Vec<T>>> {
    started_reduction(world, Op::ReduceSlice, values, combiner, Some(root))
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
    let agree = agree_on_root::<T>(root);
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
        spread(call, values, root).await
    })
}

/// Starts a [`broadcast_slice`]; the values come back as the root's.
pub fn ibroadcast_slice<T: Element>(world: &World, mut values: Vec<T>, root: u32) -> Result<Pending<Vec<T>>> {
    starting(world, Op::BroadcastSlice, agree_on_root::<T>(root), async move |call| {
        spread(call, &mut values, root).await?;
        Ok(values)
    })
}

fn agree_on_root<T: Element>(root: u32) -> u32 {
    fingerprint(&[T::name().as_bytes(), &root.to_le_bytes()])
}

async fn spread<T: Element>(call: &Call, values: &mut [T], root: u32) -> Result<()> {
    let here = call.rank() == call.root(root)?;
    if !call.near() {
        let mut table = Table::<T, _>::new(keep_first());
        if here {
            table.insert(0, &*values);
        }
        call.mpi_from().set(MPI_FROM_OF_SLICES);
        broadcast::body(call, &mut table, root).await?;
        return match table.get(0) {
            Some(came) if !here => copy(cast_slice(came), values, root),
            _ => Ok(()),
        };
    }
    if here {
        return call.show(0, || private(values)).await?.back().await.map(drop);
    }
    let mut view = call.show(0, Shows::new).await?;
    view.of(root).await?;
    same_length(&view, values, root)?;
    view.fetch(root, 0, cast_slice_mut(values)).await?;
    view.back().await.map(drop)
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
    let shown = fits && small(mine).is_some();
    if shown {
        copy(cast_slice(mine), &mut all[at(world.rank())], world.rank())?;
    }
    let plan = brief::plan::<[T], _>(|world, all| {
        Some(Plan::one(small(all.get(at(world.rank())).filter(|_| shown)?)?, 0..world.size()))
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
        collect(call, mine, all).await
    })
}

/// Starts an [`allgather_slice`]; the slices of all ranks come back, one after the other.
pub fn iallgather_slice<T: Element>(world: &World, mine: Vec<T>) -> Result<Pending<Vec<T>>> {
    let agree = fingerprint(&[T::name().as_bytes()]);
    starting(world, Op::AllgatherSlice, agree, async move |call| {
        let mut all = vec![T::zeroed(); mine.len() * call.size() as usize];
        collect(call, &mine, &mut all).await?;
        Ok(all)
    })
}

/// `all` has room for as many of `mine` as there are ranks.
async fn collect<T: Element>(call: &Call, mine: &[T], all: &mut [T]) -> Result<()> {
    let len = mine.len();
    let at = |rank: u32| rank as usize * len..(rank as usize + 1) * len;
    if !call.near() {
        let mut table = Table::<T, _>::new(keep_first());
        table.insert(u64::from(call.rank()), mine);
        allgather::body(call, &mut table).await?;
        for (rank, (_, part)) in (0..call.size()).zip(table.iter()) {
            copy(cast_slice(part), &mut all[at(rank)], rank)?;
        }
        return Ok(());
    }
    let mut view = call.show(0, || private(mine)).await?;
    copy(cast_slice(mine), &mut all[at(call.rank())], call.rank())?;
    view.all_for_shares().await?;
    view.settle();
    (0..call.size()).try_for_each(|rank| same_length(&view, mine, rank))?;
    // Not all from the same rank at once.
    for rank in (1..call.size()).map(|i| (call.rank() + i) % call.size()) {
        view.fetch(rank, 0, cast_slice_mut(&mut all[at(rank)])).await?;
    }
    view.back().await.map(drop)
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
    buffer::copy(bytes, to);
    Ok(())
}

/// A slice to be read where it lies, and left alone until the view is back.
fn private<T: Element>(values: &[T]) -> Shows<'_> {
    Shows::from_iter([(0, ALL, Part::Private(cast_slice(values)))])
}

/// Whether rank `from` shows a slice as long as this one.
fn same_length<T: Element>(view: &node::View<'_>, values: &[T], from: u32) -> Result<()> {
    let came = view.lengths(from).next().unwrap_or(0);
    if came == size_of_val(values) {
        return Ok(());
    }
    Err(HarpError::Lengths {
        id: 0,
        have: values.len(),
        came: came / size_of::<T>().max(1),
        from: Some(from),
    })
}

fn reduction<T: Element, C: Combiner<[T]>>(
    world: &mut World,
    op: Op,
    values: &mut [T],
    combiner: &C,
    root: Option<u32>,
) -> Result<()> {
    let agree = agree_on_reduction::<T>(combiner.name(), root);
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
        reduced(call, values, combiner, root).await
    })
}

fn started_reduction<T: Element, C: Combiner<[T]> + 'static>(
    world: &World,
    op: Op,
    mut values: Vec<T>,
    combiner: C,
    root: Option<u32>,
) -> Result<Pending<Vec<T>>> {
    let agree = agree_on_reduction::<T>(combiner.name(), root);
    starting(world, op, agree, async move |call| {
        reduced(call, &mut values, &combiner, root).await?;
        Ok(values)
    })
}

fn agree_on_reduction<T: Element>(combiner: &str, root: Option<u32>) -> u32 {
    let root = root.map_or([0; 4], u32::to_le_bytes);
    fingerprint(&[T::name().as_bytes(), combiner.as_bytes(), &root])
}

async fn reduced<T: Element, C: Combiner<[T]>>(
    call: &Call,
    values: &mut [T],
    combiner: &C,
    root: Option<u32>,
) -> Result<()> {
    if let Some(root) = root {
        call.root(root)?;
    }
    if !call.near() {
        return as_table(call, values, combiner, root).await;
    }
    // A short slice goes as it does the short way, which another rank may have gone: one may be here only because a place on its board was
    // not free.
    let long = size_of_val(&*values) > INLINE;
    match (T::element().filter(|_| long && combiner.law().elementwise), root) {
        (Some(element), Some(root)) if call.size() == 2 => {
            at_root(call, values, combiner, root, element).await
        }
        (Some(element), _) => by_shares(call, values, combiner, root, element).await,
        (None, _) => by_each(call, values, combiner, root).await,
    }
}

/// Every rank that wants the combination makes it.
async fn by_each<T: Element, C: Combiner<[T]>>(
    call: &Call,
    values: &mut [T],
    combiner: &C,
    root: Option<u32>,
) -> Result<()> {
    let me = call.rank();
    let mut view = call.show(0, || private(values)).await?;
    if root.is_some_and(|root| root != me) {
        return view.back().await.map(drop);
    }
    view.all_for_shares().await?;
    view.settle();
    (0..call.size()).try_for_each(|rank| same_length(&view, values, rank))?;
    // The others still read this rank's own.
    let mut all = values.to_vec();
    if me != 0 {
        view.fetch(0, 0, cast_slice_mut(&mut all)).await?;
    }
    let mut other = if call.size() > 2 || me == 0 { values.to_vec() } else { Vec::new() };
    for rank in 1..call.size() {
        if rank == me {
            combiner.combine(&mut all, values);
        } else {
            view.fetch(rank, 0, cast_slice_mut(&mut other)).await?;
            combiner.combine(&mut all, &other);
        }
    }
    view.back().await?;
    values.copy_from_slice(&all);
    Ok(())
}

/// Of two ranks the root reads the other's slice as a whole: combining only a share of it, it would have the rest to read all the same.
async fn at_root<T: Element, C: Combiner<[T]>>(
    call: &Call,
    values: &mut [T],
    combiner: &C,
    root: u32,
    element: usize,
) -> Result<()> {
    if call.rank() != root {
        return call.show(0, || private(values)).await?.back().await.map(drop);
    }
    let mut view = call.show(0, Shows::new).await?;
    let other = (0..call.size()).filter(|&rank| rank != root);
    for rank in other {
        view.of(rank).await?;
        same_length(&view, values, rank)?;
    }
    let bytes = cast_slice_mut::<T, u8>(values);
    let step = piece(&view, element);
    let mut scratch = Buf::stale(step.min(bytes.len()));
    let mut combined = Buf::stale(if root == 0 { 0 } else { scratch.len() });
    for range in pieces(0..bytes.len(), step) {
        let own = &mut bytes[range.clone()];
        if root == 0 {
            combine_piece::<T, _>(&view, range, own, None, &mut scratch, combiner).await?;
        } else {
            let into = &mut combined[..range.len()];
            combine_piece::<T, _>(&view, range, into, Some(own), &mut scratch, combiner).await?;
            buffer::copy(into, own);
        }
    }
    view.back().await.map(drop)
}

/// Each rank combines its share of all, and who wants them copies the others'.
async fn by_shares<T: Element, C: Combiner<[T]>>(
    call: &Call,
    values: &mut [T],
    combiner: &C,
    root: Option<u32>,
    element: usize,
) -> Result<()> {
    let (me, size) = (call.rank(), call.size());
    let wanted = |rank| root.is_none_or(|root| root == rank);
    let mut first = call.show(0, || private(values)).await?;
    first.all_for_shares().await?;
    if let Err(e) = (0..size).try_for_each(|rank| same_length(&first, values, rank)) {
        // All ranks see it.
        first.settle();
        return Err(e);
    }
    let bytes = cast_slice_mut::<T, u8>(values);
    let len = bytes.len();
    let share_of = |rank| share(len, element, rank, size);
    let mine = share_of(me);
    let for_others = (0..size).any(|rank| rank != me && wanted(rank));
    let mut combined = Buf::stale(if for_others { mine.len() } else { 0 });
    let step = piece(&first, element);
    let mut scratch = Buf::stale(step.min(mine.len()));
    let mut spare = Buf::stale(if for_others || me == 0 { 0 } else { scratch.len() });
    for range in pieces(mine.clone(), step) {
        // Nobody else reads this rank's share of its own.
        let own = &mut bytes[range.clone()];
        let at = range.start - mine.start..range.end - mine.start;
        if me == 0 && wanted(me) {
            combine_piece::<T, _>(&first, range, own, None, &mut scratch, combiner).await?;
            if for_others {
                buffer::copy(own, &mut combined[at]);
            }
            continue;
        }
        let into = if for_others { &mut combined[at] } else { &mut spare[..range.len()] };
        if me == 0 {
            buffer::copy(own, into);
        }
        let mine = (me != 0).then_some(&*own);
        combine_piece::<T, _>(&first, range, into, mine, &mut scratch, combiner).await?;
        if wanted(me) {
            buffer::copy(into, own);
        }
    }
    first.settle();
    first.done();
    let mut second =
        call.show(0, || for_others.then_some((0, ALL, Part::Given(combined))).into_iter().collect()).await?;
    // All have combined theirs, and read this rank's.
    if wanted(me) {
        second.all().await?;
        for rank in (1..size).map(|i| (me + i) % size) {
            second.fetch(rank, 0, &mut bytes[share_of(rank)]).await?;
        }
    }
    second.back().await?;
    first.back().await.map(drop)
}

/// Bytes of a piece: of whole elements, and such as begin on the boundaries of lines if the first does.
fn piece(view: &node::View<'_>, element: usize) -> usize {
    let private = (0..view.size()).any(|rank| rank != view.rank() && view.shows_private(rank));
    let bytes = if private { PRIVATE_PIECE } else { PIECE };
    (bytes / element / 64).max(1) * element * 64
}

fn pieces(of: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = of.end;
    of.step_by(step).map(move |start| start..(start + step).min(end))
}

/// `into` becomes the combination of a piece of what all ranks show, in their order. This rank's is `own`; if that is of rank 0, it is
/// `into` already, and `own` is `None`.
async fn combine_piece<T: Element, C: Combiner<[T]>>(
    view: &node::View<'_>,
    piece: Range<usize>,
    into: &mut [u8],
    own: Option<&[u8]>,
    scratch: &mut [u8],
    combiner: &C,
) -> Result<()> {
    let me = view.rank();
    if own.is_some() {
        view.fetch(0, piece.start, into).await?;
    }
    for rank in 1..view.size() {
        let other = match (view.shown(rank).next(), own) {
            (_, Some(own)) if rank == me => own,
            (Some(shown), _) if shown.bytes.len() >= piece.end => &shown.bytes[piece.clone()],
            _ => {
                let other = &mut scratch[..piece.len()];
                view.fetch(rank, piece.start, other).await?;
                other
            }
        };
        T::with_pieces(into, other, |into, other| combiner.combine(into, other));
    }
    Ok(())
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
