//! k-means on real files: `kmeans --input FILE --k K`, alone or on any number of ranks.
//!
//! | file | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `job` | the order of things: read, agree, start, iterate, finish, write |
//! | `start` | the first centroids |
//! | `lloyd`, `empty`, `last` | the iterations, empty clusters, what belongs to the final centroids |
//! | `models/` | how the ranks compute new centroids together: Harp's computation models |
//! | `kernel/` | nearest centroid and sums, the inner loop: a crate of its own |
//! | `total` | what is added up, and how |
//! | `digits` | the bundled data |
//! | `outputs`, `table`, `picture`, `report` | what the user gets |

mod cli;
mod digits;
mod empty;
mod job;
mod last;
mod lloyd;
mod models;
mod moments;
mod outputs;
mod picture;
mod plus_plus;
mod report;
mod start;
mod table;
#[cfg(test)]
mod tests;
mod total;

use std::process::ExitCode;

use aeolian_examples::{Element, program};

/// What points are made of: a type that both the readers and the kernel know.
pub(crate) trait Number: Element + aeolian_kmeans_kernel::Real {}
impl<T: Element + aeolian_kmeans_kernel::Real> Number for T {}

fn main() -> ExitCode {
    program::main("kmeans", cli::parse, job::run)
}
