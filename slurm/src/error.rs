//! The one error type of this crate.

/// What can be wrong with what Slurm, or a user's script, says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlurmError {
    /// A host list does not follow the grammar.
    #[error("host list '{list}': {what} at character {at}")]
    Hostlist {
        /// The list (shortened if it is long).
        list: String,
        /// Where, counted in characters from 1.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A host list, or a list of tasks, stands for more than this program accepts.
    #[error("'{list}' stands for more than {limit} {unit}")]
    TooMany {
        /// The list (shortened if it is long).
        list: String,
        /// The most that is accepted.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// A variable does not hold what Slurm puts there.
    #[error(
        "{name}='{value}' in the environment: {expected} expected\n  help: was it set by hand, or left over from another job? `env | grep SLURM` shows all"
    )]
    Malformed {
        /// The variable.
        name: String,
        /// Its value (shortened if it is long).
        value: String,
        /// What should be there.
        expected: &'static str,
    },
    /// A variable that every Slurm step has is not there.
    #[error(
        "{name} is missing in the environment, although {because} is set\n  help: start the program by `srun`, or remove all SLURM_ variables"
    )]
    Missing {
        /// The variable.
        name: &'static str,
        /// The variable that shows that Slurm started us.
        because: &'static str,
    },
    /// Two variables contradict each other.
    #[error(
        "the environment contradicts itself: {what}\n  help: variables of an outer job leak into an inner one when SLURM_ variables are exported by hand; `env | grep SLURM` shows all"
    )]
    Contradiction {
        /// Which variables, and how.
        what: String,
    },
    /// A setting of a batch script cannot be written.
    #[error("batch script: {what}")]
    Batch {
        /// What is wrong.
        what: String,
    },
}

/// Long input must not fill the terminal, nor control characters change it.
pub(crate) fn shorten(text: &str) -> String {
    let mut out: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        out.push_str("...");
    }
    out
}
