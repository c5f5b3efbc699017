//! Word count of real texts: `wordcount --input PATH...`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `job` | the order of things: list, count, reduce, sort, write |
//! | `files`, `bundled` | which texts there are, and which bytes of them are a rank's |
//! | `pieces` | a rank's bytes piece by piece, each word whole |
//! | `classify`, `borders` | 64 bytes at a time: where runs that may be words begin and end |
//! | `unicode`, `marks` | what a word is where there is more than ASCII |
//! | `table` | the words of a rank, in a table that is bounded |
//! | `word` | what goes to the rank that a word belongs to |
//! | `sorter`, `rounds` | the words by their counts, in memory or on disk, and from all ranks |
//! | `outputs` | what the user gets |

mod borders;
mod bundled;
mod classify;
mod cli;
mod files;
mod job;
mod marks;
mod outputs;
mod pieces;
mod rounds;
mod sorter;
mod table;
#[cfg(test)]
mod tests;
mod unicode;
mod word;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("wordcount", cli::parse, job::run)
}
