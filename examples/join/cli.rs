//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aeolian::ops::{JoinAlgorithm, JoinKind, JoinReport};
use aeolian_examples::Error;
use aeolian_examples::flow::FlowArgs;
use aeolian_examples::program::End;
use aeolian_examples::tabular::TableArgs;
use clap::builder::ArgPredicate;
use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  join                                             the bundled flights with their planes
  join --left flights.csv --right planes.csv --on tailnum --output both.csv
  aeolian run -n 4 join --left flights.csv --right weather.csv --on origin,time_hour --kind left --output both.csv
  join --left a.tsv --right b.tsv --delimiter tab --on id --kind anti --sorted --output /dev/stdout --quiet
";

const MORE: &str = "\
Files are CSV with a header line; a field in double quotes may have delimiters and line ends in it. Every rank reads only its part. \
Types of columns are found out over the whole files. NULL in a key matches nothing. The output has the key columns, then the other \
columns of the left side, then those of the right side; one whose name is there already gets `_right` behind it. Of semi and anti \
joins it has the left side's columns only.

Exit codes: 0 done; 64 wrong command line; 65 unusable input; 66 no input; 73 output cannot be written, or there is no room to spill \
to; 74 a read failed half-way; 75 stopped on request (nothing is written).";

/// Which rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// pairs of rows that match
    Inner,
    /// these, and left rows that match none
    Left,
    /// these, and right rows that match none
    Right,
    /// these, and rows of both sides that match none
    Full,
    /// left rows that match any, once
    Semi,
    /// left rows that match none
    Anti,
}

/// How rows find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// broadcast if the right side turns out to be small and the kind allows it, else hash
    Auto,
    /// rows go to the rank of their key; the smaller side is looked up in a table
    Hash,
    /// rows go to the rank of their key; both sides are sorted
    Sort,
    /// right rows go to all ranks (not for right and full joins)
    Broadcast,
}

/// Joins two tables, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "join", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// CSV file with a header line (without both files: the bundled flights)
    #[arg(long, value_name = "FILE")]
    pub(crate) left: Option<PathBuf>,
    /// CSV file with a header line; best the smaller one (without both files: the planes of these flights)
    #[arg(long, value_name = "FILE")]
    pub(crate) right: Option<PathBuf>,
    /// Columns, of both files, whose values must be the same (bundled flights: tailnum)
    #[arg(
        long,
        value_name = "COL",
        value_delimiter = ',',
        default_value = "tailnum",
        hide_default_value = true
    )]
    #[arg(default_value_if("left", ArgPredicate::IsPresent, None))]
    pub(crate) on: Vec<String>,
    /// Which rows are written
    #[arg(long, value_enum, default_value_t = Kind::Inner)]
    pub(crate) kind: Kind,
    /// How rows find each other
    #[arg(long, value_enum, default_value_t = Algorithm::Auto)]
    pub(crate) algorithm: Algorithm,
    /// Write rows in the order of their keys, then of all other columns [default: as they come]
    #[arg(long)]
    pub(crate) sorted: bool,
    /// Where to write the rows (bundled flights: join-demo.csv); what is there is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) table: TableArgs,
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
    /// No progress and no summary
    #[arg(long)]
    pub(crate) quiet: bool,
    /// End with one JSON object on standard output instead of the summary
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// Where the rows go.
    pub(crate) fn output(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new("join-demo.csv"))
    }
}

/// Of other files than the bundled ones it must be said what is wanted.
fn check(options: &Options) -> Result<(), (&'static str, &'static str)> {
    match options {
        Options { left: None, right: None, .. } => Ok(()),
        Options { left: None, .. } => {
            Err(("--left is missing: what is joined with --right?", "add --left FILE"))
        }
        Options { right: None, .. } => {
            Err(("--right is missing: what is --left joined with?", "add --right FILE"))
        }
        Options { on, .. } if on.is_empty() => {
            Err(("--on is missing: which columns must be the same?", "add --on COL"))
        }
        Options { output: None, .. } => {
            Err(("--output is missing: where do the rows go?", "add --output FILE"))
        }
        _ => Ok(()),
    }
}

/// Parses the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, End> {
    let options = Options::try_parse_from(args).map_err(End::Print)?;
    options.table.dialect().map_err(End::Wrong)?;
    if let Err((what, help)) = check(&options) {
        return Err(End::Wrong(Error::usage(what, help)));
    }
    if options.algorithm == Algorithm::Broadcast && matches!(options.kind, Kind::Right | Kind::Full) {
        return Err(End::Wrong(Error::usage(
            "--algorithm broadcast: no rank would know of a right row that it matches nowhere",
            "use --algorithm auto, hash or sort for right and full joins",
        )));
    }
    if let Some(twice) = options.on.iter().enumerate().find(|(i, name)| options.on[..*i].contains(name)) {
        let what = format!("--on {}: the column {:?} comes twice", options.on.join(","), twice.1);
        return Err(End::Wrong(Error::usage(what, "name each column once")));
    }
    Ok(options)
}

impl From<Kind> for JoinKind {
    fn from(kind: Kind) -> JoinKind {
        match kind {
            Kind::Inner => JoinKind::Inner,
            Kind::Left => JoinKind::Left,
            Kind::Right => JoinKind::Right,
            Kind::Full => JoinKind::Full,
            Kind::Semi => JoinKind::Semi,
            Kind::Anti => JoinKind::Anti,
        }
    }
}

impl Algorithm {
    /// The one by which a join with this report was made.
    pub(crate) fn chosen(self, report: &JoinReport) -> Algorithm {
        match self {
            Algorithm::Auto if report.broadcast => Algorithm::Broadcast,
            Algorithm::Auto => Algorithm::Hash,
            told => told,
        }
    }
}

impl From<Algorithm> for JoinAlgorithm {
    fn from(algorithm: Algorithm) -> JoinAlgorithm {
        match algorithm {
            Algorithm::Auto => JoinAlgorithm::Auto,
            Algorithm::Hash => JoinAlgorithm::Hash,
            Algorithm::Sort => JoinAlgorithm::SortMerge,
            Algorithm::Broadcast => JoinAlgorithm::Broadcast,
        }
    }
}

/// What a value is called on the command line.
pub(crate) fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}
