//! # aeolian-slurm: all that Aeolian knows of Slurm
//!
//! The lowest floor: plain functions on text and numbers, no threads, no network, no running Slurm needed, and
//! nothing of Aeolian's other crates.
//!
//! - [`hostlist`]: `n[01-04,7],gpu[1-2]-ib[0-3]` to names and back, bounded against hostile input.
//! - [`SlurmEnv`]: what `srun`, `sbatch` and `salloc` say in the environment, checked for contradictions.
//! - [`layout`]: `2(x3),1` (tasks on each node), and which rank runs on which node.
//! - [`WallTime`]: when the job will be stopped, and how much time is left.
//! - [`BatchScript`]: the text of an `sbatch` script, with every argument quoted for the shell.
//!
//! What it promises: input from outside never panics, and memory stays bounded whatever it says; a variable that
//! Slurm did not set is `None`, never a guess; a variable that is malformed or contradicts another is an error that
//! names it. The fields follow Slurm 22.05 to 26.05.

pub mod batch;
pub mod env;
mod error;
pub mod hostlist;
pub mod layout;
pub mod walltime;

pub use batch::BatchScript;
pub use env::{ArrayJob, HetJob, MpiPlugin, SlurmEnv, Step};
pub use error::SlurmError;
pub use walltime::WallTime;
