//! Collectives of ranks that share memory: everybody shows what it has, and takes what it needs from where it lies.

use crate::call::Call;
use crate::check;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::table::{Parts, Table};
use aeolian_net::shared::{Exposure, Part, Shown};
use aeolian_net::{Buf, World};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;
use std::time::{Duration, Instant};

pub(crate) use aeolian_net::shared::{ALL, INLINE, Shows};

/// The job knows why a rank is gone after this time (two seconds for an exit that nobody reports).
const VERDICT: Duration = Duration::from_secs(10);

/// Whether a part is worth dividing among the ranks (and lies open, as a rule).
fn in_place(len: usize) -> bool {
    len == 0 || len >= INLINE
}

/// Polls `ready` a while before it lets others move.
async fn until<T>(spins: u32, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    poll_fn(|_| {
        for _ in 0..=spins {
            match ready() {
                Ok(None) => std::hint::spin_loop(),
                Ok(Some(value)) => return Poll::Ready(Ok(value)),
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Pending
    })
    .await
}

/// What this rank shows in a call, and sees of the others.
pub(crate) struct View<'c> {
    call: &'c Call,
    exposure: Exposure,
}

impl Call {
    /// Shows `parts` to the ranks of this world, which share memory. `shape` is a fingerprint of ids and lengths, for those
    /// who want to know whether all have the same.
    pub(crate) async fn show<'p>(&self, shape: u32, parts: impl FnOnce() -> Shows<'p>) -> Result<View<'_>> {
        if let Some(exposure) = self.kept() {
            return Ok(View { call: self, exposure });
        }
        let (number, tag) = self.next_exposure()?;
        let mut parts = Some(parts);
        let exposure = until(self.world().spins(), || {
            Ok(self
                .world()
                .try_expose(number, tag, shape, || parts.take().map_or_else(Shows::new, |parts| parts()))?)
        })
        .await?;
        Ok(View { call: self, exposure })
    }

    /// The first call of a world whose ranks share memory brings their boards together.
    pub(crate) async fn open_boards(&self) -> Result<()> {
        let world = self.world();
        if !self.near() || world.boards_open() {
            return Ok(());
        }
        if !self.is_first() {
            return until(0, || Ok(world.boards_open().then_some(()))).await;
        }
        let card = world.board_card()?;
        let (rank, size) = (self.rank(), self.size());
        for peer in (0..size).filter(|&r| r != rank) {
            self.send(peer, card.clone()).await?;
        }
        let mut cards = Vec::with_capacity(size as usize);
        for peer in 0..size {
            cards.push(if peer == rank { card.clone() } else { self.recv(peer).await? });
        }
        Ok(world.open_boards(&cards)?)
    }
}

