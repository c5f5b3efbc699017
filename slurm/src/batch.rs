//! The text of an `sbatch` script.

use std::fmt::Write as _;
use std::time::Duration;

use crate::error::SlurmError;

/// A batch job that starts one program on several nodes by `srun`. It holds no secret and sets no environment
/// variable: a script is readable to others and stays in Slurm's records.
///
/// ```
/// use aeolian_slurm::BatchScript;
/// let mut job = BatchScript::new(["./kmeans", "--input", "my data.npy"]);
/// job.nodes = 4;
/// job.tasks_per_node = 8;
/// let text = job.render()?;
/// assert!(text.contains("#SBATCH --nodes=4\n"));
/// assert!(text.ends_with("\nexec srun --kill-on-bad-exit=1 ./kmeans --input 'my data.npy'\n"));
/// # Ok::<(), aeolian_slurm::SlurmError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchScript {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Number of nodes.
    pub nodes: u32,
    /// Ranks on each node.
    pub tasks_per_node: u32,
    /// Cores for each rank; the site's default if `None`.
    pub cpus_per_task: Option<u32>,
    /// Time limit, rounded up to whole minutes (Slurm's grain); the partition's default if `None`.
    pub time: Option<Duration>,
    /// Partition (queue); the site's default if `None`.
    pub partition: Option<String>,
    /// Name of the job.
    pub job_name: Option<String>,
    /// File for what the ranks print (`%j` stands for the job id).
    pub output: Option<String>,
    /// How long before the time limit the ranks get SIGUSR1, for an orderly stop.
    pub warn: Option<Duration>,
    /// Whether Slurm may start the job again after a node has failed.
    pub requeue: bool,
    /// `srun --mpi=`: `pmix`, `pmi2` or `none`; the site's default if `None`.
    pub mpi: Option<String>,
}

impl BatchScript {
    /// One rank on one node, a warning one minute before the end.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(command: I) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            nodes: 1,
            tasks_per_node: 1,
            cpus_per_task: None,
            time: None,
            partition: None,
            job_name: None,
            output: None,
            warn: Some(Duration::from_secs(60)),
            requeue: false,
            mpi: None,
        }
    }

    /// The script.
    ///
    /// # Errors
    /// If a number is 0, the command is empty, or a text cannot stand in a script (line breaks, control characters).
    pub fn render(&self) -> Result<String, SlurmError> {
        let mut out = String::from("#!/bin/bash\n");
        let mut set = |key: &str, value: &str| {
            out.push_str("#SBATCH --");
            out.push_str(key);
            if !value.is_empty() {
                let _ = write!(out, "={value}");
            }
            out.push('\n');
        };
        if let Some(name) = &self.job_name {
            set("job-name", option("job name", name)?);
        }
        set("nodes", &positive("nodes", self.nodes)?);
        set("ntasks-per-node", &positive("tasks per node", self.tasks_per_node)?);
        if let Some(cpus) = self.cpus_per_task {
            set("cpus-per-task", &positive("cores per task", cpus)?);
        }
        if let Some(time) = self.time {
            set("time", &minutes(time)?);
        }
        if let Some(partition) = &self.partition {
            set("partition", option("partition", partition)?);
        }
        if let Some(output) = &self.output {
            set("output", option("output file", output)?);
        }
        if let Some(warn) = self.warn {
            // Without B: the signal goes to the ranks, not to the script. Slurm takes at most 65535 s.
            let seconds = warn.as_secs().max(u64::from(warn.subsec_nanos() > 0));
            if !(1..=65535).contains(&seconds) {
                return Err(wrong("the warning must come 1 to 65535 seconds before the end"));
            }
            set("signal", &format!("USR1@{seconds}"));
        }
        set(if self.requeue { "requeue" } else { "no-requeue" }, "");

        // Since Slurm 22.05 srun does not take this from sbatch by itself.
        if self.cpus_per_task.is_some() {
            out.push_str("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK\n");
        }
        // One lost rank ends the step. exec: srun gets the job's signals, and its exit code is the job's.
        out.push_str("exec srun --kill-on-bad-exit=1");
        if let Some(mpi) = &self.mpi {
            let _ = write!(out, " --mpi={}", quote(option("MPI plugin", mpi)?)?);
        }
        if self.command.first().is_none_or(String::is_empty) {
            return Err(wrong("no program to start"));
        }
        // A program whose name starts with '-' would be an option of srun.
        if self.command.first().is_some_and(|c| c.starts_with('-')) {
            return Err(wrong("the program's name starts with '-': write ./ before it"));
        }
        for word in &self.command {
            let _ = write!(out, " {}", quote(word)?);
        }
        out.push('\n');
        Ok(out)
    }
}

