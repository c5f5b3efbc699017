//! PageRank of real graphs: `pagerank --input EDGES`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `job` | the order of things: read, number, build, iterate, write |
//! | `read` | edge lists, of which each rank reads its part |
//! | `rmat` | random graphs, of which each rank makes its part |
//! | `names`, `intern` | names of vertices in one block, and their numbers, the same for all ranks |
//! | `wires` | arrays from everybody to everybody |
//! | `route`, `graph` | edges to the owners of their targets; the in-edges of a rank's vertices |
//! | `plan` | which values a rank needs, and how they come |
//! | `power` | the iterations |
//! | `sorted`, `top`, `outputs` | what the user gets |

mod cli;
mod graph;
mod intern;
mod job;
mod names;
mod outputs;
mod plan;
mod power;
mod read;
mod rmat;
mod route;
mod sorted;
#[cfg(test)]
mod tests;
mod top;
mod wires;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("pagerank", cli::parse, job::run)
}
