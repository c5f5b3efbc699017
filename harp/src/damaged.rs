//! Tables and columns of key-value tables that were damaged on the way.

use crate::codec::{Head, encode};
use crate::combiner::{Combiner, Custom, Max, Sum};
use crate::data::{Data, Serde};
use crate::error::HarpError;
use crate::kv::{Field, KvTable};
use crate::mutate::withstands;
use crate::table::Table;
use aeolian_net::Buf;
use std::hash::Hash;

/// A rank that errors must name.
const RANK: u32 = 5;
/// Bytes of a partition that is a message of its own.
const LONG: usize = 40 << 10;

fn decoded<D: Data>(bytes: &[u8]) -> Result<bool, String> {
    // No long partition follows: one that was announced is missing.
    let parts = Head::<D>::decode(bytes, RANK).and_then(|head| {
        let all = head.apart.is_empty();
        head.with(Vec::new(), RANK).map(|parts| (parts, all))
    });
    match parts {
        Ok((parts, true)) if parts.is_sorted_by(|a, b| a.0 < b.0) => Ok(true),
        Ok(_) => Err("partitions out of order, or of nothing".into()),
        Err(e @ HarpError::Decode { rank: RANK, .. }) if e.to_string().contains("rank 5") => Ok(false),
        Err(e) => Err(format!("not the error of a rank: {e}")),
    }
}

fn head<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>) -> Vec<u8> {
    encode::<D>(table.iter()).unwrap().head.to_vec()
}

#[test]
fn heads_of_arrays() {
    let (empty, mut some, mut many) =
        (Table::<u32, _>::new(Sum), Table::<u32, _>::new(Sum), Table::<u32, _>::new(Sum));
    for id in 0..3 {
        some.add(id << 20, vec![id as u32; 7 * id as usize]).unwrap();
    }
    for id in 0..100 {
        many.add(id, vec![1u32; 3]).unwrap();
    }
    withstands("a head of arrays", &[head::<u32, _>(&empty), head(&some), head(&many)], decoded::<u32>);
}

#[test]
fn heads_of_values() {
    let first = Custom::new("first", |_: &mut Vec<String>, _: &Vec<String>| {});
    let mut table = Table::<Serde<Vec<String>>, _>::new(first);
    table.add(3, vec!["a".to_string(), String::new()]).unwrap();
    table.add(9, vec!["x".repeat(300); 4]).unwrap();
    withstands("a head of values", &[head(&table)], decoded::<Serde<Vec<String>>>);
}

#[test]
fn heads_with_long_partitions() {
    let mut table = Table::<u8, _>::new(Sum);
    table.add(1, vec![1u8; 10]).unwrap();
    table.add(2, vec![2u8; LONG]).unwrap();
    let good = head(&table);
    // What follows is as long as was announced when the table was sent.
    let decode = |bytes: &[u8]| {
        let long = vec![Buf::zeroed(LONG)];
        match Head::<u8>::decode(bytes, RANK).and_then(|head| head.with(long, RANK)) {
            Ok(_) => Ok(true),
            Err(HarpError::Decode { rank: RANK, .. }) => Ok(false),
            Err(e) => Err(format!("not the error of a rank: {e}")),
        }
    };
    withstands("a head with a long partition", &[good], decode);
}

/// Two columns behind one another, so that both are damaged; the first two bytes tell where the second one begins.
fn joined<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    mut table: KvTable<K, V, C>,
) -> Vec<u8> {
    let (keys, values) = table.take().encode().unwrap();
    [&(keys.len() as u16).to_le_bytes()[..], &keys, &values].concat()
}

fn absorbed<K: Field<Value: Hash + Eq>, V: Field, C: Combiner<V::Unit>>(
    bytes: &[u8],
    combiner: C,
) -> Result<bool, String> {
    let Some((head, rest)) = bytes.split_first_chunk::<2>() else { return Ok(false) };
    let Some((keys, values)) = rest.split_at_checked(u16::from_le_bytes(*head).into()) else {
        return Ok(false);
    };
    // Columns come in buffers, which begin where every element may.
    let (keys, values) = (Buf::from_slice(keys), Buf::from_slice(values));
    let mut table = KvTable::<K, V, C>::new(combiner);
    match table.absorb([(RANK, &keys[..], &values[..])]) {
        Ok(()) => Ok(true),
        Err(e @ HarpError::Decode { rank: RANK, .. }) if e.to_string().contains("rank 5") => Ok(false),
        Err(e) => Err(format!("not the error of a rank: {e}")),
    }
}

// Damage can make one key of two, with values that a sum would not hold: these tables take the greater one.
#[test]
fn columns_of_elements() {
    let mut table = KvTable::<u64, u32, _>::new(Max);
    for key in 0..50 {
        table.add(key * key, 1);
    }
    withstands("columns of elements", &[joined(table)], |bytes| absorbed::<u64, u32, _>(bytes, Max));
}

#[test]
fn columns_of_texts() {
    let mut table = KvTable::<Serde<String>, u32, _>::new(Max);
    for key in 0..50 {
        table.add(format!("key {key}"), 1);
    }
    withstands("columns of texts", &[joined(table)], |bytes| absorbed::<Serde<String>, u32, _>(bytes, Max));
}
