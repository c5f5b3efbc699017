//! What can go wrong before and around the ranks.

use aeolian_net::{NetError, exit};
use std::path::PathBuf;

/// An error of the launcher. Each names what to change, and has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The command line asks for something that cannot be.
    #[error("{what}\n  help: {help}")]
    Usage { what: String, help: String },
    /// A line of a host file, or an item of `--host`, that cannot be read.
    #[error("{place}: {what}\n  help: {help}")]
    Hosts { place: String, what: String, help: String },
    /// A file that the launcher itself needs.
    #[error("cannot read {}: {source}\n  help: {help}", path.display())]
    File { path: PathBuf, source: std::io::Error, help: String },
    /// A program that is not there or cannot be run.
    #[error("{what}\n  help: {help}")]
    Program { what: String, help: String },
    /// All hosts that could not be used, at once.
    #[error("{}", list_hosts(.0))]
    BadHosts(Vec<BadHost>),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Os { what: String, source: std::io::Error },
    /// An error of the layer below.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// A host that could not be used.
#[derive(Debug, Clone)]
pub(crate) struct BadHost {
    /// Its name as the user wrote it.
    pub(crate) host: String,
    /// Why, in ssh's or the agent's own words (may have several lines).
    pub(crate) why: String,
    /// The exit code this alone would give.
    pub(crate) code: u8,
}

fn list_hosts(bad: &[BadHost]) -> String {
    let mut text = match bad {
        [_] => "the job cannot start: 1 host cannot be used".to_string(),
        _ => format!("the job cannot start: {} hosts cannot be used", bad.len()),
    };
    for b in bad {
        text.push_str(&format!("\n  {}: {}", b.host, b.why.trim_end().replace('\n', "\n      ")));
    }
    if bad.iter().any(|b| b.code == exit::NO_HOST) {
        text.push_str(
            "\n  help: `ssh -o BatchMode=yes HOST true` must work without a question for each host \
             (key, known_hosts), and `aeolian` must be there at the same path (or give --remote-aeolian PATH)",
        );
    }
    text
}

impl LaunchError {
    /// Wraps an operating system error with what was tried.
    pub(crate) fn os(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> LaunchError {
        let what = what.into();
        move |source| LaunchError::Os { what, source }
    }

    /// The exit code of `aeolian run` when this ends it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            LaunchError::Usage { .. } => exit::USAGE,
            LaunchError::Hosts { .. } => exit::CONFIG,
            LaunchError::File { .. } | LaunchError::Program { .. } => exit::NO_INPUT,
            LaunchError::BadHosts(bad) => bad.first().map_or(exit::NO_HOST, |b| b.code),
            LaunchError::Os { .. } => exit::OS,
            LaunchError::Net(e) => e.exit_code(),
        }
    }
}

/// Shorthand.
pub(crate) type Result<T, E = LaunchError> = std::result::Result<T, E>;
