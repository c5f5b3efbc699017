//! Names, such as those of vertices or users: any bytes, one behind the other in one block, each with a number.

use std::cmp::Ordering;

use crate::random::mix;

const FREE: u32 = u32::MAX;

/// Distinct names, numbered from 0 in the order in which they came.
#[derive(Debug, Default, Clone)]
pub struct Names {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Numbers by hash, open addressing with linear probing; at most half full.
    table: Vec<u32>,
}

impl Names {
    /// The number of a name, which is new if it was not there. `None`: there are as many as 32 bits can number.
    pub fn intern(&mut self, name: &[u8]) -> Option<u32> {
        if 2 * self.len() >= self.table.len() {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut at = hash(name) as usize & mask;
        while self.table[at] != FREE {
            if self.get(self.table[at] as usize) == name {
                return Some(self.table[at]);
            }
            at = (at + 1) & mask;
        }
        let number = u32::try_from(self.len()).ok().filter(|n| *n != FREE)?;
        self.table[at] = number;
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
        Some(number)
    }

    fn grow(&mut self) {
        let mut table = vec![FREE; (self.table.len() * 2).max(64)];
        let mask = table.len() - 1;
        for number in 0..self.len() {
            let mut at = hash(self.get(number)) as usize & mask;
            while table[at] != FREE {
                at = (at + 1) & mask;
            }
            table[at] = number as u32;
        }
        self.table = table;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The name of a number (panics as slices do if there is none).
    pub fn get(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    /// All names, by number.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// A hash of a name, the same on all ranks and in all runs, so that ranks agree on who numbers a name.
pub fn hash(name: &[u8]) -> u64 {
    let mut chunks = name.chunks_exact(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |w, b| w << 8 | u64::from(*b));
    let h = chunks.by_ref().fold(mix(name.len() as u64), |h, c| mix(h ^ word(c)));
    mix(h ^ word(chunks.remainder()))
}

/// The order of names in files: numbers first, by value; then all others, by their bytes.
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    let number = |n: &[u8]| n.iter().all(u8::is_ascii_digit) && (n.len() == 1 || n[0] != b'0');
    match (number(a), number(b)) {
        (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_order_of_appearance() {
        let mut names = Names::default();
        for round in 0..2 {
            for i in 0..1000u32 {
                let name = format!("{:x}", i.wrapping_mul(0x9e37_79b9));
                assert_eq!(names.intern(name.as_bytes()), Some(i), "{round}");
                assert_eq!(names.get(i as usize), name.as_bytes());
            }
        }
        assert_eq!((names.len(), names.iter().count()), (1000, 1000));
    }

    #[test]
    fn order_of_names() {
        let mut names = ["b", "10", "9", "a", "010", "0", "é", "a b"];
        names.sort_by(|a, b| order(a.as_bytes(), b.as_bytes()));
        assert_eq!(names, ["0", "9", "10", "010", "a", "a b", "b", "é"]);
    }

    #[test]
    fn a_hash_sees_every_byte() {
        let all = ["", "a", "b", "a\0", "12345678", "123456780", "12345678\0"];
        let hashes: std::collections::HashSet<u64> = all.iter().map(|n| hash(n.as_bytes())).collect();
        assert_eq!(hashes.len(), all.len());
    }
}
