//! Partitions as messages.
//!
//! A *head* has the ids and lengths of all partitions and the bytes of the short ones: `count u64`, then for each partition `id u64,
//! len u64` (the top bit of `len`: its bytes follow as a message of their own), then the short partitions' bytes, each on a
//! 64-byte boundary. The bytes of a long partition travel as they lie.

use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::table::Parts;
use aeolian_net::Buf;

const ALIGN: usize = 64;

/// From this length on a partition is a message of its own.
const APART: usize = 32 << 10;

const APART_BIT: u64 = 1 << 63;

/// The messages of some partitions: the head, and the long ones in their order.
pub(crate) struct Encoded {
    pub(crate) head: Buf,
    pub(crate) apart: Vec<Buf>,
}

/// Why a partition cannot be written.
fn cannot(id: u64, what: String) -> HarpError {
    HarpError::Encode { id, what }
}

/// Writes copies of partitions.
pub(crate) fn encode<'a, D: Data>(parts: impl Iterator<Item = (u64, &'a D::Part)>) -> Result<Encoded> {
    let (head, long) = encode_lying::<D>(parts)?;
    Ok(Encoded { head, apart: long.into_iter().map(|(_, long)| long.into_buf()).collect() })
}

/// A long partition.
pub(crate) enum Long<'a> {
    /// Where it lies.
    Lies(&'a [u8]),
    /// Written out.
    Made(Buf),
}

impl Long<'_> {
    pub(crate) fn into_buf(self) -> Buf {
        match self {
            Long::Lies(bytes) => Buf::from_slice(bytes),
            Long::Made(buf) => buf,
        }
    }
}

impl std::ops::Deref for Long<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Long::Lies(bytes) => bytes,
            Long::Made(buf) => buf,
        }
    }
}

/// Ids and lengths, with the bit of the long ones, in the head that `rank` sent.
fn directory(head: &[u8], rank: u32) -> Result<impl ExactSizeIterator<Item = (u64, u64)>> {
    let bad = |what: &str| HarpError::Decode { rank, what: what.into() };
    let (count, rest) = head.split_first_chunk().ok_or_else(|| bad("it has no length"))?;
    let bytes = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(16));
    let entries = bytes.and_then(|n| rest.get(..n)).ok_or_else(|| bad("its directory is longer than it"))?;
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |v, &x| v << 8 | u64::from(x));
    Ok(entries.chunks_exact(16).map(move |entry| (word(&entry[..8]), word(&entry[8..]))))
}

/// Bytes of each long partition of the head that `rank` sent, in order.
pub(crate) fn apart(head: &[u8], rank: u32) -> Result<Vec<u64>> {
    let long = |(_, len): (u64, u64)| (len & APART_BIT != 0).then_some(len & !APART_BIT);
    Ok(directory(head, rank)?.filter_map(long).collect())
}

