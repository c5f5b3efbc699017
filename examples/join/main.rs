//! Joins of two tables: `join --left FILE --right FILE --on COL --output FILE`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `columns` | which columns are read, and what a row of the output is |
//! | `job` | the order of things: read, join, write |
//! | `outputs` | what the user gets to see |

mod cli;
mod columns;
mod job;
mod outputs;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("join", cli::parse, job::run)
}
