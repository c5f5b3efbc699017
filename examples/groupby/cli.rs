//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aeolian_examples::Error;
use aeolian_examples::flow::FlowArgs;
use aeolian_examples::program::End;
use aeolian_examples::tabular::TableArgs;
use clap::Parser;
use clap::builder::ArgPredicate;

use crate::aggregate::Wanted;

const EXAMPLES: &str = "\
Examples:
  groupby                                          the bundled flights: how each carrier did
  groupby --input flights.csv --key carrier --agg count,mean:dep_delay --output carriers.csv
  aeolian run -n 4 groupby --input flights.csv --key origin,dest --agg sum:distance --output routes.csv
  groupby --input log.tsv --delimiter tab --null NA --key user --agg max:time --output /dev/stdout --quiet
";

const MORE: &str = "\
FILE is CSV with a header line; a field in double quotes may have delimiters and line ends in it. Every rank reads only its part. \
Types of columns are found out over the whole file: int (64 bits), float, or text. NULL is a key like others, and comes first; \
aggregates leave NULL out. The output is CSV with a header, sorted by key.

Exit codes: 0 done; 64 wrong command line; 65 unusable input, or a sum beyond 64 bits; 66 no input; 73 output cannot be written, or \
there is no room to spill to; 74 a read failed half-way; 75 stopped on request (nothing is written).";

/// Aggregates of the bundled flights.
const BUNDLED: &str = "count,count:dep_time,mean:dep_delay,max:dep_delay,sum:distance";

/// Aggregates the groups of a table, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "groupby", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// CSV file with a header line (without it: the bundled flights)
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Columns whose values make a group (bundled flights: carrier)
    #[arg(
        long,
        value_name = "COL",
        value_delimiter = ',',
        default_value = "carrier",
        hide_default_value = true
    )]
    #[arg(default_value_if("input", ArgPredicate::IsPresent, None))]
    pub(crate) key: Vec<String>,
    /// What is wanted of each group: count (its rows), count:COL (values), sum:COL, min:COL, max:COL, mean:COL [default: count; of
    /// the bundled flights also how many departed, how late, and the miles]
    #[arg(long, value_name = "AGG", value_delimiter = ',', default_value = BUNDLED, hide_default_value = true)]
    #[arg(default_value_if("input", ArgPredicate::IsPresent, "count"))]
    pub(crate) agg: Vec<Wanted>,
    /// Where to write the groups (bundled flights: groupby-demo.csv); what is there is replaced
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

/// Parses the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, End> {
    let options = Options::try_parse_from(args).map_err(End::Print)?;
    options.table.dialect().map_err(End::Wrong)?;
    match check(&options) {
        Ok(()) => Ok(options),
        Err((what, help)) => Err(End::Wrong(Error::usage(what, help))),
    }
}

/// Of another file than the bundled one it must be said what is wanted.
fn check(options: &Options) -> Result<(), (&'static str, &'static str)> {
    match options {
        Options { input: None, .. } => Ok(()),
        Options { key, .. } if key.is_empty() => {
            Err(("--key is missing: which columns make a group?", "add --key COL"))
        }
        Options { output: None, .. } => {
            Err(("--output is missing: where do the groups go?", "add --output FILE"))
        }
        _ => Ok(()),
    }
}

impl Options {
    /// Where the groups go.
    pub(crate) fn output(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new("groupby-demo.csv"))
    }
}