impl View<'_> {
    /// Waits until all ranks show theirs.
    pub(crate) async fn all(&mut self) -> Result<()> {
        self.wait(|exposure| Ok(exposure.poll_all()?)).await
    }

    /// Waits until one rank shows its.
    pub(crate) async fn of(&mut self, rank: u32) -> Result<()> {
        self.wait(|exposure| Ok(exposure.poll_one(rank)?)).await
    }

    async fn wait(&mut self, mut ready: impl FnMut(&mut Exposure) -> Result<bool>) -> Result<()> {
        let (call, exposure) = (self.call, &mut self.exposure);
        let mut fruitless = 0u32;
        until(call.world().spins(), || {
            if ready(exposure)? {
                return Ok(Some(()));
            }
            fruitless = fruitless.wrapping_add(1);
            if fruitless.is_multiple_of(64)
                && let Some((rank, ticket)) = exposure.parted()
            {
                return Err(call.parted(rank, ticket));
            }
            Ok(None)
        })
        .await
    }

    /// What a rank shows.
    pub(crate) fn shown(&self, rank: u32) -> impl ExactSizeIterator<Item = Shown<'_>> + Clone {
        self.exposure.shown(rank)
    }

    /// Whether all ranks show the same ids with the same lengths.
    pub(crate) fn same_shape(&self) -> bool {
        let mine = self.exposure.shape(self.call.rank());
        let ids = |rank| self.exposure.outline(rank).map(|(id, _, len)| (id, len));
        (0..self.call.size()).all(|r| self.exposure.shape(r) == mine)
            && (1..self.call.size()).all(|r| ids(r).eq(ids(0)))
    }

    /// Whether all ranks show as many parts, of the same lengths one by one, that may change places.
    fn exchangeable(&self) -> bool {
        let lengths = |rank| self.exposure.outline(rank).map(|(_, _, len)| len);
        lengths(0).all(in_place) && (1..self.call.size()).all(|rank| lengths(rank).eq(lengths(0)))
    }

    /// As [`all`](View::all), where every rank then changes its share of what all show: one that cannot must not leave the others waiting.
    pub(crate) async fn all_for_shares(&mut self) -> Result<()> {
        self.exposure.owe();
        let outcome = self.all().await;
        if let Err(e) = &outcome {
            self.call.world().fail(e.exit_code(), e.to_string(), "");
        }
        outcome
    }

    /// See [`Exposure::rewrite`].
    pub(crate) fn rewrite(
        &mut self,
        part: usize,
        element: usize,
        root: Option<u32>,
        combine: impl FnMut(&mut [u8], &[u8]),
    ) -> Result<()> {
        Ok(self.exposure.rewrite(part, element, root, combine)?)
    }

    pub(crate) fn rank(&self) -> u32 {
        self.call.rank()
    }

    pub(crate) fn size(&self) -> u32 {
        self.call.size()
    }

    /// The lengths of what a rank shows, in bytes.
    pub(crate) fn lengths(&self, rank: u32) -> impl Iterator<Item = usize> {
        self.exposure.outline(rank).map(|(.., len)| len)
    }

    /// See [`Exposure::shows_private`].
    pub(crate) fn shows_private(&self, rank: u32) -> bool {
        self.exposure.shows_private(rank)
    }

    /// See [`Exposure::fetch`]. Of a rank that has left the call or is gone the job hears better from others: its verdict is waited for.
    pub(crate) async fn fetch(&self, rank: u32, from: usize, into: &mut [u8]) -> Result<()> {
        let Err(e) = self.exposure.fetch(rank, 0, from, into) else { return Ok(()) };
        let end = Instant::now() + VERDICT;
        until(0, || Ok((Instant::now() >= end).then_some(()))).await?;
        self.call.world().fail(e.exit_code(), e.to_string(), "");
        Err(e.into())
    }

    /// See [`Exposure::settle`].
    pub(crate) fn settle(&mut self) {
        self.exposure.settle();
    }

    /// This rank has taken all it needs of what the others show.
    pub(crate) fn done(&mut self) {
        self.exposure.done();
    }

    /// This rank has taken all it needs, and waits for what it has lent.
    pub(crate) async fn back(mut self) -> Result<SmallVec<[Buf; 1]>> {
        let spins = self.call.world().spins();
        self.exposure.done();
        if self.exposure.is_on_board() {
            return Ok(SmallVec::new());
        }
        until(spins, || Ok(self.exposure.poll_reclaim())).await
    }
}

/// The ids of partitions that are lent, in the order of their buffers.
pub(crate) struct Lent(SmallVec<[u64; 1]>);

impl Lent {
    /// The parts to show to all ranks: until they are back, the table's partitions are empty.
    pub(crate) fn of<D: Data, C: Combiner<D::Unit>>(
        table: &mut Table<D, C>,
    ) -> Result<(Lent, Shows<'static>)> {
        let mut shown = Shows::with_capacity(table.len());
        Ok((Lent::to(table, ALL, &mut shown)?, shown))
    }

    /// As [`of`](Lent::of), for one rank, behind what is shown besides.
    fn to<D: Data, C: Combiner<D::Unit>>(
        table: &mut Table<D, C>,
        to: u32,
        shown: &mut Shows<'static>,
    ) -> Result<Lent> {
        let mut ids = SmallVec::with_capacity(table.len());
        for (id, part) in table.iter_mut() {
            let buf = D::lend(part).map_err(|what| HarpError::Encode { id, what })?;
            shown.push((id, to, Part::Lent(buf)));
            ids.push(id);
        }
        Ok(Lent(ids))
    }

    /// They come back under these ids, ascending and as many.
    fn renamed<D: Data, C: Combiner<D::Unit>>(
        self,
        table: &mut Table<D, C>,
        ids: SmallVec<[u64; 1]>,
    ) -> Lent {
        if ids != self.0 {
            for (part, id) in table.take().into_iter().zip(&ids) {
                table.insert(*id, part.1);
            }
        }
        Lent(ids)
    }

    /// The table gets them back.
    pub(crate) fn back<D: Data, C: Combiner<D::Unit>>(
        self,
        table: &mut Table<D, C>,
        bufs: impl IntoIterator<Item = Buf>,
    ) -> Result<()> {
        for (id, buf) in self.0.into_iter().zip(bufs) {
            if let Some(part) = table.get_mut(id) {
                D::give_back(part, buf).map_err(|what| HarpError::Encode { id, what })?;
            }
        }
        Ok(())
    }
}

