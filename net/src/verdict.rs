//! What a check found: fine, or a problem with what to do about it.

/// The outcome of one check of the machine.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// Something may go wrong.
    Warn {
        /// What is wrong, as a phrase.
        problem: String,
        /// What to do about it, as an instruction.
        help: String,
    },
}

impl Verdict {
    /// A warning.
    pub fn warn(problem: impl Into<String>, help: impl Into<String>) -> Verdict {
        Verdict::Warn { problem: problem.into(), help: help.into() }
    }

    /// What is wrong, if something is.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Verdict::Ok => None,
            Verdict::Warn { problem, .. } => Some(problem),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_ok(&self) -> bool {
        *self == Verdict::Ok
    }
}
