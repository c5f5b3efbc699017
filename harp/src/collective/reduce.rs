//! Reduce.

use super::{Call, Op, fingerprint};
use crate::array::Element;
use crate::codec::{decode, encode};
use crate::combiner::Combiner;
use crate::error::Result;
use crate::table::Table;
use aeolian_net::World;

/// The table of `root` becomes the combination, by partition id, of all tables in rank order; the other tables become
/// empty, as their partitions have moved.
///
/// Binomial tree onto rank 0, which keeps rank order, then one message to `root`: `ceil(log2 n)` rounds (plus one).
///
/// ```
/// use aeolian_harp::{Sum, Table, reduce};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = Table::<u64, Sum>::new(Sum);
///     t.add(5, vec![1])?;
///     reduce(&mut world, &mut t, 1)?;
///     assert_eq!(t.get(5).map(|p| p[0]), (world.rank() == 1).then_some(3));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn reduce<T: Element, C: Combiner<T>>(
    world: &mut World,
    table: &mut Table<T, C>,
    root: u32,
) -> Result<()> {
    let combiner = table.combiner().name().as_bytes();
    let agree = fingerprint(&[std::any::type_name::<T>().as_bytes(), combiner, &root.to_le_bytes()]);
    let mut call = Call::new(world, Op::Reduce, agree);
    let root = call.root(root)?;
    let (rank, size) = (call.rank(), call.size());
    let mut step = 1;
    while step < size {
        if rank & step != 0 {
            call.send(rank - step, encode(table))?;
            table.clear();
            break;
        }
        if rank + step < size {
            let higher = decode(&call.recv(rank + step)?, table, rank + step)?;
            table.combine_above(higher, rank + step)?;
        }
        step *= 2;
    }
    if root != 0 {
        if rank == 0 {
            call.send(root, encode(table))?;
            table.clear();
        } else if rank == root {
            *table = decode(&call.recv(0)?, table, 0)?;
        }
    }
    Ok(())
}
