//! The joint log-likelihood of words and topics, log p(w, z), with the priors integrated out (Griffiths, Steyvers: *Finding
//! scientific topics*, PNAS 2004).

use crate::cells::Block;
use crate::rows::{unpack, used};
use crate::sampler::Priors;

/// Counts up to this one are looked up.
const TABLE: usize = 4096;

/// The logarithm of the gamma function, for x > 0.
pub(crate) fn ln_gamma(mut x: f64) -> f64 {
    // Stirling's series is good for large x; gamma(x) = gamma(x + 1) / x leads there.
    let mut product = 1.0;
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let series = (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + 0.918_938_533_204_672_7 + series - f64::ln(product)
}

/// log (gamma(n + prior) / gamma(prior)) of counts n.
#[derive(Debug)]
pub(crate) struct Rising {
    prior: f64,
    table: Vec<f64>,
}

impl Rising {
    /// For a prior.
    pub(crate) fn new(prior: f64) -> Rising {
        let mut sum = 0.0;
        let next = |n: usize| {
            let here = sum;
            sum += (n as f64 + prior).ln();
            here
        };
        Rising { prior, table: (0..TABLE).map(next).collect() }
    }

    /// Of a count.
    #[inline]
    pub(crate) fn of(&self, n: u32) -> f64 {
        match self.table.get(n as usize) {
            Some(value) => *value,
            None => ln_gamma(f64::from(n) + self.prior) - ln_gamma(self.prior),
        }
    }

    /// The sum over the rows of words in a partition.
    pub(crate) fn of_words(&self, starts: &[usize], partition: &[u64]) -> f64 {
        let row =
            |w: &[usize]| used(&partition[w[0]..w[1]]).iter().map(|e| self.of(unpack(*e).1)).sum::<f64>();
        starts.windows(2).map(row).sum()
    }

    /// The sum over the documents of a block, with what their lengths take away.
    pub(crate) fn of_documents(&self, block: &Block, priors: Priors) -> f64 {
        let alphas = priors.alpha * priors.topics as f64;
        let one = |d: usize| {
            let list = block.mixtures.of(d).iter();
            let counts: f64 = list.map(|e| self.of(block.mixtures.packing.unpack(*e).1)).sum();
            counts + ln_gamma(alphas) - ln_gamma(alphas + f64::from(block.lengths[d]))
        };
        (0..block.mixtures.len()).map(one).sum()
    }
}

/// What the tokens of each topic take away.
pub(crate) fn of_totals(totals: &[i64], priors: Priors) -> f64 {
    let base = ln_gamma(priors.beta_sum);
    totals.iter().map(|n| base - ln_gamma(*n as f64 + priors.beta_sum)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_is_the_factorial() {
        let mut sum = 0.0;
        for n in 1..200u32 {
            // gamma(n + 1) = n!
            sum += f64::from(n).ln();
            let got = ln_gamma(f64::from(n) + 1.0);
            assert!((got - sum).abs() <= 1e-13 * sum.max(1.0), "{n}: {got} {sum}");
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.ln() / 2.0).abs() < 1e-14);
        // Abramowitz, Stegun, table 6.1 and 6.3 by gamma(0.01) = 99.4325851191506...
        assert!((ln_gamma(0.01) - 99.432_585_119_150_6f64.ln()).abs() < 1e-13);
    }

    #[test]
    fn rising_is_the_same_in_the_table_and_behind_it() {
        for prior in [0.01, 0.5, 3.0] {
            let rising = Rising::new(prior);
            assert_eq!(rising.of(0), 0.0);
            for n in [1, 17, TABLE as u32 - 1, TABLE as u32, 1_000_000] {
                let want = ln_gamma(f64::from(n) + prior) - ln_gamma(prior);
                assert!((rising.of(n) - want).abs() < 1e-9 * want.abs().max(1.0), "{n}");
            }
        }
    }
}
