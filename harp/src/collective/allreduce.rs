//! Allreduce.

use super::{Call, Op, fingerprint};
use crate::array::Element;
use crate::codec::{decode, encode};
use crate::combiner::Combiner;
use crate::error::Result;
use crate::table::Table;
use aeolian_net::World;

/// Every table becomes the combination, by partition id, of all tables in rank order, with the same bits everywhere.
///
/// Recursive doubling; ranks beyond the largest power of two first fold into a neighbour (Thakur, Rabenseifner, Gropp:
/// *Optimization of Collective Communication Operations in MPICH*, 2005): `ceil(log2 n)` rounds of one table a rank, plus
/// two for other rank counts.
///
/// ```
/// use aeolian_harp::{Max, Table, allreduce};
/// aeolian_net::World::local(5, |mut world| {
///     let mut t = Table::<u32, Max>::new(Max);
///     t.add(u64::from(world.rank() % 2), vec![world.rank()])?;
///     allreduce(&mut world, &mut t)?;
///     assert_eq!((t.get(0).unwrap()[0], t.get(1).unwrap()[0]), (4, 3));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn allreduce<T: Element, C: Combiner<T>>(world: &mut World, table: &mut Table<T, C>) -> Result<()> {
    let agree = fingerprint(&[std::any::type_name::<T>().as_bytes(), table.combiner().name().as_bytes()]);
    let mut call = Call::new(world, Op::Allreduce, agree);
    let (rank, size) = (call.rank(), call.size());
    let power = 1 << size.ilog2();
    let extra = size - power;
    // The first 2 * extra ranks fold pairwise, so that neighbours stay neighbours and rank order is kept.
    let place = if rank < 2 * extra {
        if rank % 2 == 1 {
            call.send(rank - 1, encode(table))?;
            *table = decode(&call.recv(rank - 1)?, table, rank - 1)?;
            return Ok(());
        }
        let higher = decode(&call.recv(rank + 1)?, table, rank + 1)?;
        table.combine_above(higher, rank + 1)?;
        rank / 2
    } else {
        rank - extra
    };
    let rank_of = |place: u32| if place < extra { 2 * place } else { place + extra };
    let mut step = 1;
    while step < power {
        let peer = rank_of(place ^ step);
        let body = call.exchange(peer, encode(table))?;
        let other = decode(&body, table, peer)?;
        if place & step == 0 {
            table.combine_above(other, peer)?;
        } else {
            table.combine_below(other, peer)?;
        }
        step *= 2;
    }
    if rank < 2 * extra {
        call.send(rank + 1, encode(table))?;
    }
    Ok(())
}

/// [`allreduce`] of one slice: every rank's `values` become the element-wise combination of all.
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
pub fn allreduce_slice<T: Element, C: Combiner<T>>(
    world: &mut World,
    values: &mut [T],
    combiner: C,
) -> Result<()> {
    let mut table = Table::new(combiner);
    table.add(0, &*values)?;
    allreduce(world, &mut table)?;
    if let Some(all) = table.get(0) {
        values.copy_from_slice(all);
    }
    Ok(())
}
