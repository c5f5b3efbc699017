//! The one error type of the example programs.

use std::path::Path;

use aeolian::net::{NetError, exit};

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a program on files. Each says where, what, and what to do; [`Error::exit_code`] is what the
/// program ends with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line makes no sense.
    #[error("{what}\n  help: {help}")]
    Usage {
        /// What makes no sense.
        what: String,
        /// What to do.
        help: String,
    },
    /// Input that is there but cannot be used.
    #[error("{place}: {what}\n  help: {help}")]
    Data {
        /// Where: `points.csv:17`, `points.npy`, `f.h5:/points`.
        place: String,
        /// What is wrong there.
        what: String,
        /// What to do.
        help: String,
    },
    /// Input that is not there or cannot be opened.
    #[error("{place}: {what}\n  help: {help}")]
    NoInput {
        /// The file (and dataset).
        place: String,
        /// What was tried and what the system said.
        what: String,
        /// What to do.
        help: String,
    },
    /// Output that cannot be written.
    #[error("{place}: {what}\n  help: {help}")]
    CannotWrite {
        /// The file.
        place: String,
        /// What was tried and what the system said.
        what: String,
        /// What to do.
        help: String,
    },
    /// A read that failed half-way.
    #[error("{place}: {what}\n  help: {help}")]
    Io {
        /// The file.
        place: String,
        /// What was tried and what the system said.
        what: String,
        /// What to do.
        help: String,
    },
    /// The operating system refused something that is not about one file (threads, memory).
    #[error("{what}\n  help: {help}")]
    Os {
        /// What was tried and what the system said.
        what: String,
        /// What to do.
        help: String,
    },
    /// Stopped in good order before the end.
    #[error("{what}\n  help: {help}")]
    Stopped {
        /// Where it stopped, and what was still written.
        what: String,
        /// What to do.
        help: String,
    },
    /// The error of one rank, told to all of them: every rank returns this same value, and rank 0 prints it.
    #[error("{message}\n  rank: {}", self.ranks())]
    Agreed {
        /// The lowest rank that failed.
        rank: usize,
        /// How many ranks failed.
        failed: usize,
        /// Size of the world.
        size: usize,
        /// The exit code of that rank's error.
        code: u8,
        /// That rank's message.
        message: String,
    },
    /// Something between ranks.
    #[error(transparent)]
    Net(#[from] NetError),
}

impl Error {
    /// An unusable input at `place`.
    pub fn data(place: impl Into<String>, what: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Data { place: place.into(), what: what.into(), help: help.into() }
    }

    /// A wrong command line.
    pub fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Usage { what: what.into(), help: help.into() }
    }

    /// `path` could not be opened or examined.
    pub fn no_input(path: &Path, source: &std::io::Error) -> Self {
        use std::io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        let help = match source.kind() {
            NotFound => "check the path; on several hosts the file must be visible under it on every one",
            PermissionDenied => "give the user that runs the job the right to read it",
            IsADirectory => "name a file, not a directory",
            _ => "see whether the file system is healthy, and try again",
        };
        Error::NoInput {
            place: path.display().to_string(),
            what: format!("cannot be read: {}", plain(source)),
            help: help.into(),
        }
    }

    /// A read of `path` failed after it had been opened.
    pub fn read(path: &Path, offset: u64, source: &std::io::Error) -> Self {
        let (what, help) = if source.kind() == std::io::ErrorKind::UnexpectedEof {
            (
                format!("the file ended at byte {offset}, earlier than its size when it was opened"),
                "do not shorten or replace an input while a job reads it; run again",
            )
        } else {
            (
                format!("reading at byte {offset} failed: {}", plain(source)),
                "see whether the file system is healthy (stale NFS handle, disk error, directory?), and try again",
            )
        };
        Error::Io { place: path.display().to_string(), what, help: help.into() }
    }

    /// The exit code that a program ends with when this error ends it (a code of [`exit`]).
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage { .. } => exit::USAGE,
            Error::Data { .. } => exit::DATA,
            Error::NoInput { .. } => exit::NO_INPUT,
            Error::CannotWrite { .. } => exit::CANNOT_WRITE,
            Error::Io { .. } => exit::IO,
            Error::Os { .. } => exit::OS,
            Error::Stopped { .. } => exit::STOPPED,
            Error::Agreed { code, .. } => *code,
            Error::Net(e) => e.exit_code(),
        }
    }

    /// The whole text for the user: the message and the exit code with its name.
    pub fn report(&self, program: &str) -> String {
        let code = self.exit_code();
        let name = exit::name(code).unwrap_or("the program's own");
        format!("{program}: error: {self}\n  exit code: {code} ({name})")
    }

    /// Whether the job master tells the user (or has told) what happened, so that this rank should just end.
    pub fn is_told_already(&self) -> bool {
        matches!(self, Error::Net(NetError::JobFailed(_)))
    }

    /// Of an error that all ranks have: which of them tells the job master, what happened, and what to do.
    pub fn blame(&self) -> (u32, String, String) {
        let (rank, text) = match self {
            Error::Agreed { rank, message, .. } => (*rank as u32, message.clone()),
            other => (0, other.to_string()),
        };
        let (cause, remedy) = text.split_once("\n  help: ").unwrap_or((&text, ""));
        (rank, cause.to_owned(), remedy.to_owned())
    }

    fn ranks(&self) -> String {
        let Error::Agreed { rank, failed, size, .. } = self else { return String::new() };
        match failed {
            1 => format!("{rank} of {size}"),
            n if n == size => format!("all {size}"),
            n => format!("{rank} of {size} (and {} more)", n - 1),
        }
    }
}

impl From<aeolian::harp::HarpError> for Error {
    fn from(e: aeolian::harp::HarpError) -> Self {
        Error::Net(e.into())
    }
}

impl From<aeolian::ops::OpsError> for Error {
    fn from(e: aeolian::ops::OpsError) -> Self {
        Error::Net(e.into())
    }
}

/// The system's words without Rust's ` (os error 2)`.
pub fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_name_place_help_and_code() {
        let e = Error::no_input(Path::new("a.csv"), &std::io::Error::from_raw_os_error(2));
        let text = e.report("kmeans");
        assert!(
            text.starts_with("kmeans: error: a.csv: cannot be read: no such file or directory\n  help: "),
            "{text}"
        );
        assert!(text.ends_with("exit code: 66 (NO_INPUT)"), "{text}");
    }

    #[test]
    fn agreed_errors_say_who() {
        let agreed = |rank, failed| Error::Agreed { rank, failed, size: 4, code: 65, message: "x".into() };
        assert!(agreed(2, 1).to_string().ends_with("rank: 2 of 4"));
        assert!(agreed(0, 4).to_string().ends_with("rank: all 4"));
        assert!(agreed(1, 3).to_string().ends_with("rank: 1 of 4 (and 2 more)"));
    }
}
