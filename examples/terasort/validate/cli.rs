//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use aeolian_examples::program::End;
use aeolian_examples::tera::checksum::Checksum;
use aeolian_examples::whole::whole;
use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  teravalidate --input out                                  are the part files of terasort in order?
  aeolian run -n 4 teravalidate --input out --checksum 7a27e2d0d55de --records 1000000
  srun -n 64 teravalidate --input /scratch/out --json
";

const MORE: &str = "\
PATH is a file of records of 100 bytes, or a directory of part files, which are taken in the order of their numbers. Every \
rank reads only its part. The checksum is that of valsort and `gensort -c`: the sum of the CRC-32 of all records.

Exit codes: 0 all is in order; 64 wrong command line; 65 not in order, or not the records that were expected; 66 no input; \
74 a read failed half-way; 75 stopped on request before the end.";

/// Checks that records are in order, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "teravalidate", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// What to check; several are taken one behind another
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// There must be so many records
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) records: Option<u64>,
    /// They must have this checksum, as teragen has printed it
    #[arg(long, value_name = "HEX")]
    pub(crate) checksum: Option<Checksum>,
    /// No progress and no summary
    #[arg(long)]
    pub(crate) quiet: bool,
    /// End with one JSON object on standard output instead of the summary
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, End> {
    Options::try_parse_from(args).map_err(End::Print)
}
