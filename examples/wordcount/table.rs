//! The words of a rank, counted in a table that is bounded: what it has no room for is for the caller to take out.

use aeolian_examples::readat::reserve;
use aeolian_examples::{Error, Result};
use memmap2::{Advice, MmapMut};

use crate::word::{SHORT, fold, hash_short};

/// A word's place, in half a cache line.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Entry {
    /// The bytes of a short word, then zeros; of a longer one its hash, and where it begins in `long`.
    a: u64,
    b: u64,
    /// 0: free.
    count: u64,
    len: u64,
}

/// A short word that is about to be counted.
#[derive(Clone, Copy, Default)]
pub(crate) struct Token {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) len: u64,
    hash: u64,
}

impl Token {
    /// Of its first 16 bytes, zeros behind its end.
    #[inline]
    pub(crate) fn new(a: u64, b: u64, len: usize) -> Token {
        Token { a, b, len: len as u64, hash: hash_short(a, b, len) }
    }
}

/// Words and how often they came: open addressing, linear probing.
pub(crate) struct Table {
    places: Places,
    used: usize,
    /// The bytes of long words, one behind another.
    long: Vec<u8>,
    /// Bytes that places and long words may take.
    most: usize,
}

/// Places of the smallest table.
const LEAST: usize = 1 << 10;
/// Of a new table, which grows: it is in the second-level cache.
const FIRST: usize = 1 << 13;
/// How much larger it becomes.
const GROWTH: usize = 2;

/// Memory of its own: in large pages, if the system has some, since each word is somewhere else.
struct Places(MmapMut);

impl Places {
    fn new(many: usize) -> Result<Places> {
        let map = MmapMut::map_anon(many * size_of::<Entry>()).map_err(|e| Error::Os {
            what: format!("no memory for a table of {many} words: {e}"),
            help: "give less with --memory, or use more hosts".into(),
        })?;
        // Small pages are slower, and no error.
        let _ = map.advise(Advice::HugePage);
        Ok(Places(map))
    }

    #[inline]
    fn get(&self) -> &[Entry] {
        bytemuck::cast_slice(&self.0)
    }

    #[inline]
    fn get_mut(&mut self) -> &mut [Entry] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl Table {
    /// An empty one that is full when it takes about `most` bytes.
    pub(crate) fn new(most: usize) -> Result<Table> {
        let most = most.max(2 * LEAST * size_of::<Entry>());
        let first = FIRST.min(1 << (most / 2 / size_of::<Entry>()).max(LEAST).ilog2());
        Ok(Table { places: Places::new(first)?, used: 0, long: Vec::new(), most })
    }

    fn len(&self) -> usize {
        self.places.0.len() / size_of::<Entry>()
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.places.0.len() + self.long.capacity()
    }

    /// Whether it should be taken out before more comes. (A little more still fits.)
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.used >= self.len() / 2 && self.places.0.len() * GROWTH > self.most
            || self.long.len() > self.most / 2
    }

