//! `aeolian mpi`: what has to be done once for a site's MPI.

use std::path::PathBuf;

/// The subcommands of `aeolian mpi`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MpiCommand {
    /// Compile the small library between Aeolian and the MPI of an `mpicc`
    Build {
        /// The MPI's compiler command (default: the mpicc in PATH)
        #[arg(long, value_name = "PATH")]
        mpicc: Option<PathBuf>,
        /// Where to put the library (default: where programs look for it)
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Does it.
pub(crate) fn main(command: &MpiCommand) -> u8 {
    let MpiCommand::Build { mpicc: _, output: _ } = command;
    eprintln!("aeolian: error: this build cannot build MPI shims yet");
    aeolian_net::exit::INTERNAL
}
