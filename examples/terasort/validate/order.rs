//! What is known of records one behind another, and of two such stretches together.

use aeolian::World;
use aeolian::harp::{Sum, allreduce_slice};
use aeolian_examples::Result;
use aeolian_examples::tera::checksum::Checksum;
use aeolian_examples::tera::record::{KEY, SIZE};

/// Two records one behind another that are not in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Break {
    /// The number of the second one.
    pub(crate) at: u64,
    /// Their keys.
    pub(crate) keys: [[u8; KEY]; 2],
}

/// A stretch of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) records: u64,
    /// Records with the key of the one before them.
    pub(crate) duplicates: u64,
    /// Records with a smaller key than the one before them.
    pub(crate) unordered: u64,
    pub(crate) checksum: Checksum,
    pub(crate) first_break: Option<Break>,
    /// The first and the last key.
    ends: Option<[[u8; KEY]; 2]>,
}

/// Numbers that a stretch is told in: see [`Stretch::numbers`].
const NUMBERS: usize = 15;

impl Stretch {
    /// More records, of which the first has this number.
    pub(crate) fn add(&mut self, first: u64, records: &[u8]) {
        self.checksum.add(records);
        for (record, at) in records.as_chunks::<SIZE>().0.iter().zip(first..) {
            let Some(key) = record.first_chunk() else { continue };
            self.follow(at, [*key; 2]);
        }
        self.records += (records.len() / SIZE) as u64;
    }

    /// What was added from 0 on begins at this record.
    pub(crate) fn begin_at(&mut self, first: u64) {
        if let Some(it) = &mut self.first_break {
            it.at += first;
        }
    }

    /// A stretch with these ends comes behind this one.
    fn follow(&mut self, at: u64, [first, last]: [[u8; KEY]; 2]) {
        if let Some([_, before]) = self.ends {
            match before.cmp(&first) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => self.duplicates += 1,
                std::cmp::Ordering::Greater => {
                    self.unordered += 1;
                    self.first_break.get_or_insert(Break { at, keys: [before, first] });
                }
            }
        }
        self.ends = Some([self.ends.map_or(first, |ends| ends[0]), last]);
    }

    /// This one and the next.
    fn join(mut self, next: &Stretch) -> Stretch {
        if let Some(ends) = next.ends {
            self.follow(self.records, ends);
        }
        self.records += next.records;
        self.duplicates += next.duplicates;
        self.unordered += next.unordered;
        self.checksum.0 = self.checksum.0.wrapping_add(next.checksum.0);
        self.first_break = self.first_break.or(next.first_break);
        self
    }

    fn numbers(&self) -> [u64; NUMBERS] {
        let [high, low] = self.checksum.halves();
        let keys = |keys: Option<[[u8; KEY]; 2]>| {
            let [[a, b], [c, d]] = keys.unwrap_or_default().map(words);
            [u64::from(keys.is_some()), a, b, c, d]
        };
        let [some, a, b, c, d] = keys(self.ends);
        let [broken, e, f, g, h] = keys(self.first_break.map(|it| it.keys));
        // A place is never 0: nothing is before the first record.
        let at = self.first_break.map_or(0, |it| it.at) * broken;
        [self.records, self.duplicates, self.unordered, high, low, some, a, b, c, d, at, e, f, g, h]
    }

    fn of(numbers: &[u64; NUMBERS]) -> Stretch {
        let [records, duplicates, unordered, high, low, some, a, b, c, d, at, e, f, g, h] = *numbers;
        let keys = |a, b, c, d| [bytes([a, b]), bytes([c, d])];
        Stretch {
            records,
            duplicates,
            unordered,
            checksum: Checksum::of([high, low]),
            first_break: (at > 0).then(|| Break { at, keys: keys(e, f, g, h) }),
            ends: (some > 0).then(|| keys(a, b, c, d)),
        }
    }

    /// The stretches of all ranks together, on all ranks. Collective.
    pub(crate) fn of_all(&self, world: &mut World) -> Result<Stretch> {
        let mut slots = vec![0; NUMBERS * world.size() as usize];
        slots[NUMBERS * world.rank() as usize..][..NUMBERS].copy_from_slice(&self.numbers());
        allreduce_slice(world, &mut slots, Sum)?;
        let all = slots.as_chunks().0.iter().map(Stretch::of);
        Ok(all.fold(Stretch::default(), |before, next| before.join(&next)))
    }
}

/// A key in two numbers.
fn words(key: [u8; KEY]) -> [u64; 2] {
    let all = key.iter().fold(0u128, |all, byte| all << 8 | u128::from(*byte));
    [(all >> 64) as u64, all as u64]
}

fn bytes([high, low]: [u64; 2]) -> [u8; KEY] {
    let all = u128::from(high) << 64 | u128::from(low);
    std::array::from_fn(|i| (all >> (8 * (KEY - 1 - i))) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(keys: &[u8]) -> Vec<u8> {
        let mut bytes = vec![7; keys.len() * SIZE];
        for (record, key) in bytes.as_chunks_mut::<SIZE>().0.iter_mut().zip(keys) {
            record[..KEY].fill(*key);
            record[0] = 0xff;
        }
        bytes
    }

    proptest! {
        #[test]
        fn ranks_together_say_what_one_says(keys in prop::collection::vec(0u8..9, 0..40), cuts in prop::collection::vec(0usize..40, 1..5)) {
            let bytes = records(&keys);
            let mut alone = Stretch::default();
            alone.add(0, &bytes);
            let pairs = || keys.windows(2).zip(1..);
            prop_assert_eq!(alone.records, keys.len() as u64);
            prop_assert_eq!(alone.duplicates, pairs().filter(|(k, _)| k[0] == k[1]).count() as u64);
            prop_assert_eq!(alone.unordered, pairs().filter(|(k, _)| k[0] > k[1]).count() as u64);
            prop_assert_eq!(alone.first_break.map(|it| it.at), pairs().find(|(k, _)| k[0] > k[1]).map(|(_, at)| at));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(keys.len())).collect();
            cuts.extend([0, keys.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|cut| {
                let mut part = Stretch::default();
                part.add(cut[0] as u64, &bytes[cut[0] * SIZE..cut[1] * SIZE]);
                prop_assert_eq!(Stretch::of(&part.numbers()), part.clone());
                Ok(part)
            });
            let parts: Result<Vec<_>, TestCaseError> = parts.collect();
            prop_assert_eq!(parts?.iter().fold(Stretch::default(), Stretch::join), alone);
        }
    }
}
