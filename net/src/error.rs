//! The one error type of `net`.

use crate::exit;

/// What to do where all ranks wait for one another.
pub(crate) const ALL_WAIT: &str = "every rank must call the same collectives in the same order, and wait for dataflow operators in the same \
     order or move those that are open together (complete_all, insert_all_beside)";

/// What a failed job is blamed on: one cause, the first that was known, the same on every rank.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Blame {
    /// The exit code that the job ends with (a code of [`exit`], or the user's own).
    pub code: u8,
    /// The rank to blame, if one is.
    pub rank: Option<u32>,
    /// Host of that rank.
    pub host: String,
    /// Process id of that rank on its host (0: not known).
    pub pid: u32,
    /// What that rank was doing: `start-up`, `compute`, `allreduce #7`, `finished`, ...
    pub phase: String,
    /// What happened, as a phrase: `killed by signal 9 (SIGKILL)`.
    pub cause: String,
    /// What the user can do about it.
    pub remedy: String,
}

impl Blame {
    /// A blame that names no rank.
    pub fn of_nobody(code: u8, cause: String, remedy: &str) -> Blame {
        Blame {
            code,
            rank: None,
            host: String::new(),
            pid: 0,
            phase: String::new(),
            cause,
            remedy: remedy.into(),
        }
    }
}

impl std::fmt::Display for Blame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(rank) = self.rank {
            write!(f, "rank {rank} on {} (pid {}), in phase {}: ", self.host, self.pid, self.phase)?;
        }
        write!(f, "{}", self.cause)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  help: {}", self.remedy)?;
        }
        if let Some(name) = exit::name(self.code) {
            write!(f, "\n  exit code: {} ({name})", self.code)?;
        } else {
            write!(f, "\n  exit code: {} (the program's own)", self.code)?;
        }
        Ok(())
    }
}

/// Everything that can go wrong between ranks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The job has failed, here or elsewhere. The cause has been (or is being) reported once, by the job master: a
    /// program that gets this should just end.
    #[error("the job has failed: {0}")]
    JobFailed(Box<Blame>),
    /// The environment or a setting does not add up.
    #[error("{what}\n  help: {help}")]
    Config {
        /// What does not add up.
        what: String,
        /// What to do.
        help: String,
    },
    /// An operating system call failed.
    #[error("{what}: {source}")]
    Os {
        /// What was tried, with its object: `mapping the shared segment of rank 3`.
        what: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A peer sent something that does not fit the protocol.
    #[error("protocol error with {peer}: {what}")]
    Protocol {
        /// Who: `rank 3`, `job master at 127.0.0.1:4711`, `unknown peer at ...`.
        peer: String,
        /// What was wrong.
        what: String,
    },
    /// A peer could not prove that it knows the job's secret (or we could not).
    #[error("{peer} is not of this job: {what}")]
    NotAllowed {
        /// Who.
        peer: String,
        /// What failed.
        what: String,
    },
    /// A peer is gone.
    #[error("lost {peer}: {what}")]
    Lost {
        /// Who.
        peer: String,
        /// How we know.
        what: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen {}\n  help: {help}", within(*.seconds))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long; 0 if until a moment that somebody else had set.
        seconds: u64,
        /// What to do.
        help: String,
    },
    /// An MPI call failed.
    #[error("MPI: {call} failed: {message}")]
    Mpi {
        /// The MPI function.
        call: &'static str,
        /// MPI's own words (`MPI_Error_string`).
        message: String,
    },
    /// An error of a layer above, on its way through a program whose errors are these.
    #[error("{what}")]
    Above {
        /// Its words.
        what: String,
        /// Its exit code.
        code: u8,
    },
    /// Ranks disagree about which operation they are in.
    #[error(
        "rank {rank} is in {ours}, but rank {peer} is in {theirs}\n  help: every rank must call the same collectives in the same order"
    )]
    Mismatch {
        /// This rank.
        rank: u32,
        /// What this rank is in.
        ours: String,
        /// The other rank.
        peer: u32,
        /// What the other rank is in.
        theirs: String,
    },
    /// Something that cannot be.
    #[error("{0}\n  help: this is a mistake of Aeolian itself: please report it")]
    Internal(String),
    /// A call that makes no sense on this world (rank out of range, finished world, ...).
    #[error("{0}")]
    Usage(String),
}

fn within(seconds: u64) -> String {
    if seconds == 0 { "in time".into() } else { format!("within {seconds} s") }
}

impl NetError {
    /// Wraps the last operating system error with what was tried.
    pub fn os(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> NetError {
        let what = what.into();
        move |source| NetError::Os { what, source }
    }

    /// The rank that is gone, if that is what this error says.
    ///
    /// ```
    /// use aeolian_net::NetError;
    /// let lost = |peer: &str| NetError::Lost { peer: peer.into(), what: "closed".into() }.lost_rank();
    /// assert_eq!((lost("rank 3"), lost("the job master")), (Some(3), None));
    /// ```
    pub fn lost_rank(&self) -> Option<u32> {
        match self {
            NetError::Lost { peer, .. } => peer.strip_prefix("rank ")?.parse().ok(),
            _ => None,
        }
    }

    /// The exit code that a program ends with when this error ends it.
    pub fn exit_code(&self) -> u8 {
        match self {
            NetError::JobFailed(blame) => blame.code,
            NetError::Config { .. } => exit::CONFIG,
            NetError::Os { .. } => exit::OS,
            NetError::Protocol { .. } => exit::PROTOCOL,
            NetError::NotAllowed { .. } => exit::NOT_ALLOWED,
            NetError::Lost { .. } => exit::RANK_LOST,
            NetError::TimedOut { .. } => exit::NOT_ALL_CAME,
            NetError::Mpi { .. } => exit::INTERNAL,
            NetError::Mismatch { .. } => exit::MISMATCH,
            NetError::Internal(_) => exit::INTERNAL,
            NetError::Usage(_) => exit::PROGRAM,
            NetError::Above { code, .. } => *code,
        }
    }
}

/// Shorthand.
pub type Result<T, E = NetError> = std::result::Result<T, E>;
