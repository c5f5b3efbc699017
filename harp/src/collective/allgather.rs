//! Allgather.

use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::codec::{Encoded, Head, encode};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::Result;
use crate::join::both;
use crate::node::{self, ALL};
use crate::table::Table;
use aeolian_net::{Buf, World};

/// Every table becomes the union of all (equal ids are combined in rank order), with the same bits everywhere.
///
/// Ranks that share memory copy the partitions from where they lie. Else a ring (Thakur, Rabenseifner, Gropp 2005; Harp's bucket allgather): in `n - 1` rounds each rank passes on to the next what it got from the one before, so
/// every rank sends and receives each table once.
///
/// ```
/// use aeolian_harp::{Sum, Table, allgather};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = Table::<u16, Sum>::new(Sum);
///     t.add(u64::from(world.rank()), vec![1; world.rank() as usize])?;
///     allgather(&mut world, &mut t)?;
///     assert_eq!(t.iter().map(|(_, p)| p.len()).collect::<Vec<_>>(), [0, 1, 2]);
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn allgather<D: Data, C: Combiner<D::Unit>>(world: &mut World, table: &mut Table<D, C>) -> Result<()> {
    let agree = agree(table, &[]);
    let plan = brief::plan::<Table<D, C>, _>(|world, table| {
        Some(Plan { shape: 0, part: Some(only(table, ALL)?), wait: 0..world.size() })
    });
    brief::blocking(world, Op::Allgather, agree, table, plan, brief::unite, body)
}

/// Starts an [`allgather`]; the table comes back as the union of all.
pub fn iallgather<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &[]);
    starting(world, Op::Allgather, agree, async move |call| {
        body(call, &mut table).await?;
        Ok(table)
    })
}

pub(crate) async fn body<D: Data, C: Combiner<D::Unit>>(call: &Call, table: &mut Table<D, C>) -> Result<()> {
    let (rank, size) = (call.rank(), call.size());
    if size == 1 {
        return Ok(());
    }
    if call.near() {
        return node::gathered(call, table, 0..size, None).await;
    }
    let (before, next) = ((rank + size - 1) % size, (rank + 1) % size);
    let mut passing = encode::<D>(table.iter())?;
    let mut mine = Some(table.take());
    let mut all: Vec<Option<_>> = (0..size).map(|_| None).collect();
    for round in 1..size {
        let from = (rank + size - round) % size;
        let ((), came) = both(call.send_encoded(next, passing), receive::<D>(call, before)).await?;
        passing = if round + 1 < size {
            Encoded { head: came.head.clone(), apart: came.apart.clone() }
        } else {
            Encoded { head: Buf::empty(), apart: Vec::new() }
        };
        all[from as usize] = Some(Head::<D>::decode(&came.head, from)?.with(came.apart, from)?);
    }
    for from in 0..size {
        let parts = match mine.take_if(|_| from == rank) {
            Some(own) => own,
            None => all[from as usize].take().unwrap_or_default(),
        };
        table.combine_above(parts, from)?;
    }
    Ok(())
}

/// Receives the messages of a table as they are.
async fn receive<D: Data>(call: &Call, from: u32) -> Result<Encoded> {
    let head = call.recv(from).await?;
    let count = Head::<D>::decode(&head, from)?.apart.len();
    let mut apart = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        apart.push(call.recv(from).await?);
    }
    Ok(Encoded { head, apart })
}