/// `word` as one word of a POSIX shell, left bare where that is safe.
///
/// # Errors
/// If it holds a NUL, which no argument can.
pub fn quote(word: &str) -> Result<String, SlurmError> {
    if word.contains('\0') {
        return Err(wrong("an argument holds a NUL character"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./=:,@%+".contains(&b);
    // '=' makes an assignment of a first word; everywhere else it is harmless, but quotes cost nothing
    if !word.is_empty() && word.bytes().all(plain) && !word.contains('=') {
        return Ok(word.to_owned());
    }
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Text in an #SBATCH line: sbatch splits it at blanks, and quotes do not help in all versions.
fn option<'a>(what: &str, text: &'a str) -> Result<&'a str, SlurmError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\' | '#');
    if text.is_empty() || text.contains(odd) {
        let text = crate::error::shorten(text);
        return Err(wrong(&format!(
            "{what} '{text}': blanks, quotes, '\\' and '#' cannot stand in an #SBATCH line"
        )));
    }
    Ok(text)
}

fn positive(what: &str, n: u32) -> Result<String, SlurmError> {
    if n == 0 { Err(wrong(&format!("{what}: 0"))) } else { Ok(n.to_string()) }
}

/// `[days-]hours:minutes:00`
fn minutes(time: Duration) -> Result<String, SlurmError> {
    let total =
        time.as_secs().div_ceil(60) + u64::from(time.subsec_nanos() > 0 && time.as_secs().is_multiple_of(60));
    if total == 0 || total > 60 * 24 * 3650 {
        return Err(wrong("the time limit must be between a minute and ten years"));
    }
    let (days, hours, minutes) = (total / 1440, total / 60 % 24, total % 60);
    Ok(if days > 0 {
        format!("{days}-{hours:02}:{minutes:02}:00")
    } else {
        format!("{hours:02}:{minutes:02}:00")
    })
}

fn wrong(what: &str) -> SlurmError {
    SlurmError::Batch { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn the_whole_script() {
        let mut job = BatchScript::new(["./kmeans", "--k", "10", "it's $HOME"]);
        job.nodes = 2;
        job.tasks_per_node = 4;
        job.cpus_per_task = Some(8);
        job.time = Some(Duration::from_secs(90 * 60 + 1));
        job.partition = Some("debug".into());
        job.job_name = Some("kmeans".into());
        job.output = Some("kmeans-%j.out".into());
        job.mpi = Some("pmix".into());
        let expected = "#!/bin/bash\n#SBATCH --job-name=kmeans\n#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=4\n\
            #SBATCH --cpus-per-task=8\n#SBATCH --time=01:31:00\n#SBATCH --partition=debug\n\
            #SBATCH --output=kmeans-%j.out\n#SBATCH --signal=USR1@60\n#SBATCH --no-requeue\n\
            export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK\n\
            exec srun --kill-on-bad-exit=1 --mpi=pmix ./kmeans --k 10 'it'\\''s $HOME'\n";
        assert_eq!(job.render().unwrap(), expected);
    }

    #[test]
    fn times() {
        let t = |s| minutes(Duration::from_millis(s)).unwrap();
        assert_eq!([t(1), t(60_000), t(60_001)], ["00:01:00", "00:01:00", "00:02:00"]);
        assert_eq!(t(86_400_000 * 2 + 3_600_000), "2-01:00:00");
        assert!(minutes(Duration::ZERO).is_err() && minutes(Duration::MAX).is_err());
    }

    #[test]
    fn what_cannot_be_written() {
        let bad = |change: fn(&mut BatchScript)| {
            let mut job = BatchScript::new(["./a"]);
            change(&mut job);
            assert!(matches!(job.render(), Err(SlurmError::Batch { .. })), "{job:?}");
        };
        bad(|j| j.nodes = 0);
        bad(|j| j.tasks_per_node = 0);
        bad(|j| j.cpus_per_task = Some(0));
        bad(|j| j.warn = Some(Duration::ZERO));
        bad(|j| j.partition = Some("a\nrm -rf x".into()));
        bad(|j| j.job_name = Some("two words".into()));
        bad(|j| j.output = Some(String::new()));
        bad(|j| j.command.clear());
        bad(|j| j.command = vec!["--export=ALL".into()]);
        bad(|j| j.command.push("a\0".into()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A real shell must give back every word as it was.
        #[test]
        fn the_shell_agrees(words in prop::collection::vec("[^\\x00]{0,12}|[a-z'\"$`\\\\ ;&|<>*?~#!(){}\\n=-]{0,12}", 1..5)) {
            let line: Vec<String> = words.iter().map(|w| quote(w).unwrap()).collect();
            let script = format!("printf '%s\\0' {}", line.join(" "));
            let out = Command::new("sh").arg("-c").arg(script).output().unwrap();
            let expected: Vec<u8> = words.iter().flat_map(|w| w.bytes().chain([0])).collect();
            prop_assert_eq!(out.stdout, expected);
        }
    }
}
