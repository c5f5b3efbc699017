//! Collectives on key-value tables.

use super::{allgather, broadcast, gather};
use crate::array::Array;
use crate::call::{Call, Op, Pending, blocking, fingerprint, starting};
use crate::combiner::{ByFunction, Combiner, keep_first};
use crate::error::{HarpError, Result};
use crate::exchange;
use crate::kv::{Columns, Field, Groups, KvTable, by_rank};
use crate::table::{Parts, Table};
use aeolian_net::shared::{Part, Shows};
use aeolian_net::{Buf, World};
use std::hash::Hash;

// The two columns of some rows, as partitions.
const KEYS: u64 = 0;
const VALUES: u64 = 1;

fn agree<K: Field, V: Field>(combiner: &str, more: u32) -> u32 {
    let names = [std::any::type_name::<K>().as_bytes(), std::any::type_name::<V>().as_bytes()];
    fingerprint(&[names[0], names[1], combiner.as_bytes(), &more.to_le_bytes()])
}

/// All keys move to the rank that their hash gives, and the values of those that meet are combined in rank order: afterwards every
/// key is on one rank.
///
/// One pairwise exchange of two columns a pair of ranks; columns of [`Element`](crate::Element) types move as they lie, and between ranks
/// that share memory they are read where they lie. Rows are sent in the order in which the receiver's index has them, so that random keys
/// do not miss its cache.
///
/// ```
/// use aeolian_harp::{KvTable, Sum, regroup_kv};
/// let totals = aeolian_net::World::local(3, |mut world| {
///     let mut t = KvTable::<u64, u32, Sum>::new(Sum);
///     for key in 0..10 {
///         t.add(key, 1);
///     }
///     regroup_kv(&mut world, &mut t)?;
///     assert!(t.iter().all(|(_, count)| *count == 3));
///     world.finish()?;
///     Ok(t.len())
/// })?;
/// assert_eq!(totals.iter().sum::<usize>(), 10);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn regroup_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    world: &mut World,
    table: &mut KvTable<K, V, C>,
) -> Result<()> {
    let agree = agree::<K, V>(table.combiner().name(), 0);
    blocking(world, Op::RegroupKv, agree, async |call| regroup(call, table).await)
}

/// Starts a [`regroup_kv`]; the table comes back with this rank's keys.
pub fn iregroup_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit> + 'static>(
    world: &World,
    mut table: KvTable<K, V, C>,
) -> Result<Pending<KvTable<K, V, C>>> {
    let agree = agree::<K, V>(table.combiner().name(), 0);
    starting(world, Op::RegroupKv, agree, async move |call| {
        regroup(call, &mut table).await?;
        Ok(table)
    })
}

async fn regroup<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    call: &Call,
    table: &mut KvTable<K, V, C>,
) -> Result<()> {
    let size = call.size();
    if size == 1 {
        return Ok(());
    }
    let mut outgoing = table.take_by_rank(size)?;
    if call.near() {
        return near(call, table, outgoing).await;
    }
    let incoming = exchange::parts::<u8>(call, to_send(&mut outgoing)?).await?;
    let mut columns = Vec::with_capacity(incoming.len());
    for (parts, from) in incoming.iter().zip(0..) {
        columns.extend(pair(parts, from)?.map(|(keys, values)| (from, keys, values)));
    }
    table.absorb(columns)
}