    /// Asks the processor to fetch a token's place.
    #[inline]
    pub(crate) fn prefetch(&self, token: &Token) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let places = self.places.get();
            let place = &raw const places[token.hash as usize & (places.len() - 1)];
            // SAFETY: a hint, which reads nothing that the program could see; the address is one of this table.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = token;
    }

    /// Counts short words once more.
    #[inline]
    pub(crate) fn add_short(&mut self, tokens: &[Token]) -> Result<()> {
        let mut places = self.places.get_mut();
        for token in tokens {
            let mask = places.len() - 1;
            let mut at = token.hash as usize & mask;
            loop {
                let place = &mut places[at];
                if place.a == token.a && place.b == token.b && place.len == token.len && place.count > 0 {
                    place.count += 1;
                    break;
                }
                if place.count == 0 {
                    *place = Entry { a: token.a, b: token.b, count: 1, len: token.len };
                    self.grow()?;
                    places = self.places.get_mut();
                    break;
                }
                at = (at + 1) & mask;
            }
        }
        Ok(())
    }

    /// Counts a word of any length once more.
    pub(crate) fn add(&mut self, word: &[u8]) -> Result<()> {
        if word.len() <= SHORT {
            let mut bytes = [0; SHORT];
            bytes[..word.len()].copy_from_slice(word);
            let [a, b] = crate::word::halves(&bytes);
            return self.add_short(&[Token::new(a, b, word.len())]);
        }
        let hash = hash_long(word);
        let places = self.places.get_mut();
        let mask = places.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let place = &mut places[at];
            if place.count == 0 {
                *place = Entry { a: hash, b: self.long.len() as u64, count: 1, len: word.len() as u64 };
                reserve(&mut self.long, word.len(), "long words")?;
                self.long.extend_from_slice(word);
                return self.grow();
            }
            if place.a == hash
                && place.len == word.len() as u64
                && self.long.get(place.b as usize..).is_some_and(|from| from.starts_with(word))
            {
                place.count += 1;
                return Ok(());
            }
            at = (at + 1) & mask;
        }
    }

    /// After a new word: a table that is more than half full becomes larger.
    #[inline]
    fn grow(&mut self) -> Result<()> {
        self.used += 1;
        if self.used > self.len() / 8 * 5 { self.enlarge() } else { Ok(()) }
    }

    #[cold]
    fn enlarge(&mut self) -> Result<()> {
        let mut new = Places::new(self.len() * GROWTH)?;
        let places = new.get_mut();
        let mask = places.len() - 1;
        for entry in self.places.get().iter().filter(|entry| entry.count > 0) {
            let hash = match entry.len as usize {
                len if len > SHORT => entry.a,
                len => hash_short(entry.a, entry.b, len),
            };
            let mut at = hash as usize & mask;
            while places[at].count > 0 {
                at = (at + 1) & mask;
            }
            places[at] = *entry;
        }
        self.places = new;
        Ok(())
    }

    /// All words with their counts, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Counted<'_>, u64)> {
        let used = self.places.get().iter().filter(|entry| entry.count > 0);
        used.map(|entry| {
            let len = entry.len as usize;
            let word = match len > SHORT {
                true => Counted::Long(&self.long[entry.b as usize..][..len]),
                false => {
                    Counted::Short(len as u8, (u128::from(entry.a) | u128::from(entry.b) << 64).to_le_bytes())
                }
            };
            (word, entry.count)
        })
    }

    /// Forgets all, and keeps its places.
    pub(crate) fn clear(&mut self) {
        self.places.get_mut().fill(bytemuck::Zeroable::zeroed());
        self.used = 0;
        self.long.clear();
    }
}

/// A word in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counted<'a> {
    Short(u8, [u8; SHORT]),
    Long(&'a [u8]),
}

#[inline]
fn hash_long(word: &[u8]) -> u64 {
    const SPREAD: u64 = 0xe703_7ed1_a0b4_28db;
    let read = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let (words, rest) = word.as_chunks::<8>();
    let mut hash = words.iter().fold(word.len() as u64, |hash, w| fold(hash ^ read(w), SPREAD));
    if let (false, Some(last)) = (rest.is_empty(), word.last_chunk()) {
        hash = fold(hash ^ read(last), SPREAD.rotate_left(17));
    }
    // Its lower bits find the place, and a word of zeros must not lose what came before it.
    hash ^ SPREAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn bytes(word: Counted<'_>) -> Vec<u8> {
        match word {
            Counted::Short(len, bytes) => bytes[..len.into()].to_vec(),
            Counted::Long(bytes) => bytes.to_vec(),
        }
    }

    proptest! {
        #[test]
        fn counts_as_a_map_does(words in prop::collection::vec(prop::collection::vec(0u8..2, 0..40), 0..300)) {
            let mut table = Table::new(1 << 20).unwrap();
            let mut want: HashMap<Vec<u8>, u64> = HashMap::new();
            for word in &words {
                table.add(word).unwrap();
                *want.entry(word.clone()).or_default() += 1;
            }
            let got: HashMap<Vec<u8>, u64> = table.iter().map(|(word, n)| (bytes(word), n)).collect();
            prop_assert_eq!(got, want);
            table.clear();
            prop_assert_eq!(table.iter().count(), 0);
        }
    }

    #[test]
    fn stays_within_its_bytes() {
        for most in [0, 200_000, 10 << 20] {
            let mut table = Table::new(most).unwrap();
            for round in 0..3 {
                let mut n = 0u64;
                while !table.is_full() {
                    table.add(format!("{n}{}", "x".repeat(n as usize % 30)).as_bytes()).unwrap();
                    n += 1;
                }
                assert!(table.iter().count() as u64 == n && n > 500, "{most}: {n}");
                assert!(table.bytes() <= most.max(1 << 17) * 5 / 4, "{most}, {round}: {}", table.bytes());
                table.clear();
            }
        }
    }
}
