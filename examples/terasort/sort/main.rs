//! Records of the sort benchmark in order: `terasort --input PATH --output DIR`, alone or on any number of ranks.

mod cli;
mod job;
mod report;
mod source;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("terasort", cli::parse, job::run)
}
