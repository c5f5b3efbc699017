//! Aggregates of the groups of a table: `groupby --input FILE --key COL --agg count --output FILE`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `aggregate` | sum, count, min, max, mean: of a value, of two, and at the end |
//! | `job` | the order of things: read, reduce, sort, write |

mod aggregate;
mod cli;
mod job;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("groupby", cli::parse, job::run)
}
