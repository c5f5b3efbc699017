//! Collectives of ranks that share memory: everybody shows what it has, and takes what it needs from where it lies.

use crate::call::Call;
use crate::check;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::table::{Parts, Table};
use aeolian_net::Buf;
use aeolian_net::shared::{Exposure, Part, Shown};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

pub(crate) use aeolian_net::shared::{ALL, INLINE};

/// What is shown: id, the rank that it is for or [`ALL`], bytes.
pub(crate) type Shows<'p> = Vec<(u64, u32, Part<'p>)>;

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
        let (number, tag) = self.next_exposure()?;
        let mut parts = Some(parts);
        let exposure = until(self.world().spins(), || {
            Ok(self
                .world()
                .try_expose(number, tag, shape, || parts.take().map_or_else(Vec::new, |parts| parts()))?)
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
    pub(crate) fn shown(&self, rank: u32) -> impl ExactSizeIterator<Item = Shown<'_>> {
        self.exposure.shown(rank)
    }

    /// Whether all ranks show the same ids with the same lengths.
    pub(crate) fn same_shape(&self) -> bool {
        let mine = self.exposure.shape(self.call.rank());
        (0..self.call.size()).all(|r| self.exposure.shape(r) == mine)
            && (0..self.call.size()).all(|r| {
                let (mut a, mut b) = (self.shown(0), self.shown(r));
                a.len() == b.len()
                    && std::iter::from_fn(|| Some((a.next()?, b.next()?)))
                        .all(|(a, b)| a.id == b.id && a.bytes.len() == b.bytes.len())
            })
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

    /// This rank has taken all it needs, and waits for what it has lent.
    pub(crate) async fn back(mut self) -> Result<Vec<Buf>> {
        let spins = self.call.world().spins();
        self.exposure.done();
        if self.exposure.is_on_board() {
            return Ok(Vec::new());
        }
        until(spins, || Ok(self.exposure.poll_reclaim())).await
    }
}

/// Partitions as they are lent, and what is kept of those whose bytes are made for it.
pub(crate) struct Lent<D: Data> {
    kept: Vec<(u64, Option<D::Part>)>,
}

impl<D: Data> Lent<D> {
    /// The parts to show to all ranks.
    pub(crate) fn new(parts: Parts<D>) -> Result<(Lent<D>, Shows<'static>)> {
        let mut kept = Vec::with_capacity(parts.len());
        let mut shown = Vec::with_capacity(parts.len());
        for (id, part) in parts {
            let (buf, keep) = D::lend(part).map_err(|what| HarpError::Encode { id, what })?;
            shown.push((id, ALL, Part::Lent(buf)));
            kept.push((id, keep));
        }
        Ok((Lent { kept }, shown))
    }

    /// The partitions, from what came back.
    pub(crate) fn restore(self, bufs: Vec<Buf>) -> Result<Parts<D>> {
        let mut parts = Vec::with_capacity(self.kept.len());
        for ((id, keep), buf) in self.kept.into_iter().zip(bufs) {
            let part = match keep {
                Some(part) => part,
                None => D::from_buf(buf).map_err(|what| HarpError::Encode { id, what })?,
            };
            parts.push((id, part));
        }
        Ok(parts)
    }
}

/// The partitions of a small table, to be copied to the board.
pub(crate) fn copied<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>) -> Shows<'_> {
    table.iter().map(|(id, part)| (id, ALL, Part::Copied(D::bytes(part)))).collect()
}

