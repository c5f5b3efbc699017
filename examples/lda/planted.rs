//! Random texts of which the topics are known. A document depends on the seed and its number alone, so any number of ranks
//! makes the same texts.

use aeolian_examples::random::{at, below};

use crate::cli::Options;

/// Topics in a document.
const MIXED: u64 = 3;

/// Documents that each mix three topics; each topic has Zipf's law over the words in an order of its own.
pub(crate) struct Planted {
    seed: u64,
    topics: u64,
    words: u64,
    length: u64,
    /// Sums of 1 / (1 + place).
    zipf: Vec<f64>,
}

impl Planted {
    /// As the options say.
    pub(crate) fn new(options: &Options) -> Planted {
        let mut sum = 0.0;
        let zipf = (0..options.vocabulary)
            .map(|place| {
                sum += 1.0 / (1.0 + f64::from(place));
                sum
            })
            .collect();
        Planted {
            seed: options.seed,
            topics: u64::from(options.topics),
            words: u64::from(options.vocabulary),
            length: u64::from(options.length),
            zipf,
        }
    }

    /// The words of document `document`, by number.
    pub(crate) fn words(&self, document: u64) -> impl Iterator<Item = u64> + '_ {
        let topics: [u64; MIXED as usize] =
            std::array::from_fn(|i| below(self.seed, 11, document * MIXED + i as u64, self.topics));
        (0..self.length).map(move |i| {
            let draw = at(self.seed, 12, document * self.length + i);
            let topic = topics[(draw % MIXED) as usize];
            let share = (draw >> 11) as f64 / (1u64 << 53) as f64 * self.zipf[self.zipf.len() - 1];
            let place = self.zipf.partition_point(|sum| *sum <= share).min(self.zipf.len() - 1) as u64;
            // Not a permutation: what collides is one word more often, as words with two meanings are.
            below(self.seed, 13 + topic, place, self.words)
        })
    }
}
