//! Whether records of the sort benchmark are in order: `teravalidate --input DIR`, alone or on any number of ranks.

mod cli;
mod job;
mod order;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("teravalidate", cli::parse, job::run)
}
