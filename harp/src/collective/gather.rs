//! Gather.

use super::{Call, Op, fingerprint};
use crate::array::Element;
use crate::codec::{decode, encode};
use crate::combiner::Combiner;
use crate::error::Result;
use crate::table::Table;
use aeolian_net::World;

/// All partitions move to the table of `root` (equal ids are combined in rank order); the other tables become empty.
///
/// Every rank sends straight to the root: one round, and the root receives each byte once.
///
/// ```
/// use aeolian_harp::{Sum, Table, gather};
/// aeolian_net::World::local(4, |mut world| {
///     let mut t = Table::<u8, Sum>::new(Sum);
///     t.add(u64::from(world.rank()), vec![9])?;
///     gather(&mut world, &mut t, 0)?;
///     assert_eq!(t.len(), if world.rank() == 0 { 4 } else { 0 });
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn gather<T: Element, C: Combiner<T>>(
    world: &mut World,
    table: &mut Table<T, C>,
    root: u32,
) -> Result<()> {
    let combiner = table.combiner().name().as_bytes();
    let agree = fingerprint(&[std::any::type_name::<T>().as_bytes(), combiner, &root.to_le_bytes()]);
    let mut call = Call::new(world, Op::Gather, agree);
    let root = call.root(root)?;
    collect(&mut call, table, root)
}

/// The body of a gather.
pub(crate) fn collect<T: Element, C: Combiner<T>>(
    call: &mut Call<'_>,
    table: &mut Table<T, C>,
    root: u32,
) -> Result<()> {
    if call.rank() != root {
        call.send(root, encode(table))?;
        table.clear();
        return Ok(());
    }
    let mut all = Table::new(table.combiner().clone());
    for from in 0..call.size() {
        let part = if from == root {
            std::mem::replace(table, Table::new(table.combiner().clone()))
        } else {
            decode(&call.recv(from)?, table, from)?
        };
        all.combine_above(part, from)?;
    }
    *table = all;
    Ok(())
}
