//! `aeolian doctor`: what a job would find here.

use aeolian_net::doctor::{self, Loaded, Report, render_text};
use aeolian_net::exit;
use aeolian_net::launcher::Launch;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An MPI that is not loaded within this time is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The arguments of `aeolian doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// For so many ranks on this node [default: as the launcher says, else one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) ranks: Option<u32>,
    /// Try to load this MPI, and say in JSON what came of it (the doctor tries each in a process of its own)
    #[arg(long, hide = true, value_name = "PATH", conflicts_with_all = ["json", "ranks"])]
    pub(crate) try_mpi: Option<PathBuf>,
}

/// Prints the findings: exit code 0 whatever they are. Of several ranks only rank 0 does, as the launcher's variables tell;
/// the job is not joined.
pub(crate) fn main(args: &DoctorArgs) -> u8 {
    if let Some(path) = &args.try_mpi {
        return print(&serde_json::to_string(&doctor::load(path)).unwrap_or_default());
    }
    if Launch::detect().is_ok_and(|launch| launch.rank != 0) {
        return exit::OK;
    }
    let report = Report::gather_with(args.ranks.map(|n| n as usize), &try_elsewhere);
    if !args.json {
        return print(render_text(&report).trim_end());
    }
    match serde_json::to_string_pretty(&report) {
        Ok(text) => print(&text),
        Err(e) => {
            eprintln!("aeolian: error: the report cannot be written as JSON: {e}");
            exit::INTERNAL
        }
    }
}

/// Prints; a reader that left (`| head`) is no error.
fn print(text: &str) -> u8 {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("aeolian: error: writing to standard output: {e}");
            exit::CANNOT_WRITE
        }
        _ => exit::OK,
    }
}

/// Loads an MPI in another process: a process can hold only one, and a damaged one may take its process with it.
fn try_elsewhere(candidate: &Path) -> Result<Loaded, String> {
    let cannot = |e: std::io::Error| format!("it could not be tried: {e}");
    let own = std::env::current_exe().map_err(cannot)?;
    let mut child = Command::new(own)
        .args(["doctor", "--try-mpi"])
        .arg(candidate)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot)?;
    let until = Instant::now() + PATIENCE;
    // The answer is far smaller than what a pipe holds: the child never waits for its reader, and all is there at its end.
    let status = loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => break status,
            None if Instant::now() > until => {
                // Gone already is as good.
                child.kill().unwrap_or_default();
                child.wait().map_err(cannot)?;
                return Err(format!("loading it takes more than {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut text = Vec::new();
    if let Some(out) = child.stdout.take() {
        // What a library has left running may hold the pipe and write on: its end is not waited for.
        let there = rustix::io::ioctl_fionread(&out).map_err(|e| cannot(e.into()))?;
        out.take(there).read_to_end(&mut text).map_err(cannot)?;
    }
    // A library may write something of its own before, and after.
    let text = String::from_utf8_lossy(&text);
    let answer = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    answer.unwrap_or_else(|| Err(format!("loading it ends the process ({status})")))
}
