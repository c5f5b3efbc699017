//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use aeolian_examples::Error;
use aeolian_examples::program::End;
use aeolian_examples::whole::whole;
use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  pagerank                                         the bundled graph: which Debian libraries matter most
  pagerank --input links.tsv --output ranks.tsv    the vertices of an edge list
  aeolian run -n 4 pagerank --input links.csv --top 20 --json
  srun -n 64 pagerank --generate rmat --scale 24 --edges 400000000 --iterations 20 --tolerance 0
";

const MORE: &str = "\
EDGES is text with one edge a line, SOURCE and TARGET: names or numbers, separated by TAB or blanks (tsv), or by comma \
(csv); `#` lines and blank lines are skipped. A .bin file holds pairs of 32-bit numbers, lowest byte first. Every rank \
reads only its part. An edge that comes twice counts once; an edge from a vertex to itself counts.

Exit codes: 0 done; 64 wrong command line; 65 unusable input; 66 no input; 73 output cannot be written; 74 a read \
failed half-way; 75 stopped on request before the end (results so far are written).";

/// What an edge list looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// two names, separated by TAB, or by blanks where a line has no TAB
    Tsv,
    /// two names, separated by comma
    Csv,
    /// pairs of 32-bit numbers, lowest byte first
    Bin,
}

/// Random graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generator {
    /// recursive matrix with Graph500's 0.57, 0.19, 0.19, 0.05
    Rmat,
}

/// How values of other ranks' vertices come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exchange {
    /// whichever moves fewer bytes
    Auto,
    /// each rank gets those that its edges start from (alltoall)
    Needed,
    /// each rank gets all (allgather)
    Whole,
}

/// Ranks the vertices of a graph by PageRank, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "pagerank", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// Edge list, one edge a line (without it: the bundled dependencies of Debian's libraries)
    #[arg(long, value_name = "EDGES")]
    pub(crate) input: Option<String>,
    /// What it looks like [default: by its name: .csv, .bin, otherwise tsv]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Make a random graph instead of reading one
    #[arg(long, value_enum, conflicts_with_all = ["input", "format"], requires = "scale")]
    pub(crate) generate: Option<Generator>,
    /// The random graph has 2^S vertices, numbered from 0
    #[arg(long, value_name = "S", requires = "generate")]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) scale: Option<u32>,
    /// Edges drawn for the random graph [default: 16 for each vertex]
    #[arg(long, value_name = "E", requires = "generate")]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) edges: Option<u64>,
    /// Seed of the random graph, which is the same on any number of ranks
    #[arg(long, value_name = "X", default_value_t = 1)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Chance to follow an edge rather than to jump anywhere
    #[arg(long, value_name = "D", default_value_t = 0.85)]
    pub(crate) damping: f64,
    /// Stop when an iteration changes all ranks together by less than this (they sum up to 1)
    #[arg(long, value_name = "T", default_value_t = 1e-10)]
    pub(crate) tolerance: f64,
    /// At most this many iterations
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) iterations: usize,
    /// How values come from other ranks
    #[arg(long, value_enum, default_value_t = Exchange::Auto)]
    pub(crate) exchange: Exchange,
    /// Where to write each vertex and its rank, one a line, sorted by name (bundled graph: debian-ranks.tsv)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Vertices in the table and the JSON object
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) top: usize,
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
        Options { input: None, format: Some(_), .. } => {
            wrong("--format without --input: there is nothing to read", "add --input EDGES")
        }
        Options { scale: Some(scale), .. } if !(1..=31).contains(scale) => {
            wrong(&format!("--scale {scale}: vertices have 32-bit numbers"), "give 1 to 31")
        }
        Options { iterations: 0, .. } => wrong("--iterations 0: nothing would be done", "give at least 1"),
        Options { threads: Some(0), .. } => {
            wrong("--threads 0: nothing could be computed", "give at least 1")
        }
        Options { tolerance, .. } if !(tolerance.is_finite() && *tolerance >= 0.0) => {
            wrong(&format!("--tolerance {tolerance}: must be 0 or a positive number"), "1e-10 is usual")
        }
        Options { damping, .. } if !(0.0..1.0).contains(damping) => {
            wrong(&format!("--damping {damping}: must be at least 0 and less than 1"), "0.85 is usual")
        }
        _ => Ok(()),
    }
}

impl Options {
    /// What is ranked, for messages.
    pub(crate) fn input_name(&self) -> String {
        match (&self.input, self.scale) {
            (Some(input), _) => input.clone(),
            (None, Some(scale)) => format!("rmat, scale {scale}, {} edges, seed {}", self.drawn(), self.seed),
            (None, None) => "Debian's libraries (bundled)".into(),
        }
    }

    /// Edges to draw for a random graph.
    pub(crate) fn drawn(&self) -> u64 {
        self.edges.unwrap_or(16 << self.scale.unwrap_or(0))
    }

    /// The format that was asked for, or that the file's name says.
    pub(crate) fn format(&self) -> Format {
        let name = self.input.as_deref().unwrap_or_default().to_ascii_lowercase();
        self.format.unwrap_or(match () {
            () if name.ends_with(".csv") => Format::Csv,
            () if name.ends_with(".bin") => Format::Bin,
            () => Format::Tsv,
        })
    }

    /// Whether the bundled graph is ranked.
    pub(crate) fn bundled(&self) -> bool {
        self.input.is_none() && self.generate.is_none()
    }
}
