//! Batches whose bytes are not those that were written: what reads records takes anything without a panic, and without memory by what is only
//! announced; and what it reads, it reads past too.
//!
//! A decoder is a module here: `good` inputs, and what `decode` makes of any bytes: whether they are fine, or what is wrong with the decoder.
//! Tests damage the good ones at random, `fuzz/` looks for bytes that get further.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

use crate::batch::{self, Batch};
use crate::record::{Reader, Record, Writer};
use aeolian_net::Buf;
use std::cell::Cell;
use std::rc::Rc;

fn bytes_of<T: Record>(records: Vec<T>) -> Vec<u8> {
    records.into_iter().collect::<Batch<T>>().into_bytes().to_vec()
}

/// Whether they are a batch of these records.
fn decoded<T: Record>(bytes: &[u8]) -> Result<bool, String> {
    // One after another: past each that is read leads the same way.
    let mut input = Reader::new(bytes);
    let mut read = 0usize;
    let is_whole = loop {
        if input.is_empty() {
            break true;
        }
        let (before, mut past) = (input.rest().len(), input.clone());
        let Some(record) = batch::get::<T>(&mut input) else { break false };
        if T::SIZE == Some(0) {
            past.array::<1>();
        }
        if T::skip(&mut past).is_none() || past.rest().len() != input.rest().len() {
            return Err(format!("record {read} is read, but not past"));
        }
        // (A length may have more bytes than it needs, but no fewer.)
        let taken = before - input.rest().len();
        if batch::size(&record) > taken {
            return Err(format!("record {read} is longer than the {taken} bytes that it was read from"));
        }
        read += 1;
    };
    // Both ways through a batch give these, and say what follows.
    let damaged = Rc::new(Cell::new(false));
    let batch = Batch::<T>::new(Buf::from_slice(bytes), damaged.clone());
    let (seen, told) = (batch.iter().count(), damaged.replace(false));
    let taken = batch.count();
    if (seen, taken) != (read, read) {
        return Err(format!("{read} records, {seen} by iter, {taken} by next"));
    }
    if (told, damaged.get()) != (!is_whole, !is_whole) {
        return Err(format!("whole: {is_whole}, but damage is told as {told} and {}", damaged.get()));
    }
    Ok(is_whole)
}

