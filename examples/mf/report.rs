//! The JSON object, and the text on standard output.

use std::fmt::Write;
use std::time::Duration;

use aeolian_examples::progress::seconds;
use serde::Serialize;

use crate::sgd::Epoch;

/// Epochs in the table, at most.
const SHOWN: usize = 10;

/// Wall-clock seconds of rank 0, which waits for all ranks at the end of each stretch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    /// Reading or making the ratings.
    pub(crate) read: f64,
    /// Numbering users and items, moving the ratings, cutting blocks.
    pub(crate) build: f64,
    /// All epochs, without looking at what is held out.
    pub(crate) train: f64,
    pub(crate) per_epoch: f64,
    /// From the joined world to the last result computed; writing it comes after.
    pub(crate) total: f64,
}

/// What `--json` prints and `model.json` has, and the table shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) threads: usize,
    pub(crate) input: String,
    pub(crate) users: u64,
    pub(crate) items: u64,
    /// To train on.
    pub(crate) ratings: u64,
    pub(crate) held_out: u64,
    /// Of those held out: their user or item has no rating to train on.
    pub(crate) cold: u64,
    /// Of the ratings to train on; 0 with `--no-bias`.
    pub(crate) mean: f64,
    pub(crate) factors: usize,
    pub(crate) epochs: usize,
    pub(crate) learning_rate: f32,
    pub(crate) regularisation: f32,
    pub(crate) biases: bool,
    pub(crate) seed: u64,
    /// Splits of a rank's users, and of all items.
    pub(crate) blocks: [usize; 2],
    /// Of the last epoch, each error just before its update.
    pub(crate) train_rmse: f64,
    /// Of what was held out, after the last epoch.
    pub(crate) test_rmse: Option<f64>,
    pub(crate) updates_per_second: f64,
    pub(crate) seconds: Seconds,
    /// The largest of all ranks.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) version: &'static str,
    pub(crate) history: Vec<Epoch>,
}

/// The text on standard output: what was done, how the error fell, and where the model is.
pub(crate) fn text(s: &Summary, directory: Option<String>) -> String {
    let mut out = String::new();
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(
        out,
        "{}: {} users, {} items, {} on {}, {} each, wires: {}",
        s.input,
        s.users,
        s.items,
        plural(s.ranks as usize, "rank"),
        plural(s.nodes, "node"),
        plural(s.threads, "thread"),
        s.transport
    );
    let cold = if s.cold == 0 { String::new() } else { format!(" ({} of new users or items)", s.cold) };
    let _ = writeln!(out, "{} ratings to train on, {} held out{cold}", s.ratings, s.held_out);
    let _ = writeln!(
        out,
        "{}{}, learning rate {}, regularisation {}, blocks: {} x {}",
        plural(s.factors, "factor"),
        if s.biases { ", mean and biases" } else { " alone" },
        s.learning_rate,
        s.regularisation,
        s.blocks[0],
        s.blocks[1]
    );
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let _ = writeln!(
        out,
        "{} in {} (read {}, build {}): {:.2} million updates/s",
        plural(s.epochs, "epoch"),
        time(s.seconds.train),
        time(s.seconds.read),
        time(s.seconds.build),
        s.updates_per_second / 1e6
    );
    let _ = writeln!(out, "\n  {:>6}  {:>10}  {:>10}", "epoch", "RMSE", "held out");
    let _ = writeln!(out, "  {0:->6}  {0:->10}  {0:->10}", "");
    for e in shown(&s.history) {
        let held_out = e.test_rmse.map_or_else(String::new, |x| format!("{x:.4}"));
        let _ = writeln!(
            out,
            "{}",
            format!("  {:>6}  {:>10.4}  {held_out:>10}", e.epoch, e.train_rmse).trim_end()
        );
    }
    if let Some(directory) = directory {
        let _ = writeln!(out, "\nwritten: {directory}: users.csv, items.csv, model.json");
    }
    out
}

/// Some epochs: evenly spread, with the last one.
fn shown(history: &[Epoch]) -> impl Iterator<Item = &Epoch> {
    let step = history.len().div_ceil(SHOWN).max(1);
    let last = history.len().saturating_sub(1);
    history.iter().enumerate().filter(move |(i, _)| (last - i).is_multiple_of(step)).map(|(_, e)| e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_epochs_at_most_and_the_last_one() {
        for n in [0usize, 1, 9, 10, 11, 20, 25, 1000] {
            let epoch = |i| Epoch { epoch: i as u32, train_rmse: 1.0, test_rmse: None };
            let history: Vec<Epoch> = (1..=n).map(epoch).collect();
            let rows: Vec<u32> = shown(&history).map(|e| e.epoch).collect();
            assert!(rows.len() <= SHOWN && rows.last().copied().unwrap_or(0) as usize == n, "{n}: {rows:?}");
        }
    }
}
