//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aeolian_examples::Error;
use aeolian_examples::flow::FlowArgs;
use aeolian_examples::program::End;
use aeolian_examples::tera::directory::Replace;
use aeolian_examples::tera::input;
use aeolian_examples::tera::record::SIZE;
use aeolian_examples::whole::whole;
use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  terasort                                                  100000 records made in memory, to the directory terasort-demo
  terasort --input in --output out                          what teragen has written to the directory in
  aeolian run -n 4 terasort --input in --output out --memory 4GiB --scratch /local/scratch
  srun -n 64 terasort --input /scratch/a.dat /scratch/b.dat --output /scratch/out --json
";

const MORE: &str = "\
PATH is a file of records of 100 bytes, or a directory of part files, which are taken in the order of their numbers. Records \
are sorted by their first 10 bytes; those with the same come in the order of the input. Every rank reads only its part, and \
writes one part file. Those are in DIR when all are whole; before, there is no DIR.

Exit codes: 0 done; 64 wrong command line; 65 unusable input; 66 no input; 73 output cannot be written, or there is no room \
to spill to; 74 a read failed half-way; 75 stopped on request (nothing is written).";

/// Records that are sorted without an input.
const DEMO: u64 = 100_000;
/// Where they go.
const DEMO_OUTPUT: &str = "terasort-demo";

/// Sorts records of 100 bytes by their first 10, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "terasort", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// What to sort; several are taken one behind another (without it: 100000 records of teragen, made in memory)
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "output")]
    pub(crate) input: Vec<PathBuf>,
    /// Sort so many records of teragen, made in memory, instead of reading some
    #[arg(long, value_name = "N", conflicts_with = "input", requires = "output")]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) generate: Option<u64>,
    /// Directory to be made (without an input: terasort-demo, where a demonstration of before is replaced)
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the part files of a directory that is there
    #[arg(long)]
    pub(crate) overwrite: bool,
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
    Options::try_parse_from(args).map_err(End::Print)
}

impl Options {
    /// Whether there is nothing to sort but what is bundled.
    pub(crate) fn is_demo(&self) -> bool {
        self.input.is_empty() && self.generate.is_none()
    }

    /// That no input is in the directory of the output, or that directory: part files of the one could not be told from those of the other. (What is
    /// there may be another thing on each rank.)
    pub(crate) fn check(&self) -> Result<(), Error> {
        let output = self.output();
        let real = |path: &Path| path.canonicalize().ok();
        if let Some(real_output) = real(output)
            && let Some(input) = self.input.iter().find(|input| {
                real(input).is_some_and(|input| input == real_output || input.parent() == Some(&real_output))
            })
        {
            return Err(Error::usage(
                format!("--output {}: the input {} is there", output.display(), input.display()),
                "name another directory",
            ));
        }
        Ok(())
    }

    /// Where part files go.
    pub(crate) fn output(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new(DEMO_OUTPUT))
    }

    /// What is replaced: the demonstration may be run again.
    pub(crate) fn replace(&self) -> Replace {
        match &self.output {
            _ if self.overwrite => Replace::Parts,
            Some(_) => Replace::Nothing,
            None => Replace::PartsOf(DEMO * SIZE as u64),
        }
    }

    /// How many records are made in memory, if no input is read.
    pub(crate) fn made(&self) -> Option<u64> {
        self.generate.or(self.is_demo().then_some(DEMO))
    }

    /// What is sorted, for messages.
    pub(crate) fn input_name(&self) -> String {
        match self.made() {
            Some(_) => "records of teragen, made in memory".into(),
            None => input::shown(&self.input),
        }
    }
}