/// The partitions of a small table, to be copied to the board.
pub(crate) fn copied<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>, to: u32) -> Shows<'_> {
    table.iter().map(|(id, part)| (id, to, Part::Copied(D::bytes(part)))).collect()
}

/// Whether all of a table goes on the board.
pub(crate) fn is_small<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>) -> bool {
    table.bytes().is_some_and(|n| n <= INLINE)
}

/// The table becomes what the ranks in `of` show, combined in their order; if there is a root, there, and nothing elsewhere.
pub(crate) async fn gathered<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    of: Range<u32>,
    root: Option<u32>,
) -> Result<()> {
    let me = call.rank();
    let mut lent = None;
    let mut view = if is_small(table) {
        call.show(0, || copied(table, ALL)).await?
    } else {
        let (kept, parts) = Lent::of(table)?;
        lent = Some(kept);
        call.show(0, || parts).await?
    };
    if root.is_some_and(|root| root != me) {
        view.back().await?;
        table.clear();
        return Ok(());
    }
    view.all().await?;
    // What only this rank has needs no copy.
    let also_here = |rank| view.shown(rank).any(|shown| table.get(shown.id).is_some());
    let alone = of.contains(&me) && !of.clone().any(|rank| rank != me && also_here(rank));
    if !alone {
        table.clear();
    }
    for rank in of.filter(|&r| r != me || !alone) {
        for shown in view.shown(rank) {
            table.add_bytes(shown.id, shown.bytes, rank)?;
        }
    }
    let bufs = view.back().await?;
    match lent {
        Some(lent) if alone => lent.back(table, bufs),
        _ => Ok(()),
    }
}

/// In builds with debug assertions: whether the combiner is associative for what the first two ranks show.
fn check_first<D: Data, C: Combiner<D::Unit>>(view: &View<'_>, combiner: &C) -> Result<()> {
    if !cfg!(debug_assertions) || view.call.size() < 2 {
        return Ok(());
    }
    let Some((a, b)) = view.shown(0).find_map(|a| Some((a, view.shown(1).find(|b| b.id == a.id)?))) else {
        return Ok(());
    };
    match (D::from_bytes(a.bytes), D::from_bytes(b.bytes)) {
        (Ok(one), Ok(other)) => check::by_the_way::<D, C>(combiner, a.id, &one, &other),
        _ => Ok(()),
    }
}

/// The table becomes the combination of all in the order of the ranks, on all of them or at the root; elsewhere it becomes empty.
pub(crate) async fn reduced<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: Option<u32>,
) -> Result<()> {
    let me = call.rank();
    let wanted = root.is_none_or(|root| root == me);
    let shape = table.shape();
    if is_small(table) {
        let mut view = call.show(shape, || copied(table, ALL)).await?;
        if !wanted {
            table.clear();
            view.back().await?;
            return Ok(());
        }
        view.all().await?;
        check_first::<D, C>(&view, table.combiner())?;
        combine_all(&view, table)?;
        return view.back().await.map(drop);
    }
    let (lent, parts) = Lent::of(table)?;
    let mut view = call.show(shape, || parts).await?;
    view.all_for_shares().await?;
    // All ranks come to the same answer: they look at the same.
    let in_place = D::element().filter(|_| table.combiner().law().elementwise && view.same_shape());
    if let Some(element) = in_place {
        let count = view.shown(me).len();
        for part in 0..count {
            view.rewrite(part, element, root, |into, other| {
                D::with_pieces(into, other, |into, other| table.combiner().combine(into, other));
            })?;
        }
        view.exposure.settle();
        let mine = view.back().await?;
        if wanted {
            return lent.back(table, mine);
        }
        table.clear();
        return Ok(());
    }
    view.exposure.settle();
    table.clear();
    check_first::<D, C>(&view, table.combiner())?;
    if wanted {
        combine_all(&view, table)?;
    }
    view.back().await.map(drop)
}

/// The table becomes the combination of what all show, in the order of the ranks. What it has is what this rank shows, or nothing.
fn combine_all<D: Data, C: Combiner<D::Unit>>(view: &View<'_>, table: &mut Table<D, C>) -> Result<()> {
    let parts = |rank| view.shown(rank).map(|shown| (shown.id, shown.bytes));
    // Rank 0 has its own already.
    if view.call.rank() != 0 || table.is_empty() {
        table.become_bytes(parts(0), 0)?;
    }
    for rank in 1..view.call.size() {
        for (id, bytes) in parts(rank) {
            table.add_bytes(id, bytes, rank)?;
        }
    }
    Ok(())
}