/// A decoder of batches of this type.
macro_rules! decoder {
    ($(#[$doc:meta])* $name:ident, $t:ty, $good:expr) => {
        $(#[$doc])*
        pub mod $name {
            use super::*;

            pub fn good() -> Vec<Vec<u8>> {
                let good: Vec<Vec<$t>> = $good;
                good.into_iter().map(bytes_of).collect()
            }

            pub fn decode(bytes: &[u8]) -> Result<bool, String> {
                decoded::<$t>(bytes)
            }
        }
    };
}

decoder!(
    /// Strings, also long ones.
    strings,
    String,
    vec![vec![String::new(), "wind".into(), "ä€𝄞".into()], vec!["x".repeat(300); 3], Vec::new()]
);
decoder!(
    /// Vectors of plain and of other values.
    vectors,
    (Vec<u32>, Vec<Vec<String>>),
    vec![
        vec![(vec![1, 2, 3], vec![vec!["a".into()], Vec::new()])],
        vec![(vec![7; 300], Vec::new()), (Vec::new(), vec![vec!["bc".into(); 9]; 3])],
    ]
);
decoder!(
    /// Options and what else not every byte is one of.
    options,
    (Option<(char, bool)>, Option<Option<u16>>),
    vec![vec![(None, None), (Some(('x', true)), Some(None)), (Some(('𝄞', false)), Some(Some(999)))]]
);
decoder!(
    /// Keys with values, in arrays and boxes too.
    tuples,
    (u64, [String; 2], Box<i16>, (u8, f64)),
    vec![vec![(1, ["a".into(), "bcd".into()], Box::new(-1), (2, 0.5)); 5]]
);
/// Takes 16 times the memory of its bytes.
#[derive(Clone)]
pub struct Wide(pub [u64; 128]);

/// What the bytes of one are.
const NARROW: [u8; 64] = [7; 64];

impl Record for Wide {
    const SIZE: Option<usize> = None;

    fn size(&self) -> usize {
        NARROW.len()
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        out.array(NARROW)
    }

    fn get(input: &mut Reader<'_>) -> Option<Wide> {
        (input.array()? == NARROW).then_some(Wide([7; 128]))
    }
}

decoder!(
    /// Vectors of what takes much more memory than bytes.
    wide,
    (Vec<Wide>, Vec<Box<()>>),
    vec![
        vec![(vec![Wide([0; 128]); 2], vec![Box::new(()); 3]); 4],
        vec![(vec![Wide([0; 128]); 60], vec![Box::new(()); 300])],
    ]
);

/// A type of `serde`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Event {
    /// With a name, and things told by name.
    Named(String, std::collections::BTreeMap<String, Option<i64>>),
    /// With numbers.
    Measured { at: Option<f64>, values: Vec<u16> },
    /// With nothing.
    Ended,
}
crate::serde_record!(Event);

decoder!(
    /// What `serde` reads.
    serde_types,
    (Event, u8),
    vec![vec![
        (Event::Named("harp".into(), [("a".to_string(), Some(-5)), ("b".to_string(), None)].into()), 1),
        (Event::Measured { at: Some(1.5), values: vec![1, 200, 40_000] }, 2),
        (Event::Ended, 3),
    ]]
);

/// Batches of several slots in one message, as they go from node to node.
pub mod frames {
    use crate::relay::Frames;
    use aeolian_net::Buf;

    pub fn good() -> Vec<Vec<u8>> {
        let frame = |(slot, origin, batch): &(u32, u32, &[u8])| {
            let mut bytes = Vec::new();
            bytes.extend(slot.to_le_bytes());
            bytes.extend(origin.to_le_bytes());
            bytes.extend((batch.len() as u64).to_le_bytes());
            bytes.extend(*batch);
            bytes
        };
        let frames: [&[(u32, u32, &[u8])]; 3] =
            [&[(1, 2, b"records"), (7, 2, b""), (0, u32::MAX, &[5; 300])], &[(3, 3, b"x")], &[]];
        frames.map(|frames| frames.iter().flat_map(frame).collect()).into()
    }

    pub fn decode(bytes: &[u8]) -> Result<bool, String> {
        let (mut frames, mut at) = (Frames::of(Buf::from_slice(bytes)), 0);
        loop {
            match frames.next() {
                Err(()) => return Ok(false),
                Ok(None) if at == bytes.len() => return Ok(true),
                Ok(None) => return Err(format!("nothing comes after byte {at} of {}", bytes.len())),
                Ok(Some(frame)) => {
                    if frame.bytes.start < at || frames.bytes(&frame) != &bytes[frame.bytes.clone()] {
                        return Err(format!("after byte {at} comes a frame with {:?}", frame.bytes));
                    }
                    at = frame.bytes.end;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::withstands;

    #[test]
    fn batches_of_strings() {
        withstands("a batch of strings", &strings::good(), strings::decode);
    }

    #[test]
    fn batches_between_nodes() {
        withstands("batches in one message", &frames::good(), frames::decode);
    }

    #[test]
    fn batches_of_vectors() {
        withstands("a batch of vectors", &vectors::good(), vectors::decode);
    }

    #[test]
    fn batches_of_options() {
        withstands("a batch of options", &options::good(), options::decode);
    }

    #[test]
    fn batches_of_tuples() {
        withstands("a batch of tuples", &tuples::good(), tuples::decode);
    }

    #[test]
    fn batches_of_wide_values() {
        withstands("a batch of wide values", &wide::good(), wide::decode);
    }

    #[test]
    fn batches_of_serde_types() {
        withstands("a batch of serde types", &serde_types::good(), serde_types::decode);
    }
}
