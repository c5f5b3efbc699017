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
use aeolian::net::{NetError, exit};
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
    // The command line is the same on every rank, so what is wrong with it is too: rank 0 says it.
    let alone = world.size() == 1;
    let result = match cli::parse(std::env::args_os()) {
        Ok(options) => job::run(&mut world, &options),
        Err(cli::End::Print(text)) => {
            if world.rank() == 0 && (alone || !text.use_stderr()) {
                let _ = text.print();
            }
            return match text.use_stderr() {
                true if alone => ExitCode::from(exit::USAGE),
                true => fail(world, cli::brief(&text)),
                false => finish(world),
            };
        }
        Err(cli::End::Wrong(e)) => Err(e),
    };
    match result {
        Ok(()) => finish(world),
        Err(e) if alone => {
            eprintln!("{}", e.report("kmeans"));
            ExitCode::from(e.exit_code())
        }
        Err(e) => fail(world, e),
    }
}

fn finish(world: World) -> ExitCode {
    match world.finish() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if !matches!(e, NetError::JobFailed(_)) {
                eprintln!("kmeans: error: {e}");
            }
            ExitCode::from(e.exit_code())
        }
    }
}

/// Ends the job with an error. Errors of the program are known to all ranks: one of them tells the job master, who tells
/// the user once; the others wait until they hear it from there. Errors of the wires are told by whoever has them.
fn fail(world: World, e: Error) -> ExitCode {
    let code = e.exit_code();
    let (rank, cause, remedy) = e.blame();
    match e {
        Error::Net(_) if e.is_told_already() => {}
        Error::Net(_) => world.fail(code, cause, remedy),
        _ if rank == world.rank() => world.fail(code, cause, remedy),
        // The job has failed, so this cannot succeed; it returns when the job master has said so.
        _ => drop(world.finish()),
    }
    ExitCode::from(code)
}