/// Every table goes to another rank: that of rank `sources[r]` to rank `r`. Tables of the same lengths change places where they lie, each
/// rank moving a share of all of them; else each rank copies what it gets.
pub(crate) async fn rotated<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    sources: &[u32],
) -> Result<()> {
    let from = sources[call.rank() as usize];
    if is_small(table) {
        let mut view = call.show(0, || copied(table, ALL)).await?;
        view.of(from).await?;
        table.become_bytes(view.shown(from).map(|shown| (shown.id, shown.bytes)), from)?;
        return view.back().await.map(drop);
    }
    let (lent, parts) = Lent::of(table)?;
    let mut view = call.show(0, || parts).await?;
    view.all_for_shares().await?;
    // All ranks come to the same answer: they look at the same.
    if D::element().is_none() || !view.exchangeable() {
        view.exposure.settle();
        table.clear();
        table.become_bytes(view.shown(from).map(|shown| (shown.id, shown.bytes)), from)?;
        return view.back().await.map(drop);
    }
    let ids: SmallVec<[u64; 1]> = view.exposure.outline(from).map(|(id, ..)| id).collect();
    for part in 0..ids.len() {
        view.exposure.permute(part, sources)?;
    }
    view.exposure.settle();
    let bufs = view.back().await?;
    lent.renamed(table, ids).back(table, bufs)
}

/// `tables[r]`, of arrays, goes to rank `r`, and becomes what comes from there. Two large tables of the same lengths change places where they lie,
/// each of the two ranks moving one half; else each copies what it gets.
pub(crate) async fn swapped<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    tables: &mut [Table<D, C>],
) -> Result<()> {
    let me = call.rank();
    let others = || (0..call.size()).filter(|&rank| rank != me);
    let outgoing: Option<usize> = others().map(|to| tables[to as usize].bytes()).sum();
    let come = |view: &View<'_>, table: &mut Table<D, C>, from| {
        let for_me = view.shown(from).filter(|shown| shown.to == me);
        table.become_bytes(for_me.map(|shown| (shown.id, shown.bytes)), from)
    };
    if outgoing.is_some_and(|bytes| bytes <= INLINE) {
        let copies = || others().flat_map(|to| copied(&tables[to as usize], to)).collect();
        let mut view = call.show(0, copies).await?;
        view.all().await?;
        for from in others() {
            come(&view, &mut tables[from as usize], from)?;
        }
        return view.back().await.map(drop);
    }
    let (mut lent, mut parts) = (Vec::with_capacity(tables.len()), Shows::new());
    for to in others() {
        lent.push(Lent::to(&mut tables[to as usize], to, &mut parts)?);
    }
    let mut view = call.show(0, || parts).await?;
    view.all_for_shares().await?;
    let mut back = Vec::with_capacity(lent.len());
    for (peer, lent) in others().zip(lent) {
        // Which parts of one rank are for the other. Both come to the same answer: they look at the same.
        let of = |from, to| (0..).zip(view.exposure.outline(from)).filter(move |(_, part)| part.1 == to);
        let lengths = |from, to| of(from, to).map(|(_, (_, _, len))| len);
        // What fits a board may have been copied there, and would not come back from it.
        let large = lengths(me, peer).sum::<usize>() > INLINE && lengths(me, peer).all(in_place);
        if !large || !lengths(me, peer).eq(lengths(peer, me)) {
            let table = &mut tables[peer as usize];
            table.clear();
            come(&view, table, peer)?;
            back.push((peer, lent, None));
            continue;
        }
        let ids = of(peer, me).map(|(_, (id, ..))| id).collect();
        let pairs = of(me, peer).zip(of(peer, me)).map(|((mine, _), (theirs, _))| (mine, theirs));
        for (mine, theirs) in pairs.collect::<SmallVec<[(usize, usize); 4]>>() {
            view.exposure.swap(mine, peer, theirs)?;
        }
        back.push((peer, lent, Some(ids)));
    }
    view.exposure.settle();
    let mut bufs = view.back().await?.into_iter();
    for (peer, lent, ids) in back {
        let (table, bufs) = (&mut tables[peer as usize], bufs.by_ref().take(lent.0.len()));
        match ids {
            Some(ids) => lent.renamed(table, ids).back(table, bufs)?,
            None => bufs.for_each(drop),
        }
    }
    Ok(())
}

