//! Arrays from everybody to everybody.

use aeolian::World;
use aeolian::harp::{Array, Sum, Table, alltoall};

use crate::Result;

/// Sends `outgoing[r]` to rank `r`, and returns what came, by the rank that sent it. Each is some arrays.
pub fn exchange<T: aeolian::harp::Element>(
    world: &mut World,
    outgoing: Vec<Vec<Array<T>>>,
) -> Result<Vec<Vec<Array<T>>>>
where
    Sum: aeolian::harp::Combiner<[T]>,
{
    let mut tables = Vec::with_capacity(outgoing.len());
    for arrays in outgoing {
        let mut table = Table::<T, Sum>::new(Sum);
        for (array, id) in arrays.into_iter().zip(0..) {
            table.add(id, array)?;
        }
        tables.push(table);
    }
    let came = alltoall(world, tables)?;
    Ok(came.into_iter().map(|mut t| (0..).map_while(|id| t.remove(id)).collect()).collect())
}

/// The arrays that a rank sent, as many as it had to send: an array that is missing is empty.
pub fn take<T: aeolian::harp::Element, const N: usize>(arrays: Vec<Array<T>>) -> [Array<T>; N] {
    let mut arrays = arrays.into_iter();
    std::array::from_fn(|_| arrays.next().unwrap_or_else(|| Array::zeroed(0)))
}
