//! Heads of tables that were damaged on the way.

use super::{APART, Head, encode};
use crate::combiner::{Combiner, Custom, Sum};
use crate::data::{Data, Serde};
use crate::error::HarpError;
use crate::mutate::withstands;
use crate::table::Table;

/// A rank that errors must name.
const RANK: u32 = 5;

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
    table.add(2, vec![2u8; APART + 1]).unwrap();
    let good = head(&table);
    // What follows is as long as was announced when the table was sent.
    let decode = |bytes: &[u8]| {
        let long = vec![aeolian_net::Buf::zeroed(APART + 1)];
        match Head::<u8>::decode(bytes, RANK).and_then(|head| head.with(long, RANK)) {
            Ok(_) => Ok(true),
            Err(HarpError::Decode { rank: RANK, .. }) => Ok(false),
            Err(e) => Err(format!("not the error of a rank: {e}")),
        }
    };
    withstands("a head with a long partition", &[good], decode);
}