/// What goes to other ranks is shown, and each takes what is for it: the parts to show, and what stays.
fn outward<D: Data>(call: &Call, outgoing: Vec<Parts<D>>) -> Result<(Shows<'static>, Parts<D>)> {
    let mut stay = Vec::new();
    let mut parts = Shows::with_capacity(outgoing.iter().map(Vec::len).sum());
    for (list, to) in outgoing.into_iter().zip(0..) {
        if to == call.rank() {
            stay = list;
            continue;
        }
        for (id, part) in list {
            let buf = D::into_buf(part).map_err(|what| HarpError::Encode { id, what })?;
            parts.push((id, to, Part::Given(buf)));
        }
    }
    Ok((parts, stay))
}

/// As [`exchange::parts`](crate::exchange::parts).
pub(crate) async fn exchanged<D: Data>(call: &Call, outgoing: Vec<Parts<D>>) -> Result<Vec<Parts<D>>> {
    let me = call.rank();
    let (parts, mut stay) = outward::<D>(call, outgoing)?;
    let mut view = call.show(0, || parts).await?;
    view.all().await?;
    let mut incoming = Vec::with_capacity(call.size() as usize);
    for rank in 0..call.size() {
        let mut list = if rank == me { std::mem::take(&mut stay) } else { Vec::new() };
        for shown in view.shown(rank).filter(|s| s.to == me) {
            let part = D::from_bytes(shown.bytes)
                .map_err(|e| HarpError::Decode { rank, what: format!("partition {}: {e}", shown.id) })?;
            list.push((shown.id, part));
        }
        incoming.push(list);
    }
    view.back().await?;
    Ok(incoming)
}

/// Every partition goes to the rank that `rank_of` says, and is combined there in the order of the ranks.
pub(crate) async fn regrouped<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    rank_of: impl Fn(u64) -> Result<u32>,
) -> Result<()> {
    let me = call.rank();
    let leaving = leaving(me, table, rank_of)?;
    let mut view = if is_small(table) {
        let bytes = |id| table.get(id).map_or(&[][..], |part| D::bytes(part));
        let view =
            call.show(0, || leaving.iter().map(|&(id, to)| (id, to, Part::Copied(bytes(id)))).collect());
        let view = view.await?;
        leaving.iter().for_each(|&(id, _)| drop(table.remove(id)));
        view
    } else {
        let mut parts = Shows::with_capacity(leaving.len());
        for &(id, to) in &leaving {
            if let Some(part) = table.remove(id) {
                let buf = D::into_buf(part).map_err(|what| HarpError::Encode { id, what })?;
                parts.push((id, to, Part::Given(buf)));
            }
        }
        call.show(0, || parts).await?
    };
    view.all().await?;
    let for_me = |rank| view.shown(rank).filter(|shown| shown.to == me);
    combine_coming(call.world(), table, for_me)?;
    view.back().await.map(drop)
}

/// Ids, with where they go.
pub(crate) type Leaving = SmallVec<[(u64, u32); 8]>;

/// The ids that do not stay on this rank, with where they go.
pub(crate) fn leaving<D: Data, C: Combiner<D::Unit>>(
    me: u32,
    table: &Table<D, C>,
    rank_of: impl Fn(u64) -> Result<u32>,
) -> Result<Leaving> {
    let mut leaving = SmallVec::new();
    for id in table.ids() {
        let to = rank_of(id)?;
        if to != me {
            leaving.push((id, to));
        }
    }
    Ok(leaving)
}

/// Combines what comes from each rank with what stays here, in the order of the ranks.
pub(crate) fn combine_coming<'s, D: Data, C: Combiner<D::Unit>, I: Iterator<Item = Shown<'s>>>(
    world: &World,
    table: &mut Table<D, C>,
    for_me: impl Fn(u32) -> I,
) -> Result<()> {
    let me = world.rank();
    // Lower ranks' come before what stays here. (Of two the order does not matter to a commutative combiner.)
    let any_order = me == 1 && table.combiner().law().commutative;
    let mut mine = Vec::new();
    for shown in (0..if any_order { 0 } else { me }).flat_map(&for_me) {
        mine.extend(table.remove(shown.id).map(|part| (shown.id, part)));
    }
    for rank in 0..world.size() {
        if rank == me {
            table.combine_above(mine.drain(..), me)?;
            continue;
        }
        for shown in for_me(rank) {
            table.add_bytes(shown.id, shown.bytes, rank)?;
        }
    }
    Ok(())
}
