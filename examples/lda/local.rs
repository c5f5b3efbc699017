//! What a rank does with a slice that is there, on its threads.

use aeolian::harp::{Sum, Table};
use aeolian_examples::random::at;
use aeolian_examples::workers::Workers;

use crate::cells::{Block, Cell};
use crate::cli::Sampler;
use crate::layout::Layout;
use crate::likelihood::Rising;
use crate::rows::{refill, unpack, used};
use crate::sampler::{Draws, Priors, Scratch, sample};

/// Words of a slice, which travel.
pub(crate) type Words = Table<u64, Sum>;

/// What is done with a rank's tokens of a slice that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// They are added to the empty rows.
    Count,
    /// They get new topics, in this iteration.
    Sample(usize),
}

/// A rank's documents, and what sampling them needs.
pub(crate) struct Local<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) workers: &'a Workers,
    pub(crate) priors: Priors,
    kind: Sampler,
    seed: u64,
    pub(crate) blocks: Vec<Block>,
    scratch: Vec<Scratch>,
    of_words: Rising,
    of_documents: Rising,
}

impl<'a> Local<'a> {
    /// With a rank's documents.
    pub(crate) fn new(
        layout: &'a Layout,
        workers: &'a Workers,
        blocks: Vec<Block>,
        priors: Priors,
        kind: Sampler,
        seed: u64,
    ) -> Local<'a> {
        Local {
            layout,
            workers,
            priors,
            kind,
            seed,
            scratch: blocks.iter().map(|_| Scratch::default()).collect(),
            blocks,
            of_words: Rising::new(priors.beta),
            of_documents: Rising::new(priors.alpha),
        }
    }

    /// Works on this rank's tokens of the words in `table`. Threads work on blocks of documents and groups of words of which no two
    /// share a row or a column; which ones and in what order does not depend on the threads. `known` is the
    /// tokens of each topic as this rank knows them; returned is what has changed in them.
    pub(crate) fn visit(&mut self, table: &mut Words, known: &[i64], step: Step, rank: u32) -> Vec<i64> {
        let Local { layout, workers, priors, kind, seed, blocks, scratch, .. } = self;
        let (n, all, topics) = (layout.blocks, layout.groups.len() as u64, priors.topics);
        let mut changes = vec![0; topics];
        let mut totals = known.to_vec();
        for diagonal in 0..n {
            let mut columns: Vec<Option<(usize, &mut [u64])>> =
                table.iter_mut().map(|(group, rows)| Some((group as usize, &mut rows[..]))).collect();
            let pick = |((b, block), scratch)| {
                let column = columns.get_mut((b + diagonal) % n).and_then(Option::take);
                column.map(|(group, rows)| (b, block, scratch, group, rows))
            };
            let items: Vec<(usize, &mut Block, &mut Scratch, usize, &mut [u64])> =
                blocks.iter_mut().enumerate().zip(scratch.iter_mut()).filter_map(pick).collect();
            let deltas = workers.each(items, |(b, block, scratch, group, rows)| {
                let mut delta = vec![0; topics];
                let (of, cell, mixtures) =
                    (&layout.groups[group], &mut block.cells[group], &mut block.mixtures);
                match step {
                    Step::Count => count(&of.starts, rows, cell, &mut delta),
                    Step::Sample(iteration) => {
                        let place = (u64::from(rank) * n as u64 + b as u64) * all + group as u64;
                        let mut draws = Draws::new(at(*seed, u64::MAX - iteration as u64, place));
                        let words = (of, rows);
                        sample(
                            *priors, *kind, &totals, words, cell, mixtures, scratch, &mut draws, &mut delta,
                        );
                    }
                }
                delta
            });
            for delta in deltas {
                add(&mut totals, &delta);
                add(&mut changes, &delta);
            }
        }
        changes
    }

    /// The part of rows in the log-likelihood.
    pub(crate) fn judge_words(&self, table: &Words) -> f64 {
        let parts: Vec<(u64, &[u64])> = table.iter().map(|(group, rows)| (group, &rows[..])).collect();
        let sums = self.workers.each(parts, |(group, rows)| {
            self.of_words.of_words(&self.layout.groups[group as usize].starts, rows)
        });
        sums.iter().sum()
    }

    /// The part of this rank's documents.
    pub(crate) fn judge_documents(&self) -> f64 {
        let blocks: Vec<&Block> = self.blocks.iter().collect();
        let sums = self.workers.each(blocks, |block| self.of_documents.of_documents(block, self.priors));
        sums.iter().sum()
    }
}

/// Adds up, topic by topic.
pub(crate) fn add(into: &mut [i64], other: &[i64]) {
    into.iter_mut().zip(other).for_each(|(a, b)| *a += b);
}

/// Adds a cell's tokens to the rows.
fn count(starts: &[usize], rows: &mut [u64], cell: &Cell, delta: &mut [i64]) {
    let mut begin = 0;
    let mut counts: Vec<(u32, u32)> = Vec::new();
    for (place, end) in &cell.runs {
        let row = &mut rows[starts[*place as usize]..starts[*place as usize + 1]];
        counts.clear();
        counts.extend(used(row).iter().map(|e| unpack(*e)));
        counts.extend(cell.tokens[begin..*end as usize].iter().map(|t| (t.topic, 1)));
        counts.sort_unstable();
        counts.dedup_by(|b, a| {
            let same = a.0 == b.0;
            a.1 += if same { b.1 } else { 0 };
            same
        });
        refill(row, counts.iter().copied());
        begin = *end as usize;
    }
    cell.tokens.iter().for_each(|t| delta[t.topic as usize] += 1);
}
