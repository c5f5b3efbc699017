//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use aeolian_examples::Error;
use aeolian_examples::flow::FlowArgs;
use aeolian_examples::program::End;
use aeolian_examples::whole::whole;
use clap::{Parser, ValueEnum};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  wordcount                                        the bundled text: what Lincoln says most at Gettysburg
  wordcount --input book.txt --ignore-case --output words.tsv
  aeolian run -n 4 wordcount --input /usr/share/doc --top 20 --json
  srun -n 64 wordcount --input /scratch/logs --words space --memory 64GiB --scratch /local --output words.tsv
";

const MORE: &str = "\
A word is, with --words alnum, a maximal run of Unicode's letters, digits and marks in UTF-8; bytes that are not UTF-8 \
separate words, as all other characters do. With --words space it is a maximal run of bytes that are not ASCII white space. \
No word goes on from one file into the next. Every rank reads only its part.

A directory stands for all files in it and in the directories in it, hidden ones too; links in it are not followed.

Exit codes: 0 done; 64 wrong command line; 65 unusable input; 66 no input; 73 output cannot be written, or \
there is no room to spill to; 74 a read failed half-way; 75 stopped on request (nothing is written).";

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Words {
    /// a run of Unicode letters, digits and marks
    Alnum,
    /// a run of bytes that are not ASCII white space
    Space,
}

/// Counts the words of texts, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "wordcount", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// Text files, or directories of them (without it: the bundled text)
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// What a word is
    #[arg(long, value_enum, default_value_t = Words::Alnum)]
    pub(crate) words: Words,
    /// Make words lower case (Unicode's) before they are counted
    #[arg(long)]
    pub(crate) ignore_case: bool,
    /// Where to write each word and its count, one a line, the most frequent first, then by bytes; what is there is replaced
    /// (bundled text: wordcount-demo.tsv)
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Words in the table and the JSON object
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) top: usize,
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
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
    if options.top > MOST {
        let what = format!("--top {}: the table is for people", options.top);
        return Err(End::Wrong(Error::usage(
            what,
            format!("give at most {MOST}; --output FILE has all words"),
        )));
    }
    Ok(options)
}

/// Words that every rank can keep beside its budget.
const MOST: usize = 100_000;

impl Options {
    /// What is counted, for messages.
    pub(crate) fn input_name(&self) -> String {
        match &self.input[..] {
            [] => crate::bundled::NAME.into(),
            [one] => one.display().to_string(),
            [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
        }
    }
}
