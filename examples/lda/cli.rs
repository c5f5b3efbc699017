//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use aeolian_examples::Error;
use aeolian_examples::program::End;
use aeolian_examples::whole::whole;
use clap::{Parser, ValueEnum};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  lda                                              the bundled text: what this project's book is about
  lda --input /usr/share/doc --suffix .txt --topics 50 --output topics
  aeolian run -n 4 lda --input reviews.txt --documents lines --topics 100 --output topics --json
  srun -n 64 lda --generate planted --docs 1000000 --vocabulary 100000 --topics 500 --iterations 50
";

const MORE: &str = "\
Texts are UTF-8. A word is a run of letters (Unicode's), made lower case; all else separates words. A directory stands for the \
files in it and in the directories in it, without hidden ones. Every rank reads only its part.

Exit codes: 0 done; 64 wrong command line; 65 unusable input; 66 no input; 73 output cannot be written; 74 a read \
failed half-way; 75 stopped on request before the end (results so far are written).";

/// What one document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unit {
    /// each file
    Files,
    /// each line that is not blank
    Lines,
}

/// Random texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generator {
    /// documents of a few of K topics, each of which prefers other words (Zipf's law)
    Planted,
}

/// How a token's new topic is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sampler {
    /// by the topics that its document and its word have
    Sparse,
    /// by all K topics: the same distribution, slower
    Dense,
}

/// Finds topics in texts by latent Dirichlet allocation, on any number of ranks.
#[derive(Debug, Clone, Parser)]
#[command(name = "lda", version, before_help = EXAMPLES, after_help = MORE, max_term_width = 100)]
pub(crate) struct Options {
    /// Text files, or directories of them (without it: the bundled book)
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// What one document is
    #[arg(long, value_enum, default_value_t = Unit::Files)]
    pub(crate) documents: Unit,
    /// Of directories, only files whose names end like this (may be given more than once)
    #[arg(long, value_name = "SUFFIX", requires = "input")]
    pub(crate) suffix: Vec<String>,
    /// Make random texts instead of reading some
    #[arg(long, value_enum, conflicts_with_all = ["input", "documents"])]
    pub(crate) generate: Option<Generator>,
    /// Random texts: how many documents
    #[arg(long, value_name = "D", requires = "generate", default_value_t = 10_000)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) docs: u64,
    /// Random texts: how many words there are
    #[arg(long, value_name = "V", requires = "generate", default_value_t = 20_000)]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) vocabulary: u32,
    /// Random texts: tokens in each document
    #[arg(long, value_name = "N", requires = "generate", default_value_t = 200)]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) length: u32,
    /// How many topics
    #[arg(long, value_name = "K", default_value_t = 20)]
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) topics: u32,
    /// Prior of topics in a document: less gives documents of fewer topics
    #[arg(long, value_name = "A", default_value_t = 0.1)]
    pub(crate) alpha: f64,
    /// Prior of words in a topic: less gives topics of fewer words
    #[arg(long, value_name = "B", default_value_t = 0.01)]
    pub(crate) beta: f64,
    /// How many times every token gets a new topic
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) iterations: usize,
    /// Decides all random choices
    #[arg(long, value_name = "X", default_value_t = 1)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Drop words that come less often in all texts together
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub(crate) min_count: u64,
    /// Drop words of fewer letters
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) min_letters: usize,
    /// Drop the words in this file, one a line [default: a short list of English ones]
    #[arg(long, value_name = "FILE", conflicts_with = "no_stop_words")]
    pub(crate) stop_words: Option<PathBuf>,
    /// Keep words such as "the", too
    #[arg(long)]
    pub(crate) no_stop_words: bool,
    /// How a token's new topic is drawn
    #[arg(long, value_enum, default_value_t = Sampler::Sparse)]
    pub(crate) sampler: Sampler,
    /// Compute the log-likelihood every so many iterations (0: only after the last one)
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) likelihood: usize,
    /// Blocks into which a rank cuts its documents: so many threads can sample at once. The result depends on it
    #[arg(long, value_name = "P", default_value_t = 4)]
    #[arg(value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub(crate) blocks: usize,
    /// Directory for topics.tsv, documents.tsv and vocabulary.tsv; made if it is not there (bundled book: book-topics)
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Words of each topic in the table and the JSON object
    #[arg(long, value_name = "W", default_value_t = 10)]
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

/// Topics are numbered with 16 bits.
const MOST_TOPICS: u32 = 1 << 16;
/// A rank has the square of it times the number of ranks in cells.
const MOST_BLOCKS: usize = 256;

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
    let positive = |x: f64| x.is_finite() && x > 0.0;
    match options {
        Options { topics, .. } if !(1..=MOST_TOPICS).contains(topics) => {
            wrong(format!("--topics {topics}: must be 1 to {MOST_TOPICS}"), "100 is usual")
        }
        Options { alpha, .. } if !positive(*alpha) => {
            wrong(format!("--alpha {alpha}: must be a positive number"), "0.1 is usual")
        }
        Options { beta, .. } if !positive(*beta) => {
            wrong(format!("--beta {beta}: must be a positive number"), "0.01 is usual")
        }
        Options { iterations: 0, .. } => {
            wrong("--iterations 0: nothing would be done".into(), "give at least 1")
        }
        Options { threads: Some(0), .. } => {
            wrong("--threads 0: nothing could be computed".into(), "give at least 1")
        }
        Options { blocks, .. } if !(1..=MOST_BLOCKS).contains(blocks) => {
            wrong(format!("--blocks {blocks}: must be 1 to {MOST_BLOCKS}"), "as many as threads is enough")
        }
        Options { generate: Some(_), docs, vocabulary, length, .. }
            if *docs == 0 || *vocabulary == 0 || *length == 0 =>
        {
            wrong("--docs, --vocabulary, --length: there would be no text".into(), "give at least 1 of each")
        }
        Options { input, documents: Unit::Lines, .. } if input.is_empty() => {
            wrong("--documents lines without --input: there is nothing to read".into(), "add --input PATH")
        }
        _ => Ok(()),
    }
}

impl Options {
    /// What is read, for messages.
    pub(crate) fn input_name(&self) -> String {
        match (&self.input[..], self.generate) {
            (_, Some(Generator::Planted)) => format!(
                "planted, {} documents of {} tokens, {} words, seed {}",
                self.docs, self.length, self.vocabulary, self.seed
            ),
            ([], None) => "Aeolian's book (bundled)".into(),
            ([one], None) => one.display().to_string(),
            ([first, rest @ ..], None) => format!("{} and {} more", first.display(), rest.len()),
        }
    }

    /// Whether the bundled book is read.
    pub(crate) fn bundled(&self) -> bool {
        self.input.is_empty() && self.generate.is_none()
    }
}