/// As [`regroup`], from where the others' columns lie.
async fn near<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    call: &Call,
    table: &mut KvTable<K, V, C>,
    outgoing: Vec<(Buf, Buf)>,
) -> Result<()> {
    let me = call.rank();
    let (mut own, mut shows) = ((Buf::empty(), Buf::empty()), Shows::with_capacity(2 * outgoing.len()));
    for ((keys, values), to) in outgoing.into_iter().zip(0..) {
        if to == me {
            own = (keys, values);
        } else if !keys.is_empty() {
            shows.extend([(KEYS, to, Part::Given(keys)), (VALUES, to, Part::Given(values))]);
        }
    }
    let mut view = call.show(0, || shows).await?;
    view.all().await?;
    let mut columns = Vec::with_capacity(call.size() as usize);
    for from in 0..call.size() {
        if from == me {
            columns.extend((!own.0.is_empty()).then_some((me, &own.0[..], &own.1[..])));
            continue;
        }
        let shown: Vec<_> = view.shown(from).filter(|s| s.to == me).collect();
        match &shown[..] {
            [] => {}
            [keys, values] if (keys.id, values.id) == (KEYS, VALUES) => {
                columns.push((from, keys.bytes, values.bytes));
            }
            _ => return Err(not_two_columns(from)),
        }
    }
    table.absorb(columns)?;
    view.back().await.map(drop)
}

/// The columns for each rank as partitions; none where there are no rows.
fn to_send(outgoing: &mut [(Buf, Buf)]) -> Result<Vec<Parts<u8>>> {
    let parts = outgoing.iter_mut().map(|(keys, values)| match keys.is_empty() {
        true => Ok(Vec::new()),
        false => Ok(vec![(KEYS, array(std::mem::take(keys))?), (VALUES, array(std::mem::take(values))?)]),
    });
    parts.collect()
}

fn array(buf: Buf) -> Result<Array<u8>> {
    Array::from_buf(buf).map_err(|what| HarpError::Encode { id: 0, what })
}

/// The two columns that a rank has sent, if it has sent any.
fn pair(parts: &Parts<u8>, from: u32) -> Result<Option<(&[u8], &[u8])>> {
    match &parts[..] {
        [] => Ok(None),
        [(KEYS, keys), (VALUES, values)] => Ok(Some((keys, values))),
        _ => Err(not_two_columns(from)),
    }
}

fn not_two_columns(rank: u32) -> HarpError {
    HarpError::Decode { rank, what: "not two columns".into() }
}

/// Every rank gets all keys, with the values of equal ones combined in rank order.
///
/// ```
/// use aeolian_harp::{KvTable, Serde, Sum, allreduce_kv};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = KvTable::<Serde<String>, u32, Sum>::new(Sum);
///     t.add("all".to_string(), 1);
///     t.add(format!("rank {}", world.rank()), 1);
///     allreduce_kv(&mut world, &mut t)?;
///     assert_eq!((t.len(), t.get(&"all".to_string())), (4, Some(&3)));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn allreduce_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    world: &mut World,
    table: &mut KvTable<K, V, C>,
) -> Result<()> {
    let agree = agree::<K, V>(table.combiner().name(), 0);
    blocking(world, Op::AllreduceKv, agree, async |call| collected(call, table, None).await)
}

/// Starts an [`allreduce_kv`]; the table comes back with all keys.
pub fn iallreduce_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit> + 'static>(
    world: &World,
    mut table: KvTable<K, V, C>,
) -> Result<Pending<KvTable<K, V, C>>> {
    let agree = agree::<K, V>(table.combiner().name(), 0);
    starting(world, Op::AllreduceKv, agree, async move |call| {
        collected(call, &mut table, None).await?;
        Ok(table)
    })
}

/// The root gets all keys, with the values of equal ones combined in rank order; the other tables become empty.
///
/// ```
/// use aeolian_harp::{KvTable, Max, reduce_kv};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = KvTable::<u32, f64, Max>::new(Max);
///     t.add(5, f64::from(world.rank()));
///     reduce_kv(&mut world, &mut t, 1)?;
///     assert_eq!(t.get(&5).copied(), (world.rank() == 1).then_some(2.0));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn reduce_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    world: &mut World,
    table: &mut KvTable<K, V, C>,
    root: u32,
) -> Result<()> {
    let agree = agree::<K, V>(table.combiner().name(), root);
    blocking(world, Op::ReduceKv, agree, async |call| collected(call, table, Some(call.root(root)?)).await)
}

