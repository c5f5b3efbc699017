//! The words of all ranks, numbered the same on each of them.

use std::collections::HashMap;

use aeolian::World;
use aeolian::harp::{Custom, Modulo, Serde, Table, allgather, regroup};
use aeolian_examples::random::mix;
use aeolian_examples::{Error, Result};

use crate::read::Documents;

/// Words with how often they come, sorted by word.
type Counts = Vec<(String, u64)>;

/// The words that are kept; the most frequent one is number 0, and of equally frequent ones the first by bytes.
pub(crate) struct Vocabulary {
    pub(crate) words: Vec<String>,
    /// How often each comes in all documents of all ranks.
    pub(crate) counts: Vec<u64>,
}

/// Counts the words of all ranks, drops rare ones, and numbers the tokens of this rank anew. Collective.
pub(crate) fn agree(world: &mut World, documents: &mut Documents, min_count: u64) -> Result<Vocabulary> {
    let mut counts = vec![0u64; documents.words.len()];
    documents.tokens.iter().for_each(|t| counts[*t as usize] += 1);
    // Each word belongs to the rank that its hash says, which adds up what the others have counted.
    let mut owned: Vec<Counts> = vec![Counts::new(); world.size() as usize];
    for (word, count) in documents.words.iter().zip(counts) {
        let owner = hash(word) % u64::from(world.size());
        owned[owner as usize].push((word.clone(), count));
    }
    let mut table = Table::<Serde<Counts>, _>::new(Custom::new("add up", add_up));
    for (mut list, owner) in owned.into_iter().zip(0..) {
        list.sort_unstable();
        table.add(owner, list)?;
    }
    regroup(world, &mut table, &Modulo)?;
    table.apply(|_, list| list.retain(|(_, count)| *count >= min_count));
    allgather(world, &mut table)?;
    let mut all: Counts = Vec::new();
    for owner in 0..u64::from(world.size()) {
        all.extend(table.remove(owner).unwrap_or_default());
    }
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if all.is_empty() || all.len() >= u32::MAX as usize {
        let what = format!("there are {} words that come at least {min_count} times", all.len());
        return Err(Error::usage(what, "see --min-count"));
    }
    let (words, counts) = all.into_iter().unzip();
    let vocabulary = Vocabulary { words, counts };
    vocabulary.renumber(documents);
    Ok(vocabulary)
}

impl Vocabulary {
    fn renumber(&self, documents: &mut Documents) {
        let numbers: HashMap<&str, u32> = self.words.iter().map(String::as_str).zip(0..).collect();
        let new: Vec<Option<u32>> =
            documents.words.iter().map(|word| numbers.get(word.as_str()).copied()).collect();
        let before = documents.tokens.len();
        let (mut from, mut kept) = (0, 0);
        for end in &mut documents.ends {
            for at in from..*end {
                if let Some(number) = new[documents.tokens[at] as usize] {
                    documents.tokens[kept] = number;
                    kept += 1;
                }
            }
            (from, *end) = (*end, kept);
        }
        documents.tokens.truncate(kept);
        documents.tokens.shrink_to_fit();
        documents.dropped += (before - kept) as u64;
        // From here on the numbers are those of the vocabulary.
        documents.words = Vec::new();
    }
}

fn hash(word: &str) -> u64 {
    let (words, rest) = word.as_bytes().as_chunks::<8>();
    let hash = words.iter().fold(word.len() as u64, |h, w| mix(h ^ u64::from_le_bytes(*w)));
    mix(rest.iter().fold(hash, |h, b| h.rotate_left(8) ^ u64::from(*b)))
}

/// Merges two sorted lists.
fn add_up(into: &mut Counts, other: &Counts) {
    let mine = std::mem::take(into);
    let mut theirs = other.iter().peekable();
    for (word, count) in mine {
        while let Some(before) = theirs.next_if(|t| t.0 < word) {
            into.push(before.clone());
        }
        let same = theirs.next_if(|t| t.0 == word).map_or(0, |t| t.1);
        into.push((word, count + same));
    }
    into.extend(theirs.cloned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_merged() {
        let list = |l: &[(&str, u64)]| l.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect::<Counts>();
        let mut a = list(&[("b", 1), ("d", 2)]);
        add_up(&mut a, &list(&[("a", 5), ("b", 7), ("c", 1), ("e", 3)]));
        assert_eq!(a, list(&[("a", 5), ("b", 8), ("c", 1), ("d", 2), ("e", 3)]));
        add_up(&mut a, &Vec::new());
        assert_eq!(a.len(), 5);
    }

    #[test]
    fn words_spread_over_ranks() {
        let mut counts = [0u32; 7];
        (0..7000).for_each(|i| counts[(hash(&format!("word{i}")) % 7) as usize] += 1);
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
    }
}
