//! Topics of texts: `lda --input TEXTS`, latent Dirichlet allocation by collapsed Gibbs sampling, alone or on any number of
//! ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `job` | the order of things: read, count words, place, sample, write |
//! | `sources`, `read`, `words` | texts, of which each rank reads its part; documents in them; words |
//! | `bundled`, `planted` | the book of this project; random texts of known topics |
//! | `vocabulary` | the words of all ranks, numbered |
//! | `layout` | which words rotate together |
//! | `cells`, `mixtures` | a rank's tokens, by block of documents and group of words; topic counts of documents |
//! | `rows` | topic counts of words, as they travel |
//! | `sampler` | one token after the other gets a new topic |
//! | `local` | what a rank's threads do with the words that are there |
//! | `gibbs` | the iterations: slices of words go round the ranks |
//! | `likelihood` | how well topics explain the texts |
//! | `topics`, `outputs` | what the user gets |

mod bundled;
mod cells;
mod cli;
mod gibbs;
mod job;
mod layout;
mod likelihood;
mod local;
mod mixtures;
mod outputs;
mod planted;
mod read;
mod rows;
mod sampler;
mod sources;
#[cfg(test)]
mod tests;
mod topics;
mod vocabulary;
mod words;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("lda", cli::parse, job::run)
}
