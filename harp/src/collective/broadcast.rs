//! Broadcast.

use super::{Call, Op, fingerprint};
use crate::array::Element;
use crate::codec::{decode, encode};
use crate::combiner::Combiner;
use crate::error::Result;
use crate::table::Table;
use aeolian_net::{Buf, World};

/// Adds copies of the partitions of `root`'s table to all other tables (an id that is there already is combined).
///
/// Binomial tree: `ceil(log2 n)` rounds, each rank receives the table once.
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
pub fn broadcast<T: Element, C: Combiner<T>>(
    world: &mut World,
    table: &mut Table<T, C>,
    root: u32,
) -> Result<()> {
    let combiner = table.combiner().name().as_bytes();
    let agree = fingerprint(&[std::any::type_name::<T>().as_bytes(), combiner, &root.to_le_bytes()]);
    let mut call = Call::new(world, Op::Broadcast, agree);
    let root = call.root(root)?;
    if call.size() == 1 {
        return Ok(());
    }
    let mine = if call.rank() == root { encode(table) } else { Buf::empty() };
    let body = tree(&mut call, root, mine)?;
    if call.rank() != root {
        let came = decode(&body, table, root)?;
        table.combine_above(came, root)?;
    }
    Ok(())
}

/// Sends `body` from `root` to all along a binomial tree; every rank gets it back.
pub(crate) fn tree(call: &mut Call<'_>, root: u32, mut body: Buf) -> Result<Buf> {
    let (rank, size) = (call.rank(), call.size());
    let place = (rank + size - root) % size;
    let mut step = 1;
    while step < size && place & step == 0 {
        step *= 2;
    }
    if place != 0 {
        body = call.recv((place - step + root) % size)?;
    }
    step /= 2;
    while step > 0 {
        if place + step < size {
            call.send((place + step + root) % size, body.clone())?;
        }
        step /= 2;
    }
    Ok(body)
}
