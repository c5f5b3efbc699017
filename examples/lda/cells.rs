//! A rank's tokens: by block of documents, then by group of words, then by word.

use aeolian_examples::random::below;

use crate::layout::Layout;
use crate::mixtures::{Mixtures, Packing};
use crate::read::Documents;

/// A word in a document, with the topic that it has now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    /// Number of the document in its block.
    pub(crate) document: u32,
    pub(crate) topic: u32,
}

/// The tokens of one block of documents whose words are in one group.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// Place of each word in its group, and where its tokens end.
    pub(crate) runs: Vec<(u32, u32)>,
    pub(crate) tokens: Vec<Token>,
}

/// Consecutive documents, which one thread at a time samples.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) mixtures: Mixtures,
    /// Tokens of each document.
    pub(crate) lengths: Vec<u32>,
    /// By group.
    pub(crate) cells: Vec<Cell>,
}

/// Cuts documents, of which `first` is the number of the first one among all ranks', into blocks of about as many tokens each.
/// Every token gets a random topic, which depends on the numbers of its document and its word therein alone.
pub(crate) fn blocks(
    documents: &Documents,
    layout: &Layout,
    packing: Packing,
    topics: usize,
    first: u64,
    seed: u64,
) -> Vec<Block> {
    let n = documents.ends.len();
    let border =
        |b: usize| documents.ends.partition_point(|end| *end * layout.blocks <= documents.tokens.len() * b);
    let border = |b: usize| {
        if b == 0 {
            0
        } else if b == layout.blocks {
            n
        } else {
            border(b)
        }
    };
    (0..layout.blocks)
        .map(|b| block(documents, border(b)..border(b + 1), layout, packing, topics, first, seed))
        .collect()
}

fn block(
    documents: &Documents,
    range: std::ops::Range<usize>,
    layout: &Layout,
    packing: Packing,
    topics: usize,
    first: u64,
    seed: u64,
) -> Block {
    let mut lists: Vec<Vec<(u32, Token)>> = vec![Vec::new(); layout.groups.len()];
    let lengths: Vec<u32> = range.clone().map(|d| documents.range(d).len() as u32).collect();
    let mut mixtures = Mixtures::new(packing, topics, lengths.iter().map(|l| *l as usize));
    for (document, d) in range.enumerate() {
        for (i, word) in documents.tokens[documents.range(d)].iter().enumerate() {
            let topic = below(seed, first + d as u64, i as u64, topics as u64) as u32;
            let (group, place) = layout.of(*word);
            lists[group].push((place, Token { document: document as u32, topic }));
            mixtures.add(document, topic as usize);
        }
    }
    let cell = |mut list: Vec<(u32, Token)>| {
        // In a stable order: the tokens of a word stay in the order of their documents.
        list.sort_by_key(|(place, _)| *place);
        let mut cell = Cell { runs: Vec::new(), tokens: Vec::with_capacity(list.len()) };
        for (place, token) in list {
            cell.tokens.push(token);
            let end = cell.tokens.len() as u32;
            match cell.runs.last_mut() {
                Some((last, to)) if *last == place => *to = end,
                _ => cell.runs.push((place, end)),
            }
        }
        cell
    };
    Block { mixtures, lengths, cells: lists.into_iter().map(cell).collect() }
}
