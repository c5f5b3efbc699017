//! A table as one message: `count u64`, then `id u64, len u64` for each partition, then the partitions' bytes, each on a
//! 64-byte boundary.

use crate::array::{Array, Element};
use crate::combiner::Combiner;
use crate::error::{HarpError, Result};
use crate::table::Table;
use aeolian_net::Buf;

const ALIGN: usize = 64;

pub(crate) fn encode<T: Element, C: Combiner<T>>(table: &Table<T, C>) -> Buf {
    let head = (8 + 16 * table.len()).next_multiple_of(ALIGN);
    let total = head + table.iter().map(|(_, p)| size_of_val(&p[..]).next_multiple_of(ALIGN)).sum::<usize>();
    let mut buf = Buf::zeroed(total);
    buf[..8].copy_from_slice(&(table.len() as u64).to_le_bytes());
    let mut at = head;
    for (i, (id, data)) in table.iter().enumerate() {
        let entry = 8 + 16 * i;
        buf[entry..entry + 8].copy_from_slice(&id.to_le_bytes());
        buf[entry + 8..entry + 16].copy_from_slice(&(data.len() as u64).to_le_bytes());
        let bytes: &[u8] = bytemuck::cast_slice(data);
        buf[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len().next_multiple_of(ALIGN);
    }
    buf
}

/// Adds what `body` holds to an empty copy of `like`.
pub(crate) fn decode<T: Element, C: Combiner<T>>(
    body: &Buf,
    like: &Table<T, C>,
    rank: u32,
) -> Result<Table<T, C>> {
    let bad = |what: &str| HarpError::Decode { rank, what: what.into() };
    let word =
        |at: usize| body.get(at..at + 8).map(|b| b.iter().rev().fold(0u64, |v, &x| v << 8 | u64::from(x)));
    let count = word(0).ok_or_else(|| bad("it has no length"))?;
    let head = count
        .checked_mul(16)
        .and_then(|n| n.checked_add(8))
        .filter(|&n| n <= body.len() as u64)
        .ok_or_else(|| bad("its directory is longer than it"))? as usize;
    let mut at = head.next_multiple_of(ALIGN);
    let mut table = Table::new(like.combiner().clone());
    for i in 0..count as usize {
        let (Some(id), Some(len)) = (word(8 + 16 * i), word(16 + 16 * i)) else {
            return Err(bad("its directory ends early"));
        };
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|n| n.checked_mul(size_of::<T>()))
            .and_then(|n| body.get(at..at.checked_add(n)?))
            .ok_or_else(|| bad("a partition reaches beyond its end"))?;
        at = (at + bytes.len()).next_multiple_of(ALIGN);
        let mut data = Array::<T>::zeroed(len as usize);
        bytemuck::cast_slice_mut(&mut data).copy_from_slice(bytes);
        if table.get(id).is_some() {
            return Err(bad("a partition is there twice"));
        }
        table.add(id, data)?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combiner::Sum;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(parts in prop::collection::btree_map(any::<u64>(), prop::collection::vec(any::<u32>(), 0..50), 0..20)) {
            let mut table = Table::<u32, Sum>::new(Sum);
            for (id, data) in parts {
                table.add(id, data).unwrap();
            }
            prop_assert_eq!(decode(&encode(&table), &table, 0).unwrap(), table);
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0u64..4) {
            let like = Table::<u64, Sum>::new(Sum);
            let _ = decode(&Buf::from_slice(&bytes), &like, 0);
            let mut framed = count.to_le_bytes().to_vec();
            framed.extend(bytes);
            let _ = decode(&Buf::from_slice(&framed), &like, 0);
        }
    }
}
