//! Collapsed Gibbs sampling of the tokens of a cell, word by word.
//!
//! With n the counts without the token, a topic's weight is (n_td + alpha) (n_tw + beta) / (n_t + V beta). Sparse sampling takes it
//! apart as Yao, Mimno and McCallum do (*Efficient Methods for Topic Model Inference on Streaming Document Collections*, KDD 2009),
//! but goes word by word, as Yu et al. do (*A Scalable Asynchronous Distributed Algorithm for Topic Modeling*, WWW 2015): for the word
//! at hand, (n_tw + beta) / (n_t + V beta) of all topics are kept up to date, and only the few topics of the document are summed up
//! for each token. What is left is alpha times the word's own topics, and alpha beta times all of them.

use aeolian_examples::random::mix;

use crate::cells::Cell;
use crate::cli::Sampler;
use crate::layout::Group;
use crate::mixtures::Mixtures;
use crate::rows::{refill, unpack, used};

/// The model's constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Priors {
    pub(crate) topics: usize,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    /// beta times the number of words.
    pub(crate) beta_sum: f64,
}

/// Random numbers of one cell in one iteration.
pub(crate) struct Draws(u64);

impl Draws {
    /// Of this place in the sequence.
    pub(crate) fn new(start: u64) -> Draws {
        Draws(mix(start))
    }

