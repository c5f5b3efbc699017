//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use aeolian_examples::Error;
use aeolian_examples::program::End;
use aeolian_examples::whole::whole;
use clap::{Parser, ValueEnum};

use crate::models::Kind;

const EXAMPLES: &str = "\
Examples:
  kmeans                                           the bundled handwritten digits: a table and a picture
  kmeans --input points.csv --k 8                  8 clusters of the rows of a text file
  aeolian run -n 4 kmeans --input x.npy --k 100 --output centroids.csv --labels labels.npy
  srun -n 64 kmeans --input /scratch/x.h5:/points --k 1000 --dtype f32 --json
";

const MORE: &str = "\
FILE is a .npy array, a dataset in an HDF5 file (FILE.h5:/dataset), or anything else as text: numbers separated by \
comma, semicolon, TAB or blanks, one row a line, with or without a header. Every rank reads only its part.

Exit codes: 0 done; 64 wrong command line; 65 unusable input; 66 no input; 73 output cannot be written; 74 a read \
failed half-way; 75 stopped on request before the end (results so far are written).";

/// Numbers that the computation runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// 8 bytes
    F64,
    /// 4 bytes: half the memory, about twice the speed
    F32,
}

/// Clusters the rows of a file by Lloyd's k-means, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "kmeans", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// Points: FILE.csv, FILE.npy or FILE.h5:/dataset (without it: the bundled digits)
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<String>,
    /// Number of clusters (digits: 10; with --init FILE: its rows)
    #[arg(long, value_name = "K")]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) k: Option<usize>,
    /// At most this many iterations
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) iterations: usize,
    /// Stop when the squared movement of all centroids is at most this times the mean variance of the columns
    #[arg(long, value_name = "T", default_value_t = 1e-4)]
    pub(crate) tolerance: f64,
    /// First centroids: first (rows), random (rows), kmeans++, or a .csv or .npy FILE with one centroid a row
    #[arg(long, value_name = "HOW", default_value = "kmeans++")]
    pub(crate) init: String,
    /// Seed of random and kmeans++; the same on any number of ranks
    #[arg(long, value_name = "S", default_value_t = 1)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Numbers to compute in
    #[arg(long, value_enum, default_value_t = Dtype::F64)]
    pub(crate) dtype: Dtype,
    /// How the ranks compute new centroids together
    #[arg(long, value_enum, value_name = "MODEL", default_value_t = Kind::Allreduce)]
    pub(crate) model: Kind,
    /// Results with the same bits on any number of ranks and threads (slower)
    #[arg(long)]
    pub(crate) reproducible: bool,
    /// Where to write the centroids (.npy, otherwise CSV)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Where to write each row's cluster number (.npy, otherwise one number a line)
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Where to draw the clusters (SVG)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Where to write a page with everything about the run (HTML)
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
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
    let wrong = |what: &str, help: &str| Err((what.to_owned(), help.to_owned()));
    match options {
        Options { k: Some(0), .. } => {
            wrong("--k 0: there must be at least one cluster", "give --k 1 or more")
        }
        Options { iterations: 0, .. } => wrong("--iterations 0: nothing would be done", "give at least 1"),
        Options { threads: Some(0), .. } => {
            wrong("--threads 0: nothing could be computed", "give at least 1")
        }
        Options { tolerance, .. } if !(tolerance.is_finite() && *tolerance >= 0.0) => {
            wrong(&format!("--tolerance {tolerance}: must be 0 or a positive number"), "1e-4 is usual")
        }
        Options { input: Some(_), k: None, init, .. } if is_keyword(init) => {
            wrong("--k is missing: how many clusters?", "add --k K, or --init FILE with one centroid a row")
        }
        _ => Ok(()),
    }
}

/// Whether `--init` names a method rather than a file.
pub(crate) fn is_keyword(init: &str) -> bool {
    matches!(init, "first" | "random" | "kmeans++" | "k-means++")
}
