//! `aeolian mpi`: what has to be done once for a site's MPI.

use aeolian_net::mpi::build_shim;
use aeolian_net::mpi::find::Places;
use aeolian_net::{NetError, exit};
use std::io::Write;
use std::path::PathBuf;

/// The subcommands of `aeolian mpi`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MpiCommand {
    /// Compile the small library between Aeolian and the MPI of an `mpicc` (takes a second)
    Build {
        /// The MPI's compiler command [default: $MPICC, or the mpicc in PATH]
        #[arg(long, value_name = "PATH")]
        mpicc: Option<String>,
        /// Where to put the library [default: ~/.local/lib/aeolian, where programs look for it]
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Does it; gives the exit code.
pub(crate) fn main(command: &MpiCommand) -> u8 {
    let MpiCommand::Build { mpicc, output } = command;
    match build(mpicc.as_deref(), output.clone()) {
        Ok(text) => {
            std::io::stdout().write_all(text.as_bytes()).unwrap_or_default();
            exit::OK
        }
        Err(e) => {
            eprintln!("aeolian: error: {e}");
            e.exit_code()
        }
    }
}

fn build(mpicc: Option<&str>, output: Option<PathBuf>) -> Result<String, NetError> {
    let places = Places::from_env();
    let output = match (output, &places.home) {
        (Some(dir), _) => {
            std::path::absolute(&dir).map_err(NetError::os(format!("finding {}", dir.display())))?
        }
        (None, Some(home)) => home.join(".local/lib/aeolian"),
        (None, None) => {
            return Err(NetError::Config {
                what: "HOME is not set, so there is no place for the library".into(),
                help: "give one with --output DIR".into(),
            });
        }
    };
    let built = build_shim(mpicc, &output, None)?;
    let mut text =
        format!("built {}\nfor   {} ({})\n", built.path.display(), built.version, built.flavor.name());
    if !places.directories().contains(&output) {
        text.push_str(&format!(
            "use   export AEOLIAN_MPI_PATH={}   (programs do not look there by themselves)\n",
            output.display()
        ));
    }
    Ok(text)
}
