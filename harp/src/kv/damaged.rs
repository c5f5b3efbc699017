//! Columns of key-value tables that were damaged on the way.

use super::{Field, KvTable};
use crate::combiner::{Combiner, Sum};
use crate::data::Serde;
use crate::error::HarpError;
use crate::mutate::withstands;
use std::hash::Hash;

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
    let (keys, values) = (aeolian_net::Buf::from_slice(keys), aeolian_net::Buf::from_slice(values));
    let mut table = KvTable::<K, V, C>::new(combiner);
    match table.absorb(&keys, &values, 5) {
        Ok(()) => Ok(true),
        Err(e @ HarpError::Decode { rank: 5, .. }) if e.to_string().contains("rank 5") => Ok(false),
        Err(e) => Err(format!("not the error of a rank: {e}")),
    }
}

#[test]
fn columns_of_elements() {
    let mut table = KvTable::<u64, u32, _>::new(Sum);
    for key in 0..50 {
        table.add(key * key, 1);
    }
    withstands("columns of elements", &[joined(table)], |bytes| absorbed::<u64, u32, _>(bytes, Sum));
}

#[test]
fn columns_of_texts() {
    let mut table = KvTable::<Serde<String>, u32, _>::new(Sum);
    for key in 0..50 {
        table.add(format!("key {key}"), 1);
    }
    withstands("columns of texts", &[joined(table)], |bytes| absorbed::<Serde<String>, u32, _>(bytes, Sum));
}
