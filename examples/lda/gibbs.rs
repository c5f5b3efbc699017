//! The iterations: slices of the word-topic table go round the ranks, each of which samples its own tokens of the words that are
//! there.

use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::schedule::{RingOrder, Rotator, overlap};
use aeolian::harp::{Array, Pending, Sum, Table, allreduce_slice, iallreduce};
use aeolian_examples::Result;
use serde::Serialize;

use crate::cells::Block;
use crate::layout::SLICES;
use crate::likelihood::of_totals;
use crate::local::{Local, Step, Words, add};

/// How well the topics explain the texts after some iterations.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Fit {
    pub(crate) iteration: usize,
    /// log p(w, z).
    pub(crate) log_likelihood: f64,
}

/// The changes of all ranks that are under way, and those of this rank among them.
struct Underway {
    all: Pending<Table<i64, Sum>>,
    mine: Vec<i64>,
}

/// A model in training.
pub(crate) struct Gibbs<'a> {
    local: Local<'a>,
    rotator: Rotator<u64, Sum>,
    /// Tokens of each topic, as far as this rank knows.
    totals: Vec<i64>,
    underway: Option<Underway>,
    /// Time that this rank has waited for slices.
    pub(crate) waited: Duration,
}

impl<'a> Gibbs<'a> {
    /// Counts the tokens' first topics, for which the empty slices go round once. Collective.
    pub(crate) fn new(world: &mut World, local: Local<'a>) -> Result<Gibbs<'a>> {
        let mut slices = Vec::with_capacity(SLICES);
        for slice in 0..SLICES {
            let mut table = Words::new(Sum);
            for group in local.layout.slice(world.rank() as usize, slice) {
                let starts = &local.layout.groups[group].starts;
                table.add(group as u64, Array::zeroed(starts[starts.len() - 1]))?;
            }
            slices.push(table);
        }
        let mut gibbs = Gibbs {
            rotator: Rotator::new(world, slices, RingOrder::Ranks)?,
            totals: vec![0; local.priors.topics],
            local,
            underway: None,
            waited: Duration::ZERO,
        };
        gibbs.round(world, Step::Count, false)?;
        Ok(gibbs)
    }

    /// Gives every token of all ranks a new topic; returns the log-likelihood after that if asked to. Collective.
    pub(crate) fn iterate(
        &mut self,
        world: &mut World,
        iteration: usize,
        judge: bool,
    ) -> Result<Option<f64>> {
        let words = self.round(world, Step::Sample(iteration), judge)?;
        if !judge {
            return Ok(None);
        }
        let mut sum = [words + self.local.judge_documents()];
        allreduce_slice(world, &mut sum, Sum)?;
        Ok(Some(sum[0] + of_totals(&self.totals, self.local.priors)))
    }

    /// Once round the ranks. Returns the rows' part in the log-likelihood, of those that are on this rank at the end, if asked for.
    fn round(&mut self, world: &mut World, step: Step, judge: bool) -> Result<f64> {
        let mut words = 0.0;
        for turn in 0..world.size() {
            let last = judge && turn + 1 == world.size();
            for slice in 0..SLICES {
                let waiting = Instant::now();
                let mut table = self.rotator.get(slice)?;
                self.waited += waiting.elapsed();
                let delta = if world.size() == 1 {
                    self.local.visit(&mut table, &self.totals, step, 0)
                } else {
                    let (local, totals, rank) = (&mut self.local, &self.totals, world.rank());
                    overlap(world, || Ok(local.visit(&mut table, totals, step, rank)))?
                };
                self.learn()?;
                self.tell(world, delta)?;
                if last {
                    words += self.local.judge_words(&table);
                }
                self.rotator.rotate(slice, table)?;
            }
        }
        // At the end everybody knows all.
        self.learn()?;
        Ok(words)
    }

    /// Takes in what the ranks have told each other before.
    fn learn(&mut self) -> Result<()> {
        let Some(Underway { all, mine }) = self.underway.take() else { return Ok(()) };
        let all = all.wait()?;
        let all = all.get(0).map(|a| &a[..]).unwrap_or_default();
        for ((total, all), mine) in self.totals.iter_mut().zip(all).zip(mine) {
            *total += all - mine;
        }
        Ok(())
    }

    /// Begins to tell the others what has changed here; they will know after the next slice.
    fn tell(&mut self, world: &World, delta: Vec<i64>) -> Result<()> {
        add(&mut self.totals, &delta);
        if world.size() > 1 {
            let mut table = Table::<i64, Sum>::new(Sum);
            table.add(0, &delta[..])?;
            self.underway = Some(Underway { all: iallreduce(world, table)?, mine: delta });
        }
        Ok(())
    }

    /// Ends: this rank's documents, the words whose home it is, and the tokens of each topic. Collective.
    pub(crate) fn finish(self) -> Result<(Vec<Block>, Vec<Words>, Vec<i64>)> {
        Ok((self.local.blocks, self.rotator.stop()?, self.totals))
    }
}
