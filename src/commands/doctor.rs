//! `aeolian doctor`: what a job would find here.

/// The arguments of `aeolian doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints the findings.
pub(crate) fn main(_args: &DoctorArgs) -> u8 {
    eprintln!("aeolian: error: this build has no doctor yet");
    aeolian_net::exit::INTERNAL
}
