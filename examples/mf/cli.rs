//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use aeolian_examples::Error;
use aeolian_examples::program::End;
use aeolian_examples::whole::whole;
use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  mf                                               random ratings with a known structure
  mf --input ratings.csv --output model            users.csv, items.csv and model.json in model/
  aeolian run -n 4 mf --input ratings.csv --rank 64 --epochs 30 --test-every 5
  srun -n 64 mf --input train.tsv --test-file test.tsv --output model --json
";

const MORE: &str = "\
RATINGS is text with one rating a line: USER, ITEM and RATING, separated by comma (csv), or by TAB or blanks (tsv); more \
columns are ignored. Users and items are names or numbers. The first line may be a header; `#` lines and blank lines are \
skipped. Every rank reads only its part.

Exit codes: 0 done; 64 wrong command line; 65 unusable input, or factors that grow beyond all bounds; 66 no input; 73 \
output cannot be written; 74 a read failed half-way; 75 stopped on request before the end (the model so far is written).";

/// What a file of ratings looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// fields separated by comma
    Csv,
    /// fields separated by TAB, or by blanks where a line has no TAB
    Tsv,
}

/// Random ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generator {
    /// biases, 8 factors and noise of deviation 0.5
    Synthetic,
}

/// Factorises a matrix of ratings by stochastic gradient descent, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "mf", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// Ratings, one a line (without it: --generate synthetic)
    #[arg(long, value_name = "RATINGS")]
    pub(crate) input: Option<String>,
    /// What they look like [default: by the name of the file: .csv, otherwise tsv]
    #[arg(long, value_enum, requires = "input")]
    pub(crate) format: Option<Format>,
    /// Make random ratings instead of reading some
    #[arg(long, value_enum, conflicts_with = "input")]
    pub(crate) generate: Option<Generator>,
    /// Users of the random ratings
    #[arg(long, value_name = "U", default_value_t = 1000, conflicts_with = "input")]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) users: u32,
    /// Items of the random ratings
    #[arg(long, value_name = "I", default_value_t = 2000, conflicts_with = "input")]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) items: u32,
    /// How many random ratings
    #[arg(long, value_name = "R", default_value_t = 100_000, conflicts_with = "input")]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) ratings: u64,
    /// Factors of each user and item
    #[arg(long, value_name = "K", default_value_t = 32)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) rank: usize,
    /// How many times every rating is used
    #[arg(long, value_name = "E", default_value_t = 20)]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) epochs: u32,
    /// How far a rating moves its user and its item
    #[arg(long, value_name = "L", default_value_t = 0.01)]
    pub(crate) learning_rate: f32,
    /// How strongly factors and biases are pulled to 0
    #[arg(long, value_name = "L2", default_value_t = 0.05)]
    pub(crate) regularisation: f32,
    /// Factors alone: no mean of all ratings, no biases of users and items
    #[arg(long)]
    pub(crate) no_bias: bool,
    /// Share of the ratings that is held out, to measure the error on [default: 0.1; with --test-file none]
    #[arg(long, value_name = "SHARE")]
    pub(crate) test: Option<f64>,
    /// Ratings to measure the error on, in the format of the input
    #[arg(long, value_name = "RATINGS", requires = "input", conflicts_with = "test")]
    pub(crate) test_file: Option<String>,
    /// Measure it after every N epochs too, not only at the end
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) test_every: Option<u32>,
    /// Seed of the first factors, of the order of ratings, of what is held out, and of random ratings
    #[arg(long, value_name = "X", default_value_t = 1)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Directory for users.csv, items.csv and model.json; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Threads in each rank [default: cores of the node / ranks on it]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// No progress and no table
    #[arg(long)]
    pub(crate) quiet: bool,
    /// End with one JSON object on standard output instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, End> {
    let options = Options::try_parse_from(args).map_err(End::Print)?;
    match check(&options) {
        Ok(()) => Ok(options),
        Err((what, help)) => Err(End::Wrong(Error::usage(what, help))),
    }
}

fn check(options: &Options) -> Result<(), (String, String)> {
    let wrong = |what: String, help: &str| Err((what, help.to_owned()));
    let positive = |x: f32| x.is_finite() && x > 0.0;
    match options {
        Options { rank, .. } if !(1..=4096).contains(rank) => {
            wrong(format!("--rank {rank}: so many factors cannot be had"), "give 1 to 4096")
        }
        Options { epochs: 0, .. } => {
            wrong("--epochs 0: nothing would be learnt".into(), "give at least 1; 20 is usual")
        }
        Options { threads: Some(0), .. } => {
            wrong("--threads 0: nothing could be computed".into(), "give at least 1")
        }
        Options { test_every: Some(0), .. } => {
            wrong("--test-every 0: there is no such epoch".into(), "give at least 1")
        }
        Options { learning_rate: l, .. } if !positive(*l) => {
            wrong(format!("--learning-rate {l}: must be a positive number"), "0.005 to 0.02 is usual")
        }
        Options { regularisation: l, .. } if !(positive(*l) || *l == 0.0) => {
            wrong(format!("--regularisation {l}: must be 0 or a positive number"), "0.02 to 0.1 is usual")
        }
        Options { test: Some(share), .. } if !(0.0..1.0).contains(share) => {
            wrong(format!("--test {share}: must be at least 0 and less than 1"), "0.1 is usual")
        }
        Options { input: None, users, items, ratings, .. } if *users == 0 || *items == 0 || *ratings == 0 => {
            wrong(
                "no users, items or ratings: there would be nothing to learn".into(),
                "give at least 1 of each",
            )
        }
        _ => Ok(()),
    }
}

impl Options {
    /// What is factorised, for messages.
    pub(crate) fn input_name(&self) -> String {
        match &self.input {
            Some(input) => input.clone(),
            None => format!("synthetic, {} ratings, seed {}", self.ratings, self.seed),
        }
    }

    /// The format that was asked for, or that the file's name says.
    pub(crate) fn format(&self) -> Format {
        let name = self.input.as_deref().unwrap_or_default().to_ascii_lowercase();
        self.format.unwrap_or(if name.ends_with(".csv") { Format::Csv } else { Format::Tsv })
    }

    /// The share of the ratings that is held out.
    pub(crate) fn held_out(&self) -> f64 {
        self.test.unwrap_or(if self.test_file.is_some() { 0.0 } else { 0.1 })
    }
}