/// As [`encode`], but long partitions of arrays, which come with their ids, are not copied yet.
pub(crate) fn encode_lying<'a, D: Data>(
    parts: impl Iterator<Item = (u64, &'a D::Part)>,
) -> Result<(Buf, Vec<(u64, Long<'a>)>)> {
    let (mut writer, mut long) = (Writer::default(), Vec::new());
    for (id, part) in parts {
        match D::element().map(|_| D::bytes(part)).filter(|bytes| bytes.len() >= APART) {
            Some(bytes) => {
                writer.put_apart(id, bytes.len());
                long.push((id, Long::Lies(bytes)));
            }
            None => {
                D::with_bytes(part, |bytes| writer.put(id, bytes)).map_err(|e| cannot(id, e))?;
                long.extend(writer.apart.drain(..).map(|buf| (id, Long::Made(buf))));
            }
        }
    }
    Ok((writer.finish().head, long))
}

/// Writes partitions that are not needed here any more: long ones are not copied.
pub(crate) fn encode_owned<D: Data>(parts: Parts<D>) -> Result<Encoded> {
    let mut writer = Writer::default();
    for (id, part) in parts {
        let buf = D::into_buf(part).map_err(|e| cannot(id, e))?;
        writer.put_buf(id, buf);
    }
    Ok(writer.finish())
}

#[derive(Default)]
struct Writer {
    entries: Vec<(u64, u64)>,
    short: Vec<u8>,
    apart: Vec<Buf>,
}

impl Writer {
    fn put(&mut self, id: u64, bytes: &[u8]) {
        if bytes.len() >= APART {
            return self.put_buf(id, Buf::from_slice(bytes));
        }
        self.entries.push((id, bytes.len() as u64));
        self.short.extend_from_slice(bytes);
        self.short.resize(self.short.len().next_multiple_of(ALIGN), 0);
    }

    fn put_buf(&mut self, id: u64, buf: Buf) {
        if buf.len() < APART {
            return self.put(id, &buf);
        }
        self.put_apart(id, buf.len());
        self.apart.push(buf);
    }

    /// So many bytes of it follow as a message of their own.
    fn put_apart(&mut self, id: u64, len: usize) {
        self.entries.push((id, len as u64 | APART_BIT));
    }

    fn finish(self) -> Encoded {
        let directory = (8 + 16 * self.entries.len()).next_multiple_of(ALIGN);
        let mut head = Buf::zeroed(directory + self.short.len());
        head[..8].copy_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for ((id, len), to) in self.entries.iter().zip(head[8..].chunks_exact_mut(16)) {
            to[..8].copy_from_slice(&id.to_le_bytes());
            to[8..].copy_from_slice(&len.to_le_bytes());
        }
        head[directory..].copy_from_slice(&self.short);
        Encoded { head, apart: self.apart }
    }
}

/// What a head says.
pub(crate) struct Head<D: Data> {
    /// The short partitions, and the places of the long ones.
    entries: Vec<(u64, Option<D::Part>)>,
    /// Bytes of each long partition, in order.
    pub(crate) apart: Vec<u64>,
}

impl<D: Data> Head<D> {
    /// Reads the head that `rank` sent.
    pub(crate) fn decode(body: &[u8], rank: u32) -> Result<Head<D>> {
        let bad = |what: &str| HarpError::Decode { rank, what: what.into() };
        let directory = directory(body, rank)?;
        let mut at = (8 + 16 * directory.len()).next_multiple_of(ALIGN);
        let mut entries = Vec::with_capacity(directory.len());
        let mut apart = Vec::new();
        for (id, len) in directory {
            if entries.last().is_some_and(|(last, _)| *last >= id) {
                return Err(bad("its ids do not ascend"));
            }
            if len & APART_BIT != 0 {
                apart.push(len & !APART_BIT);
                entries.push((id, None));
                continue;
            }
            let bytes = usize::try_from(len)
                .ok()
                .and_then(|n| body.get(at..at.checked_add(n)?))
                .ok_or_else(|| bad("a partition reaches beyond its end"))?;
            at = (at + bytes.len()).next_multiple_of(ALIGN);
            let part = D::from_bytes(bytes).map_err(|e| bad(&format!("partition {id}: {e}")))?;
            entries.push((id, Some(part)));
        }
        Ok(Head { entries, apart })
    }

    /// The partitions, with the long ones' bytes that `rank` sent after the head.
    pub(crate) fn with(self, apart: Vec<Buf>, rank: u32) -> Result<Parts<D>> {
        let bad = |what: String| HarpError::Decode { rank, what };
        let mut long = self.apart.into_iter().zip(apart);
        let mut parts = Vec::with_capacity(self.entries.len());
        for (id, part) in self.entries {
            let part = match part {
                Some(part) => part,
                None => {
                    let Some((len, buf)) = long.next() else {
                        return Err(bad(format!("the bytes of partition {id} are missing")));
                    };
                    if buf.len() as u64 != len {
                        return Err(bad(format!(
                            "partition {id} has {} bytes where {len} were announced",
                            buf.len()
                        )));
                    }
                    D::from_buf(buf).map_err(|e| bad(format!("partition {id}: {e}")))?
                }
            };
            parts.push((id, part));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combiner::Sum;
    use crate::data::Serde;
    use crate::table::Table;
    use proptest::prelude::*;

    fn back<D: Data>(encoded: Encoded) -> Result<Parts<D>> {
        Head::<D>::decode(&encoded.head, 0)?.with(encoded.apart, 0)
    }

    proptest! {
        #[test]
        fn round_trip(parts in prop::collection::btree_map(any::<u64>(), prop::collection::vec(any::<u32>(), 0..50), 0..20), long in 0usize..3) {
            let mut table = Table::<u32, Sum>::new(Sum);
            for (id, data) in parts {
                table.add(id, data).unwrap();
            }
            for id in 0..long as u64 {
                table.insert(id << 40, vec![id as u32; APART / 4 + id as usize]);
            }
            let encoded = encode::<u32>(table.iter()).unwrap();
            prop_assert_eq!(encoded.apart.len(), long);
            let copy: Table<u32, Sum> = {
                let mut t = table.like();
                t.combine_above(back::<u32>(encoded).unwrap(), 0).unwrap();
                t
            };
            prop_assert_eq!(&copy, &table);
            let owned = encode_owned::<u32>(table.take()).unwrap();
            prop_assert_eq!(back::<u32>(owned).unwrap(), copy.clone().take());
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0u64..4) {
            let _ = Head::<u64>::decode(&bytes, 0);
            let _ = Head::<Serde<Vec<String>>>::decode(&bytes, 0);
            let mut framed = count.to_le_bytes().to_vec();
            framed.extend(bytes);
            let _ = Head::<u64>::decode(&framed, 0).and_then(|h| h.with(vec![], 0));
        }
    }

    #[test]
    fn serde_values_of_any_length() {
        let parts: Parts<Serde<Vec<String>>> =
            vec![(3, vec!["a".into(), String::new()]), (9, vec!["x".repeat(APART)]), (10, vec![])];
        let copy = back::<Serde<Vec<String>>>(encode_owned::<Serde<Vec<String>>>(parts.clone()).unwrap());
        assert_eq!(copy.unwrap(), parts);
    }
}