/// Starts a [`reduce_kv`]; the table comes back full at the root, empty elsewhere.
pub fn ireduce_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit> + 'static>(
    world: &World,
    mut table: KvTable<K, V, C>,
    root: u32,
) -> Result<Pending<KvTable<K, V, C>>> {
    let agree = agree::<K, V>(table.combiner().name(), root);
    starting(world, Op::ReduceKv, agree, async move |call| {
        collected(call, &mut table, Some(call.root(root)?)).await?;
        Ok(table)
    })
}

/// The columns of all ranks, as two partitions a rank, come to the root or to all.
async fn collected<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    call: &Call,
    table: &mut KvTable<K, V, C>,
    root: Option<u32>,
) -> Result<()> {
    let mut columns = columns_of(call.rank(), table)?;
    match root {
        Some(root) => gather::body(call, &mut columns, root).await?,
        None => allgather::body(call, &mut columns).await?,
    }
    if root.is_some_and(|root| root != call.rank()) {
        return Ok(());
    }
    let of = |from: u32| {
        let at = 2 * u64::from(from);
        Some((from, &columns.get(at)?[..], &columns.get(at + 1)?[..]))
    };
    table.absorb((0..call.size()).filter_map(of))
}

type ByRank = Table<u8, ByFunction<u8>>;

/// Takes the columns out, as partitions whose ids no two ranks share.
fn columns_of<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    rank: u32,
    table: &mut KvTable<K, V, C>,
) -> Result<ByRank> {
    let mut columns = ByRank::new(keep_first());
    let (keys, values) = table.take().encode()?;
    columns.insert(2 * u64::from(rank), array(keys)?);
    columns.insert(2 * u64::from(rank) + 1, array(values)?);
    Ok(columns)
}

/// The root's keys and values are added to all other tables.
///
/// ```
/// use aeolian_harp::{KvTable, Sum, broadcast_kv};
/// aeolian_net::World::local(3, |mut world| {
///     let mut t = KvTable::<u32, u32, Sum>::new(Sum);
///     if world.rank() == 2 {
///         t.add(1, 10);
///     }
///     broadcast_kv(&mut world, &mut t, 2)?;
///     assert_eq!(t.get(&1), Some(&10));
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn broadcast_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    world: &mut World,
    table: &mut KvTable<K, V, C>,
    root: u32,
) -> Result<()> {
    let agree = agree::<K, V>(table.combiner().name(), root);
    blocking(world, Op::BroadcastKv, agree, async |call| spread(call, table, root).await)
}

/// Starts a [`broadcast_kv`]; the table comes back with what was added.
pub fn ibroadcast_kv<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit> + 'static>(
    world: &World,
    mut table: KvTable<K, V, C>,
    root: u32,
) -> Result<Pending<KvTable<K, V, C>>> {
    let agree = agree::<K, V>(table.combiner().name(), root);
    starting(world, Op::BroadcastKv, agree, async move |call| {
        spread(call, &mut table, root).await?;
        Ok(table)
    })
}

async fn spread<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    call: &Call,
    table: &mut KvTable<K, V, C>,
    root: u32,
) -> Result<()> {
    let root = call.root(root)?;
    let mut columns = if call.rank() == root { columns_of(root, table)? } else { ByRank::new(keep_first()) };
    broadcast::body(call, &mut columns, root).await?;
    let at = 2 * u64::from(root);
    match (columns.get(at), columns.get(at + 1)) {
        (Some(keys), Some(values)) => table.absorb([(root, &keys[..], &values[..])]),
        _ => Err(not_two_columns(root)),
    }
}

/// All rows `(keys[i], values[i])` move to the rank that the hash of their key gives, and come together by key: the values of a key in the
/// order of their ranks, and of one rank in the order that they had.
///
/// # Errors
/// [`HarpError::Usage`] if there are not as many keys as values.
///
/// ```
/// use aeolian_harp::group_by_key;
/// let groups = aeolian_net::World::local(3, |mut world| {
///     let me = world.rank();
///     let groups = group_by_key::<u8, u32>(&mut world, vec![7, 7], vec![me, 10 + me])?;
///     world.finish()?;
///     Ok(groups.iter().map(|(key, values)| (*key, values.to_vec())).collect::<Vec<_>>())
/// })?;
/// assert_eq!(groups.concat(), [(7, vec![0, 10, 1, 11, 2, 12])]);
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn group_by_key<K: Field<Value: Hash + Eq>, V: Field>(
    world: &mut World,
    keys: Vec<K::Value>,
    values: Vec<V::Value>,
) -> Result<Groups<K, V>> {
    blocking(world, Op::GroupByKey, agree::<K, V>("", 0), async |call| grouped(call, keys, values).await)
}

