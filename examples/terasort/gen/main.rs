//! Records of the sort benchmark: `teragen --records N --output DIR`, alone or on any number of ranks.

mod cli;
mod job;
mod room;

use std::process::ExitCode;

use aeolian_examples::program;

fn main() -> ExitCode {
    program::main("teragen", cli::parse, job::run)
}