/// The table becomes what the ranks in `of` show, combined in their order; if there is a root, there, and nothing elsewhere.
pub(crate) async fn gathered<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    of: Range<u32>,
    root: Option<u32>,
) -> Result<()> {
    let me = call.rank();
    let (lent, parts) = Lent::<D>::new(table.take())?;
    let mut view = call.show(0, || parts).await?;
    if root.is_some_and(|root| root != me) {
        view.back().await?;
        return Ok(());
    }
    view.all().await?;
    // What only this rank has needs no copy.
    let others: BTreeSet<u64> =
        of.clone().filter(|&r| r != me).flat_map(|r| view.shown(r).map(|s| s.id)).collect();
    let shared = view.shown(me).any(|s| others.contains(&s.id));
    for rank in of.clone().filter(|&r| r != me || shared) {
        for shown in view.shown(rank) {
            table.add_bytes(shown.id, shown.bytes, rank)?;
        }
    }
    let mine = lent.restore(view.back().await?)?;
    if !shared && of.contains(&me) {
        table.combine_above(mine, me)?;
    }
    Ok(())
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
    let (me, size) = (call.rank(), call.size());
    let wanted = root.is_none_or(|root| root == me);
    let shape = table.shape();
    if table.bytes().is_some_and(|n| n <= INLINE) {
        let mut view = call.show(shape, || copied(table)).await?;
        if !wanted {
            table.clear();
            view.back().await?;
            return Ok(());
        }
        view.all().await?;
        check_first::<D, C>(&view, table.combiner())?;
        if view.same_shape() {
            if me != 0 {
                table.overwrite(view.shown(0).map(|s| s.bytes));
            }
            for rank in 1..size {
                for shown in view.shown(rank) {
                    table.add_bytes(shown.id, shown.bytes, rank)?;
                }
            }
        } else {
            table.clear();
            for rank in 0..size {
                for shown in view.shown(rank) {
                    table.add_bytes(shown.id, shown.bytes, rank)?;
                }
            }
        }
        return view.back().await.map(drop);
    }
    let (lent, parts) = Lent::<D>::new(table.take())?;
    let mut view = call.show(shape, || parts).await?;
    view.all().await?;
    // All ranks come to the same answer: they look at the same.
    let in_place = D::element().filter(|_| table.combiner().law().elementwise && view.same_shape());
    if let Some(element) = in_place {
        let count = view.shown(me).len();
        for part in 0..count {
            view.rewrite(part, element, root, |into, other| {
                D::with_pieces(into, other, |into, other| table.combiner().combine(into, other));
            })?;
        }
        let mine = lent.restore(view.back().await?)?;
        return if wanted { table.combine_above(mine, me) } else { Ok(()) };
    }
    check_first::<D, C>(&view, table.combiner())?;
    if wanted {
        for rank in 0..size {
            for shown in view.shown(rank) {
                table.add_bytes(shown.id, shown.bytes, rank)?;
            }
        }
    }
    view.back().await.map(drop)
}

/// What goes to other ranks is shown, and each takes what is for it: the parts to show, and what stays.
fn outward<D: Data>(call: &Call, outgoing: Vec<Parts<D>>) -> Result<(Shows<'static>, Parts<D>)> {
    let mut stay = Vec::new();
    let mut parts = Vec::with_capacity(outgoing.iter().map(Vec::len).sum());
    for (list, to) in outgoing.into_iter().zip(0..) {
        if to == call.rank() {
            stay = list;
            continue;
        }
        for (id, part) in list {
            let buf = D::into_buf(part).map_err(|what| HarpError::Encode { id, what })?;
            parts.push((id, to, Part::Lent(buf)));
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

/// As [`exchanged`], into a table, without a copy of what is combined.
pub(crate) async fn regrouped<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    outgoing: Vec<Parts<D>>,
) -> Result<()> {
    let me = call.rank();
    let (parts, stay) = outward::<D>(call, outgoing)?;
    let mut view = call.show(0, || parts).await?;
    view.all().await?;
    let mut stay = Some(stay);
    for rank in 0..call.size() {
        if rank == me {
            table.combine_above(stay.take().unwrap_or_default(), me)?;
        }
        for shown in view.shown(rank).filter(|s| s.to == me) {
            table.add_bytes(shown.id, shown.bytes, rank)?;
        }
    }
    view.back().await.map(drop)
}