/// Starts a [`group_by_key`].
pub fn igroup_by_key<K: Field<Value: Hash + Eq>, V: Field>(
    world: &World,
    keys: Vec<K::Value>,
    values: Vec<V::Value>,
) -> Result<Pending<Groups<K, V>>> {
    starting(world, Op::GroupByKey, agree::<K, V>("", 0), async move |call| grouped(call, keys, values).await)
}

async fn grouped<K: Field<Value: Hash + Eq>, V: Field>(
    call: &Call,
    keys: Vec<K::Value>,
    values: Vec<V::Value>,
) -> Result<Groups<K, V>> {
    if keys.len() != values.len() {
        let what = format!("group_by_key of {} keys with {} values", keys.len(), values.len());
        return Err(HarpError::Usage(what));
    }
    let mut rows = Columns::<K, V> { keys, values };
    if call.size() > 1 {
        let mut outgoing = by_rank::<K, V>(&mut rows.keys, &mut rows.values, call.size())?;
        for (parts, from) in exchange::parts::<u8>(call, to_send(&mut outgoing)?).await?.into_iter().zip(0..)
        {
            let bad = |what: String| HarpError::Decode { rank: from, what };
            if let Some((keys, values)) = pair(&parts, from)? {
                rows.keys.extend_from_slice(&K::values(keys).map_err(bad)?);
                rows.values.extend_from_slice(&V::values(values).map_err(bad)?);
            }
        }
        if rows.keys.len() != rows.values.len() {
            return Err(HarpError::Decode { rank: call.rank(), what: "columns of several lengths".into() });
        }
    }
    Ok(Groups::new(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combiner::Sum;
    use crate::data::Serde;
    use crate::partitioner::mix;
    use std::collections::BTreeMap;

    /// Every rank's rows: some keys on all ranks, others on one.
    fn rows(rank: u32, count: u64) -> impl Iterator<Item = (u64, u32)> {
        let id = move |j: u64| if j.is_multiple_of(4) { j } else { (u64::from(rank) + 1) << 32 | j };
        (0..count).map(move |j| (mix(id(j)), rank + 1))
    }

    fn regrouped<K: Field<Value: Hash + Eq + Ord + Send>>(size: u32, count: u64, key: fn(u64) -> K::Value) {
        let parts = World::local(size, |mut world| {
            let mut table = KvTable::<K, u32, Sum>::new(Sum);
            for (k, v) in rows(world.rank(), count) {
                table.add(key(k), v);
            }
            regroup_kv(&mut world, &mut table)?;
            world.finish()?;
            Ok(table.iter().map(|(k, v)| (k.clone(), *v)).collect::<Vec<_>>())
        });
        let mut got = parts.unwrap().concat();
        got.sort_unstable();
        let mut want = BTreeMap::new();
        for (k, v) in (0..size).flat_map(|rank| rows(rank, count)) {
            *want.entry(key(k)).or_insert(0) += v;
        }
        assert!(got == want.into_iter().collect::<Vec<_>>(), "{count} rows on each of {size} ranks");
    }

    #[test]
    fn every_key_is_on_one_rank_with_the_sum_of_all() {
        for size in [1, 2, 3, 5, 7] {
            for count in [0, 1, 1000] {
                regrouped::<u64>(size, count, |k| k);
                regrouped::<Serde<String>>(size, count, |k| k.to_string());
            }
        }
        // So many that rows are sent region by region.
        regrouped::<u64>(2, 200_000, |k| k);
        regrouped::<Serde<u64>>(2, 200_000, |k| k);
    }
}