    /// At least 0 and less than 1.
    #[inline]
    fn unit(&mut self) -> f64 {
        // SplitMix64: `mix` adds the constant, so that these are its consecutive outputs.
        let word = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (word >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// What sampling keeps of the word at hand; used again for the next cell.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Tokens of each topic as this cell sees them, plus V beta.
    total: Vec<f64>,
    /// 1 / total.
    share: Vec<f64>,
    /// (n_tw + beta) share.
    weight: Vec<f64>,
    /// n_tw.
    count: Vec<u32>,
    /// Topics that the word has, or had a moment ago.
    listed: Vec<u32>,
    is_listed: Vec<bool>,
    /// Sums of weights up to each topic of the document.
    sums: Vec<f64>,
    /// Sum of all `share`.
    shares: f64,
    /// Sum of n_tw share.
    of_word: f64,
}

impl Scratch {
    fn start(&mut self, priors: Priors, totals: &[i64]) {
        self.total.clear();
        self.total.extend(totals.iter().map(|n| *n as f64 + priors.beta_sum));
        self.share.clear();
        self.share.extend(self.total.iter().map(|t| 1.0 / t));
        self.weight.clear();
        self.weight.extend(self.share.iter().map(|s| priors.beta * s));
        self.shares = self.share.iter().sum();
        self.count.resize(priors.topics, 0);
        self.is_listed.resize(priors.topics, false);
        self.sums.resize(priors.topics, 0.0);
    }

    fn open(&mut self, row: &[u64], beta: f64) {
        self.of_word = 0.0;
        for element in used(row) {
            let (topic, count) = unpack(*element);
            let t = topic as usize;
            self.listed.push(topic);
            self.is_listed[t] = true;
            self.count[t] = count;
            self.of_word += f64::from(count) * self.share[t];
            self.weight[t] = (f64::from(count) + beta) * self.share[t];
        }
    }

    fn close(&mut self, row: &mut [u64], beta: f64) {
        refill(row, self.listed.iter().map(|t| (*t, self.count[*t as usize])).filter(|(_, n)| *n > 0));
        for t in self.listed.drain(..) {
            let t = t as usize;
            self.count[t] = 0;
            self.is_listed[t] = false;
            self.weight[t] = beta * self.share[t];
        }
    }

    /// One token more or less of a topic.
    #[inline]
    fn change(&mut self, t: usize, beta: f64, more: bool) {
        let (before, n) = (self.share[t], f64::from(self.count[t]));
        let by = if more { 1.0 } else { -1.0 };
        self.count[t] = if more { self.count[t] + 1 } else { self.count[t] - 1 };
        self.total[t] += by;
        let share = 1.0 / self.total[t];
        self.shares += share - before;
        self.of_word += (n + by) * share - n * before;
        self.share[t] = share;
        self.weight[t] = (n + by + beta) * share;
    }

    /// A new topic for a token that has been taken out, and its place in the document's list if that is known; `from` is the place
    /// of the old topic `old`, of which the list still has one token too many.
    #[inline]
    fn sparse(&mut self, list: &[u32], mixtures: &Mixtures, old: usize, priors: Priors, unit: f64) -> Drawn {
        let packing = mixtures.packing;
        let (mut sum, mut from) = (0.0, 0);
        for (i, (element, to)) in list.iter().zip(&mut self.sums).enumerate() {
            let (t, mut n) = packing.unpack(*element);
            if t == old {
                n -= 1;
                from = i;
            }
            sum += f64::from(n) * self.weight[t];
            *to = sum;
        }
        let mut left = unit * (sum + priors.alpha * (self.of_word + priors.beta * self.shares));
        if left < sum {
            let at = self.sums[..list.len()].iter().position(|s| left < *s).unwrap_or(from);
            return Drawn { topic: packing.unpack(list[at]).0, from, at: Some(at) };
        }
        left = (left - sum) / priors.alpha;
        if left < self.of_word {
            for t in &self.listed {
                let t = *t as usize;
                left -= f64::from(self.count[t]) * self.share[t];
                if left < 0.0 {
                    return Drawn { topic: t, from, at: None };
                }
            }
            left = self.of_word;
        }
        left = (left - self.of_word) / priors.beta;
        for (t, share) in self.share.iter().enumerate() {
            left -= share;
            if left < 0.0 {
                return Drawn { topic: t, from, at: None };
            }
        }
        // Only rounding leads here.
        Drawn { topic: priors.topics - 1, from, at: None }
    }

    /// The same distribution from the weights of all topics.
    fn dense(&mut self, list: &[u32], mixtures: &Mixtures, old: usize, priors: Priors, unit: f64) -> Drawn {
        for (to, weight) in self.sums.iter_mut().zip(&self.weight) {
            *to = priors.alpha * weight;
        }
        let mut from = 0;
        for (i, element) in list.iter().enumerate() {
            let (t, mut n) = mixtures.packing.unpack(*element);
            if t == old {
                n -= 1;
                from = i;
            }
            self.sums[t] += f64::from(n) * self.weight[t];
        }
        let mut sum = 0.0;
        for to in &mut self.sums {
            sum += *to;
            *to = sum;
        }
        let topic = self.sums.partition_point(|s| *s <= unit * sum).min(priors.topics - 1);
        Drawn { topic, from, at: None }
    }
}

struct Drawn {
    topic: usize,
    /// Place of the old topic in the document's list.
    from: usize,
    /// Place of the new one, if it is known to be there.
    at: Option<usize>,
}

/// Gives every token of a cell a new topic, and adds to `delta` what that changes in the tokens of each topic. `totals` is the tokens
/// of each topic as they are known here.
#[allow(
    clippy::too_many_arguments,
    reason = "all of it is what one token needs, or where its topic is counted"
)]
pub(crate) fn sample(
    priors: Priors,
    kind: Sampler,
    totals: &[i64],
    (group, partition): (&Group, &mut [u64]),
    cell: &mut Cell,
    mixtures: &mut Mixtures,
    scratch: &mut Scratch,
    draws: &mut Draws,
    delta: &mut [i64],
) {
    if cell.tokens.is_empty() {
        return;
    }
    scratch.start(priors, totals);
    let mut begin = 0;
    for (place, end) in &cell.runs {
        let row = &mut partition[group.starts[*place as usize]..group.starts[*place as usize + 1]];
        scratch.open(row, priors.beta);
        for token in &mut cell.tokens[begin..*end as usize] {
            let (document, old) = (token.document as usize, token.topic as usize);
            let (shares, of_word, share) = (scratch.shares, scratch.of_word, scratch.share[old]);
            scratch.change(old, priors.beta, false);
            let (list, unit) = (mixtures.of(document), draws.unit());
            let drawn = match kind {
                Sampler::Sparse => scratch.sparse(list, mixtures, old, priors, unit),
                Sampler::Dense => scratch.dense(list, mixtures, old, priors, unit),
            };
            let new = drawn.topic;
            if new == old {
                // As it was, to the last bit: rounding does not add up.
                scratch.count[old] += 1;
                scratch.total[old] += 1.0;
                scratch.weight[old] = (f64::from(scratch.count[old]) + priors.beta) * share;
                scratch.share[old] = share;
                (scratch.shares, scratch.of_word) = (shares, of_word);
                continue;
            }
            scratch.change(new, priors.beta, true);
            if !scratch.is_listed[new] {
                scratch.is_listed[new] = true;
                scratch.listed.push(new as u32);
            }
            mixtures.shift(document, drawn.from, new, drawn.at);
            delta[old] -= 1;
            delta[new] += 1;
            token.topic = new as u32;
        }
        scratch.close(row, priors.beta);
        begin = *end as usize;
    }
}
