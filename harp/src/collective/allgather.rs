//! Allgather.

use super::{Call, Op, broadcast, fingerprint, gather};
use crate::array::Element;
use crate::codec::{decode, encode};
use crate::combiner::Combiner;
use crate::error::Result;
use crate::table::Table;
use aeolian_net::{Buf, World};

/// Every table becomes the union of all (equal ids are combined in rank order), with the same bits everywhere.
///
/// Gather to rank 0 and broadcast from there: `1 + ceil(log2 n)` rounds.
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
pub fn allgather<T: Element, C: Combiner<T>>(world: &mut World, table: &mut Table<T, C>) -> Result<()> {
    let agree = fingerprint(&[std::any::type_name::<T>().as_bytes(), table.combiner().name().as_bytes()]);
    let mut call = Call::new(world, Op::Allgather, agree);
    if call.size() == 1 {
        return Ok(());
    }
    gather::collect(&mut call, table, 0)?;
    let mine = if call.rank() == 0 { encode(table) } else { Buf::empty() };
    let body = broadcast::tree(&mut call, 0, mine)?;
    if call.rank() != 0 {
        *table = decode(&body, table, 0)?;
    }
    Ok(())
}
