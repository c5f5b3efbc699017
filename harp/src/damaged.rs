//! Tables and columns of key-value tables that were damaged on the way.
//!
//! A decoder is a module here: `good` inputs, and what `decode` makes of any bytes: whether they are fine, or what is wrong with the decoder.
//! Tests damage the good ones at random, `fuzz/` looks for bytes that get further.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

use crate::codec::{Encoded, Head, encode, encode_owned};
use crate::combiner::{Combiner, Custom, Max, Sum};
use crate::data::{Data, Serde};
use crate::error::HarpError;
use crate::far::bundle;
use crate::kv::{Field, KvTable};
use crate::table::Table;
use aeolian_net::Buf;
use std::hash::Hash;

/// A rank that errors must name.
const RANK: u32 = 5;
/// Bytes of a partition that is a message of its own.
const LONG: usize = 40 << 10;

/// An error that came of the bytes of a rank says so.
fn refused(error: HarpError) -> Result<bool, String> {
    match error {
        e @ HarpError::Decode { rank: RANK, .. } if e.to_string().contains("rank 5") => Ok(false),
        e => Err(format!("not the error of a rank: {e}")),
    }
}

fn decoded<D: Data>(bytes: &[u8]) -> Result<bool, String> {
    // No long partition follows: one that was announced is missing.
    let parts = Head::<D>::decode(bytes, RANK).and_then(|head| {
        let all = head.apart.is_empty();
        head.with(Vec::new(), RANK).map(|parts| (parts, all))
    });
    match parts {
        Ok((parts, true)) if parts.is_sorted_by(|a, b| a.0 < b.0) => Ok(true),
        Ok(_) => Err("partitions out of order, or of nothing".into()),
        Err(e) => refused(e),
    }
}

fn head<D: Data, C: Combiner<D::Unit>>(table: &Table<D, C>) -> Vec<u8> {
    encode::<D>(table.iter()).unwrap().head.to_vec()
}

/// Heads of arrays.
pub mod arrays {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let (empty, mut some, mut many) =
            (Table::<u32, _>::new(Sum), Table::<u32, _>::new(Sum), Table::<u32, _>::new(Sum));
        for id in 0..3 {
            some.add(id << 20, vec![id as u32; 7 * id as usize]).unwrap();
        }
        for id in 0..100 {
            many.add(id, vec![1u32; 3]).unwrap();
        }
        vec![head(&empty), head(&some), head(&many)]
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        decoded::<u32>(bytes)
    }
}

/// Heads of `serde` values.
pub mod values {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let first = Custom::new("first", |_: &mut Vec<String>, _: &Vec<String>| {});
        let mut table = Table::<Serde<Vec<String>>, _>::new(first);
        table.add(3, vec!["a".to_string(), String::new()]).unwrap();
        table.add(9, vec!["x".repeat(300); 4]).unwrap();
        vec![head(&table)]
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        decoded::<Serde<Vec<String>>>(bytes)
    }
}

/// Heads after which a long partition comes.
pub mod long {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let mut table = Table::<u8, _>::new(Sum);
        table.add(1, vec![1u8; 10]).unwrap();
        table.add(2, vec![2u8; LONG]).unwrap();
        vec![head(&table)]
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        // What follows is as long as was announced when the table was sent.
        let long = vec![Buf::zeroed(LONG)];
        match Head::<u8>::decode(bytes, RANK).and_then(|head| head.with(long, RANK)) {
            Ok(_) => Ok(true),
            Err(e) => refused(e),
        }
    }
}

/// Partitions on their way through others' hands.
pub mod bundles {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let item = |n: u32, bytes: Option<&[u8]>| bundle::Item {
            from: n,
            to: n + 1,
            id: u64::MAX - u64::from(n),
            bytes: bytes.map(Buf::from_slice),
        };
        let items =
            vec![item(1, Some(&[1, 2, 3, 4])), item(2, None), item(3, Some(&[])), item(4, Some(&[7; 92]))];
        let Encoded { head, .. } = encode_owned::<u8>(bundle::pack(items).unwrap()).unwrap();
        vec![head.to_vec()]
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        let parts = Head::<u8>::decode(bytes, RANK).and_then(|head| head.with(Vec::new(), RANK));
        let items = match parts.and_then(|parts| bundle::unpack(parts, RANK)) {
            Ok(items) => items,
            Err(e) => return refused(e),
        };
        for item in items {
            if let Some(bytes) = item.bytes
                && let Err(e) = bundle::part::<u32>(RANK, item.id, bytes)
            {
                return refused(e);
            }
        }
        Ok(true)
    }
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
        Err(e) => refused(e),
    }
}

// Damage can make one key of two, with values that a sum would not hold: these tables take the greater one.

/// Columns of elements.
pub mod elements {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let mut table = KvTable::<u64, u32, _>::new(Max);
        for key in 0..50 {
            table.add(key * key, 1);
        }
        vec![joined(table)]
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        absorbed::<u64, u32, _>(bytes, Max)
    }
}

/// Columns of which one has `serde` values.
pub mod texts {
    use super::*;

    pub fn good() -> Vec<Vec<u8>> {
        let mut table = KvTable::<Serde<String>, u32, _>::new(Max);
        for key in 0..50 {
            table.add(format!("key {key}"), 1);
        }
        vec![joined(table)]
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        absorbed::<Serde<String>, u32, _>(bytes, Max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::withstands;

    #[test]
    fn heads_of_arrays() {
        withstands("a head of arrays", &arrays::good(), arrays::decode);
    }

    #[test]
    fn heads_of_values() {
        withstands("a head of values", &values::good(), values::decode);
    }

    #[test]
    fn heads_with_long_partitions() {
        withstands("a head with a long partition", &long::good(), long::decode);
    }

    #[test]
    fn bundles_of_partitions() {
        withstands("a bundle", &bundles::good(), bundles::decode);
    }

    #[test]
    fn columns_of_elements() {
        withstands("columns of elements", &elements::good(), elements::decode);
    }

    #[test]
    fn columns_of_texts() {
        withstands("columns of texts", &texts::good(), texts::decode);
    }
}
