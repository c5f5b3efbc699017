//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use aeolian_examples::Error;
use aeolian_examples::program::End;
use aeolian_examples::tera::gensort::Format;
use aeolian_examples::tera::record::SIZE;
use aeolian_examples::whole::whole;
use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  teragen --records 10000000 --output in                    1 GB, as gensort makes it
  aeolian run -n 4 teragen --records 1000000 --output in --format hadoop --json
  srun -n 64 teragen --records 10000000000 --output /scratch/in --skew
";

const MORE: &str = "\
DIR gets a part file of each rank, part-00000, part-00001, ...: one behind another they are the same bytes on any number \
of ranks, and with seed 0 those of the original. The checksum that is printed is that of `gensort -c`.

Exit codes: 0 done; 64 wrong command line; 73 output cannot be written; 75 stopped on request (nothing is written).";

/// Makes the records that terasort sorts, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "teragen", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// How many records, of 100 bytes each
    #[arg(long, value_name = "N")]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) records: u64,
    /// Directory to be made
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// What records look like
    #[arg(long, value_enum, default_value_t = Format::Binary)]
    pub(crate) format: Format,
    /// Number of the first record, as of gensort -b
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) first: u64,
    /// Three of four keys begin with some bits of one of a few keys, as of gensort -s
    #[arg(long)]
    pub(crate) skew: bool,
    /// Other random numbers; those of seed 0 are gensort's
    #[arg(long, value_name = "S", default_value_t = 0)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Replace the part files of a directory that is there
    #[arg(long)]
    pub(crate) overwrite: bool,
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
    let most = u64::MAX / SIZE as u64;
    let wrong = |what: String, help: &str| Err(End::Wrong(Error::usage(what, help)));
    match options {
        Options { records, .. } if records > most => {
            wrong(format!("--records {records}: so many records have no size in 64 bits"), "give fewer")
        }
        Options { first, .. } if first > most => {
            wrong(format!("--first {first}: no file has so many records before it"), "give a smaller number")
        }
        _ => Ok(options),
    }
}
