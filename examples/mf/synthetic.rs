//! Random ratings with a known structure. Rating `i` depends on the seed and `i` alone, so any number of ranks makes the same ones.

use std::io::Write;

use aeolian_examples::Result;
use aeolian_examples::random::at;
use aeolian_examples::workers::Workers;

use crate::cli::Options;
use crate::ratings::{HoldOut, Part};

/// Factors behind the ratings.
const FACTORS: u64 = 8;
const MEAN: f64 = 3.5;
const BIAS: f64 = 0.4;
/// Of each factor: products of 8 then have a deviation of 0.6.
const FACTOR: f64 = 0.46;
/// What nobody can predict.
const NOISE: f64 = 0.5;

// What the numbers of a seed are for.
const USER: u64 = 1;
const ITEM: u64 = 2;
const ERROR: u64 = 3;
const USER_FACTORS: u64 = 4;
const ITEM_FACTORS: u64 = 5;

/// About normal, with mean 0 and deviation 1: four draws added up.
pub(crate) fn normal(word: u64) -> f64 {
    let sum: u64 = (0..4).map(|i| word >> (16 * i) & 0xffff).sum();
    (sum as f64 / 65536.0 - 2.0 + 2.0 / 65536.0) * 3f64.sqrt()
}

/// Users and items with low numbers have more ratings: numbers are `n x^2` for an even `x`.
fn skewed(word: u64, n: u32) -> u32 {
    let x = (word >> 11) as f64 / 2f64.powi(53);
    ((f64::from(n) * x * x) as u32).min(n - 1)
}

/// User, item and rating `i`.
pub(crate) fn rating(options: &Options, i: u64) -> (u32, u32, f32) {
    let seed = options.seed;
    let user = skewed(at(seed, USER, i), options.users);
    let item = skewed(at(seed, ITEM, i), options.items);
    let own = |stream: u64, who: u32, f: u64| normal(at(seed, stream, u64::from(who) * (FACTORS + 1) + f));
    let product = |f: u64| own(USER_FACTORS, user, f) * own(ITEM_FACTORS, item, f);
    let taste: f64 = (0..FACTORS).map(product).sum();
    let biases = own(USER_FACTORS, user, FACTORS) + own(ITEM_FACTORS, item, FACTORS);
    let value = MEAN + BIAS * biases + FACTOR * FACTOR * taste + NOISE * normal(at(seed, ERROR, i));
    (user, item, value as f32)
}

/// Makes the ratings of a range.
pub(crate) fn make(
    options: &Options,
    range: std::ops::Range<u64>,
    hold_out: HoldOut,
    workers: &Workers,
) -> Result<Part> {
    let pieces = workers.split((range.end - range.start) as usize, |piece| -> Result<Part> {
        let mut part = Part::default();
        let (mut user, mut item) = (Vec::new(), Vec::new());
        for i in piece {
            let (u, v, value) = rating(options, range.start + i as u64);
            user.clear();
            item.clear();
            // Into memory: cannot fail.
            let _ = write!(user, "{u}").and_then(|()| write!(item, "{v}"));
            part.add(&user, &item, value, hold_out)?;
        }
        Ok(part)
    });
    let mut part = Part::default();
    for piece in pieces {
        part.append(&piece?)?;
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_normal() {
        let draws: Vec<f64> = (0..100_000).map(|i| normal(at(5, 0, i))).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn numbers_are_in_range_and_skewed() {
        assert!((0..1000).all(|i| skewed(at(1, 0, i), 1) == 0));
        assert_eq!(skewed(u64::MAX, 10), 9);
        let low = (0..10_000).filter(|i| skewed(at(1, 0, *i), 100) < 25).count();
        assert!(low.abs_diff(5000) < 300, "a quarter of the numbers has half of the ratings: {low}");
    }
}
