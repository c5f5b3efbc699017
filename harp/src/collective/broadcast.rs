//! Broadcast.

use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::codec::{Encoded, Head, encode};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::node::{ALL, Lent, Shows, copied, is_small};
use crate::table::{Parts, Table};
use aeolian_net::shared::{Glance, View};
use aeolian_net::{Buf, World};

/// From this many bytes on, a long partition goes along a chain of the ranks in pieces of this length.
const PIECE: usize = 256 << 10;

/// Adds copies of the partitions of `root`'s table to all other tables (an id that is there already is combined).
///
/// Ranks that share memory copy the partitions from where the root has them, all at the same time. Else the ids and the short partitions go along a binomial tree, in `ceil(log2 n)` rounds. Long partitions follow in pieces along a chain
/// of the ranks: each rank receives every byte once and passes it on while the next comes, so the time does not grow with the
/// ranks (pipelined chain; Harp's chain broadcast).
///
/// ```
/// use aeolian_harp::{Sum, Table, broadcast};
/// aeolian_net::World::local(4, |mut world| {
///     let mut model = Table::<f32, Sum>::new(Sum);
///     if world.rank() == 2 {
///         model.add(0, vec![0.5, 0.25])?;
///     }
///     broadcast(&mut world, &mut model, 2)?;
///     assert_eq!(model.get(0).unwrap().to_vec(), [0.5, 0.25]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn broadcast<D: Data, C: Combiner<D::Unit>>(
    world: &mut World,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let agree = agree(table, &root.to_le_bytes());
    let plan = brief::plan::<Table<D, C>, _>(|world, table| match world.rank() == root {
        true => Some(Plan { part: Some(only(table, ALL)?), ..Plan::silent() }),
        false if root < world.size() => Some(Plan { wait: root..root + 1, ..Plan::silent() }),
        false => None,
    });
    let take = |view: &View<'_>, world: &World, table: &mut Table<D, C>| match view.of(root) {
        Glance::One(shown) if world.rank() != root => {
            table.add_bytes(shown.id, shown.bytes, root).map(|()| true)
        }
        Glance::More => Ok(false),
        _ => Ok(true),
    };
    brief::blocking(world, Op::Broadcast, agree, table, plan, take, async |call, table| {
        body(call, table, root).await
    })
}

/// Starts a [`broadcast`]; the table comes back with what was added.
pub fn ibroadcast<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
    root: u32,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &root.to_le_bytes());
    starting(world, Op::Broadcast, agree, async move |call| {
        body(call, &mut table, root).await?;
        Ok(table)
    })
}

pub(crate) async fn body<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    root: u32,
) -> Result<()> {
    let root = call.root(root)?;
    if call.size() == 1 {
        return Ok(());
    }
    if call.near() {
        return near(call, table, root).await;
    }
    if call.rank() == root {
        spread::<D>(call, root, Some(encode::<D>(table.iter())?)).await?;
    } else if let Some(came) = spread::<D>(call, root, None).await? {
        table.combine_above(came, root)?;
    }
    Ok(())
}

/// The root shows its table; the others copy it from there.
async fn near<D: Data, C: Combiner<D::Unit>>(call: &Call, table: &mut Table<D, C>, root: u32) -> Result<()> {
    if call.rank() != root {
        let mut view = call.show(0, Shows::new).await?;
        view.of(root).await?;
        for shown in view.shown(root) {
            table.add_bytes(shown.id, shown.bytes, root)?;
        }
        return view.back().await.map(drop);
    }
    if is_small(table) {
        let view = call.show(0, || copied(table, ALL)).await?;
        return view.back().await.map(drop);
    }
    let (lent, parts) = Lent::of(table)?;
    let view = call.show(0, || parts).await?;
    lent.back(table, view.back().await?)
}

/// Brings what `root` has encoded to all others, which get it decoded.
pub(crate) async fn spread<D: Data>(
    call: &Call,
    root: u32,
    mine: Option<Encoded>,
) -> Result<Option<Parts<D>>> {
    let (head, apart) = match mine {
        Some(encoded) => (encoded.head, Some(encoded.apart)),
        None => (Buf::empty(), None),
    };
    let head = tree(call, root, head).await?;
    match apart {
        Some(apart) => {
            // Alone, nobody would take what goes to the next rank.
            for buf in apart.iter().filter(|_| call.size() > 1) {
                chain_from_root(call, root, buf).await?;
            }
            Ok(None)
        }
        None => {
            let head = Head::<D>::decode(&head, root)?;
            let mut apart = Vec::with_capacity(head.apart.len().min(1024));
            for &len in &head.apart {
                apart.push(chain(call, root, len).await?);
            }
            Ok(Some(head.with(apart, root)?))
        }
    }
}

/// Sends `body` from `root` to all along a binomial tree; every rank gets it back.
async fn tree(call: &Call, root: u32, mut body: Buf) -> Result<Buf> {
    let (rank, size) = (call.rank(), call.size());
    let place = (rank + size - root) % size;
    let mut step = 1;
    while step < size && place & step == 0 {
        step *= 2;
    }
    if place != 0 {
        body = call.recv((place - step + root) % size).await?;
    }
    step /= 2;
    while step > 0 {
        if place + step < size {
            call.send((place + step + root) % size, body.clone()).await?;
        }
        step /= 2;
    }
    Ok(body)
}

async fn chain_from_root(call: &Call, root: u32, bytes: &[u8]) -> Result<()> {
    let next = (root + 1) % call.size();
    for piece in bytes.chunks(PIECE) {
        call.send(next, Buf::from_slice(piece)).await?;
    }
    Ok(())
}

/// Receives `len` bytes in pieces and passes them on.
async fn chain(call: &Call, root: u32, len: u64) -> Result<Buf> {
    let (rank, size) = (call.rank(), call.size());
    let (before, next) = ((rank + size - 1) % size, (rank + 1) % size);
    let mut all = Buf::zeroed(len as usize);
    let mut at = 0;
    while at < all.len() {
        let piece = call.recv(before).await?;
        let Some(to) = all.get_mut(at..at + piece.len()).filter(|to| !to.is_empty()) else {
            let what = format!("{} bytes where {} were due", piece.len(), len as usize - at);
            return Err(crate::HarpError::Decode { rank: before, what });
        };
        to.copy_from_slice(&piece);
        at += piece.len();
        if next != root {
            call.send(next, piece).await?;
        }
    }
    Ok(all)
}
