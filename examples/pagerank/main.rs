//! PageRank of real graphs: `pagerank --input EDGES`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `job` | the order of things: read, number, build, iterate, write |
//! | `read` | edge lists, of which each rank reads its part |
//! | `rmat` | random graphs, of which each rank makes its part |
//! | `labels` | what vertices are called |
//! | `route`, `graph` | edges to the owners of their targets; the in-edges of a rank's vertices |
//! | `plan` | which values a rank needs, and how they come |
//! | `power` | the iterations |
//! | `top`, `outputs` | what the user gets |

mod cli;
mod graph;
mod job;
mod labels;
mod outputs;
mod plan;
mod power;
mod read;
mod rmat;
mod route;
#[cfg(test)]
mod tests;
mod top;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("pagerank", cli::parse, job::run)
}
