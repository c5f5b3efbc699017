//! k-means on real files: `kmeans --input FILE --k K`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `job` | the order of things: read, agree, start, iterate, finish, write |
//! | `start` | the first centroids |
//! | `lloyd`, `empty`, `last` | the iterations, empty clusters, what belongs to the final centroids |
//! | `kernel/` | nearest centroid and sums, the inner loop |
//! | `digits` | the bundled data |
//! | `outputs`, `table`, `picture`, `report` | what the user gets |

mod cli;
mod digits;
mod empty;
mod job;
#[allow(dead_code, unused_imports)]
mod kernel;
mod last;
mod lloyd;
mod moments;
mod outputs;
mod picture;
mod plus_plus;
mod report;
mod start;
mod table;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use aeolian::World;
use aeolian_examples::{Element, Error};

/// What points are made of: a type that both the readers and the kernel know.
pub(crate) trait Number: Element + kernel::Real {}
impl<T: Element + kernel::Real> Number for T {}

fn main() -> ExitCode {
    let mut world = match World::init() {
        Ok(world) => world,
        Err(e) => {
            let e = Error::from(e);
            if !e.is_told_already() {
                eprintln!("{}", e.report("kmeans"));
            }
            return ExitCode::from(e.exit_code());
        }
    };
    let first = world.rank() == 0;
    // The command line is the same on every rank, so what is wrong with it is too: rank 0 says it.
    let result = match cli::parse(std::env::args_os(), first) {
        Ok(options) => job::run(&mut world, &options),
        Err(code) => return leave(world, code),
    };
    match result {
        Ok(()) => leave(world, 0),
        Err(Error::Net(e)) => {
            let e = Error::Net(e);
            if !e.is_told_already() {
                eprintln!("{}", e.report("kmeans"));
                world.fail(e.exit_code(), e.to_string(), "");
            }
            ExitCode::from(e.exit_code())
        }
        // All ranks have agreed on it: rank 0 says it, and all end in good order with its code.
        Err(e) => {
            if first {
                eprintln!("{}", e.report("kmeans"));
            }
            leave(world, e.exit_code())
        }
    }
}

fn leave(world: World, code: u8) -> ExitCode {
    match world.finish() {
        Ok(()) => ExitCode::from(code),
        Err(e) => ExitCode::from(e.exit_code()),
    }
}
