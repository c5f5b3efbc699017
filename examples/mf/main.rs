//! Matrix factorisation of real ratings: `mf --input RATINGS`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `job` | the order of things: read, build, train, write |
//! | `read`, `ratings` | files of ratings, of which each rank reads its part; what it has read, and what is held out |
//! | `synthetic` | random ratings with a known structure |
//! | `cut` | rows into splits of equal work |
//! | `place` | ratings to the owners of their users; where the rows of users and items are |
//! | `blocks` | a rank's ratings by block: one split of users, one of items |
//! | `model` | factors and biases |
//! | `kernel` | the updates of a block |
//! | `sgd` | the epochs: items rotate, blocks are scheduled |
//! | `report`, `outputs` | what the user gets |

mod blocks;
mod cli;
mod cut;
mod job;
mod kernel;
mod model;
mod outputs;
mod place;
mod ratings;
mod read;
mod report;
mod sgd;
mod synthetic;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("mf", cli::parse, job::run)
}
