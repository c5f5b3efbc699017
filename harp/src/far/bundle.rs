//! [`Item`]s: partitions on their way through others' hands, with where they come from and go to.
//!
//! A bundle of them is a list of partitions of bytes: the first says what the others are.

use crate::array::Array;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::table::Parts;
use aeolian_net::Buf;

/// A partition, or the word that it follows straight from its sender.
pub(crate) struct Item {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) id: u64,
    pub(crate) bytes: Option<Buf>,
}

/// Writes a bundle; of no items there is nothing.
pub(crate) fn pack(items: Vec<Item>) -> Result<Parts<u8>> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let directory: Vec<u64> = items
        .iter()
        .flat_map(|item| {
            [u64::from(item.from) << 32 | u64::from(item.to), item.id, u64::from(item.bytes.is_some())]
        })
        .collect();
    let mut parts = vec![(0, array(0, Buf::from_pod(&directory))?)];
    for item in items {
        if let Some(bytes) = item.bytes {
            parts.push((parts.len() as u64, array(item.id, bytes)?));
        }
    }
    Ok(parts)
}

fn array(id: u64, buf: Buf) -> Result<Array<u8>> {
    Array::from_buf(buf).map_err(|what| HarpError::Encode { id, what })
}

/// Reads the bundle that `rank` sent.
pub(crate) fn unpack(parts: Parts<u8>, rank: u32) -> Result<Vec<Item>> {
    let bad = |what: &str| HarpError::Decode { rank, what: what.into() };
    let mut parts = parts.into_iter().map(|(_, part)| part.into_buf());
    let Some(directory) = parts.next() else { return Ok(Vec::new()) };
    if !directory.len().is_multiple_of(24) {
        return Err(bad("the directory of a bundle has no whole lines"));
    }
    let mut items = Vec::with_capacity(directory.len() / 24);
    for line in directory.cast::<u64>().as_chunks::<3>().0 {
        let [ends, id, here] = *line;
        let bytes = match here {
            0 => None,
            _ => Some(parts.next().ok_or_else(|| bad("a bundle has less than its directory says"))?),
        };
        items.push(Item { from: (ends >> 32) as u32, to: ends as u32, id, bytes });
    }
    match parts.next() {
        None => Ok(items),
        Some(_) => Err(bad("a bundle has more than its directory says")),
    }
}

/// The partition of which an item has the bytes.
pub(crate) fn part<D: Data>(from: u32, id: u64, bytes: Buf) -> Result<D::Part> {
    D::from_buf(bytes).map_err(|e| HarpError::Decode { rank: from, what: format!("partition {id}: {e}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_comes_back_and_a_damaged_one_does_not() {
        let item = |n: u32, bytes: Option<&[u8]>| Item {
            from: n,
            to: n + 1,
            id: u64::MAX - u64::from(n),
            bytes: bytes.map(Buf::from_slice),
        };
        let bundle =
            || pack(vec![item(1, Some(&[1, 2])), item(2, None), item(u32::MAX - 1, Some(&[]))]).unwrap();
        let back = unpack(bundle(), 0).unwrap();
        let seen: Vec<_> = back.iter().map(|i| (i.from, i.to, i.id, i.bytes.as_deref())).collect();
        assert_eq!(
            seen,
            [
                (1, 2, u64::MAX - 1, Some(&[1, 2][..])),
                (2, 3, u64::MAX - 2, None),
                (u32::MAX - 1, u32::MAX, u64::MAX - u64::from(u32::MAX - 1), Some(&[][..])),
            ]
        );
        assert!(unpack(pack(vec![]).unwrap(), 0).unwrap().is_empty());
        let mut short = bundle();
        short.pop();
        assert!(unpack(short, 0).is_err());
        let mut long = bundle();
        long.push((9, Array::from(vec![1u8])));
        assert!(unpack(long, 0).is_err());
        let mut ragged = bundle();
        ragged[0].1 = Array::from(vec![0u8; 25]);
        assert!(unpack(ragged, 0).is_err());
    }
}
