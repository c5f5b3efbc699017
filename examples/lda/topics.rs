//! The words of each topic, and the table that shows them.

use std::fmt::Write;
use std::time::Duration;

use aeolian::World;
use aeolian_examples::Result;
use aeolian_examples::agree::to_first;
use aeolian_examples::progress::seconds;
use serde::Serialize;

use crate::job::Summary;
use crate::layout::Layout;
use crate::local::Words;
use crate::rows::{unpack, used};
use crate::vocabulary::Vocabulary;

/// Topics in the table.
const SHOWN: usize = 25;
/// Characters of the words of a topic in the table.
const WIDE: usize = 90;

/// One of them, as `--json` shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Topic {
    pub(crate) topic: usize,
    /// Its tokens.
    pub(crate) tokens: i64,
    /// Its most frequent words.
    pub(crate) words: Vec<Word>,
}

/// A word of a topic.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Word {
    pub(crate) word: String,
    pub(crate) count: u64,
}

/// How often a topic has a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) topic: u32,
    pub(crate) word: u32,
    pub(crate) count: u32,
}

impl Entry {
    /// By topic, then the most frequent words first.
    fn key(&self) -> (u32, u32, u32) {
        (self.topic, u32::MAX - self.count, self.word)
    }

    fn pack(&self) -> [u32; 3] {
        [self.topic, self.word, self.count]
    }
}

/// What the words at home on this rank have, sorted.
pub(crate) fn entries(layout: &Layout, slices: &[Words]) -> Vec<Entry> {
    let mut all = Vec::new();
    for (group, rows) in slices.iter().flat_map(Words::iter) {
        let group = &layout.groups[group as usize];
        for (word, at) in group.words.iter().zip(group.starts.windows(2)) {
            for element in used(&rows[at[0]..at[1]]) {
                let (topic, count) = unpack(*element);
                all.push(Entry { topic, word: *word, count });
            }
        }
    }
    all.sort_unstable_by_key(Entry::key);
    all
}

/// The entries of all ranks in order, on rank 0 (elsewhere nothing). Collective.
pub(crate) fn together(world: &mut World, mine: &[Entry]) -> Result<Vec<Entry>> {
    let flat = to_first(world, mine.iter().flat_map(Entry::pack).collect())?;
    let entry = |[topic, word, count]: &[u32; 3]| Entry { topic: *topic, word: *word, count: *count };
    let mut all: Vec<Entry> = flat.as_chunks().0.iter().map(entry).collect();
    all.sort_unstable_by_key(Entry::key);
    Ok(all)
}

/// The `n` most frequent words of each topic, on rank 0 (elsewhere nothing). Collective.
pub(crate) fn top(
    world: &mut World,
    entries: &[Entry],
    totals: &[i64],
    vocabulary: &Vocabulary,
    n: usize,
) -> Result<Vec<Topic>> {
    let first: Vec<Entry> =
        entries.chunk_by(|a, b| a.topic == b.topic).flat_map(|of| &of[..of.len().min(n)]).copied().collect();
    let first = together(world, &first)?;
    if world.rank() != 0 {
        return Ok(Vec::new());
    }
    let topic = |(topic, tokens): (usize, &i64)| {
        let begin = first.partition_point(|e| (e.topic as usize) < topic);
        let of = first[begin..].iter().take_while(|e| e.topic as usize == topic).take(n);
        let word =
            |e: &Entry| Word { word: vocabulary.words[e.word as usize].clone(), count: u64::from(e.count) };
        Topic { topic, tokens: *tokens, words: of.map(word).collect() }
    };
    Ok(totals.iter().enumerate().map(topic).collect())
}

/// The text on standard output: what was done, the topics, and where the rest is.
pub(crate) fn text(s: &Summary, directory: Option<String>) -> String {
    let mut out = String::new();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(
        out,
        "{}: {} documents, {} tokens of {} words, {} on {}, {} each, wires: {}",
        s.input,
        s.documents,
        s.tokens,
        s.words,
        plural(s.ranks as usize, "rank"),
        plural(s.nodes, "node"),
        plural(s.threads, "thread"),
        s.transport
    );
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let _ = writeln!(
        out,
        "{}, alpha {}, beta {}, {} (read {}, place {}, sample {}): {:.3} million tokens/s",
        plural(s.topics as usize, "topic"),
        s.alpha,
        s.beta,
        plural(s.iterations, "iteration"),
        time(s.seconds.read),
        time(s.seconds.place),
        time(s.seconds.sample),
        s.tokens_per_second / 1e6
    );
    let _ = writeln!(
        out,
        "log-likelihood {:.6e}, {:.4} a token; {:.1} MiB of words rotate in an iteration",
        s.log_likelihood,
        s.log_likelihood_per_token,
        s.rotated_bytes as f64 / f64::from(1 << 20)
    );
    let mut order: Vec<&Topic> = s.top.iter().collect();
    order.sort_by_key(|t| std::cmp::Reverse(t.tokens));
    if s.top.iter().any(|t| !t.words.is_empty()) {
        let _ = writeln!(out, "\n  topic  tokens  words\n  -----  ------  -----");
        for topic in order.iter().take(SHOWN) {
            let words: Vec<&str> = topic.words.iter().map(|w| w.word.as_str()).collect();
            let words: String = words.join(" ").chars().take(WIDE).collect();
            let share = 100.0 * topic.tokens as f64 / s.tokens.max(1) as f64;
            let _ = writeln!(out, "  {:>5}  {share:>4.1} %  {words}", topic.topic);
        }
        if order.len() > SHOWN {
            let _ = writeln!(out, "  and {} smaller ones", order.len() - SHOWN);
        }
    }
    if let Some(directory) = directory {
        let _ = writeln!(out, "\nwritten: {directory}/topics.tsv, documents.tsv, vocabulary.tsv");
    }
    out
}
