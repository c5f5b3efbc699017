//! One rank as a process: fork, the few things that must happen between fork and exec, exec.
//!
//! A rank leads a session of its own, so that a signal can reach all that it starts; the kernel kills it if the thread
//! that started it dies (so that thread must live as long as the rank); it inherits standard input, output and error
//! and one descriptor with the job's secret, nothing else.

use super::error::{LaunchError, Result};
use super::guard::{self, Guard};
use super::spec::HostSpec;
use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CpuSet;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Starts `rank` of `spec` from the file `program`, bound to `cpus` if given, on the list of `guard`.
pub(crate) fn spawn(
    spec: &HostSpec,
    program: &Path,
    rank: u32,
    stdin: Stdio,
    cpus: Option<CpuSet>,
    guard: &Guard,
) -> Result<Child> {
    let trouble = |what: &str| LaunchError::os(format!("{what} rank {rank} on {}", spec.host));
    let (secret, mut writer) = io::pipe().map_err(trouble("making the secret's pipe for"))?;
    writer.write_all(&spec.secret).map_err(trouble("handing the secret to"))?;
    drop(writer);
    let mut command = Command::new(program);
    command
        .arg0(&spec.program)
        .args(&spec.args)
        .current_dir(&spec.wdir)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env("AEOLIAN_RANK", rank.to_string())
        .env("AEOLIAN_SECRET_FD", secret.as_raw_fd().to_string())
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let parent = rustix::process::getpid();
    let secret_fd = secret.as_raw_fd();
    let guard_fd = guard.pipe().map(|pipe| pipe.as_raw_fd());
    let files = files_before();
    let between = move || -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The launcher died before the line above: no signal will come any more.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(fd) = guard_fd {
            // SAFETY: open in this process: `guard` outlives the fork, and this is its copy.
            guard::enlist(unsafe { BorrowedFd::borrow_raw(fd) })?;
        }
        drop_inherited();
        if let Some(files) = files {
            rustix::process::setrlimit(Resource::Nofile, files)?;
        }
        // SAFETY: the descriptor is open in this process: `secret` lives until after the fork, and this is its copy.
        let secret = unsafe { BorrowedFd::borrow_raw(secret_fd) };
        rustix::io::fcntl_setfd(secret, FdFlags::empty())?;
        if let Some(cpus) = &cpus {
            rustix::thread::sched_setaffinity(None, cpus)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made: nothing is allocated and no lock is taken.
    unsafe { command.pre_exec(between) };
    let child = command.spawn().map_err(trouble("starting"))?;
    drop(secret);
    Ok(child)
}

/// The limit of open files that this process was started with, once it was raised.
static FILES: OnceLock<Rlimit> = OnceLock::new();

/// A launcher of many ranks holds several descriptors for each: as many as the system allows. The ranks get the limit that
/// the launcher was started with.
pub(crate) fn raise_file_limit() {
    let was = rustix::process::getrlimit(Resource::Nofile);
    if was.current != was.maximum {
        let raised = Rlimit { current: was.maximum, maximum: was.maximum };
        if rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
            let _ = FILES.set(was);
        }
    }
}

fn files_before() -> Option<Rlimit> {
    FILES.get().cloned()
}

/// Marks every descriptor but the standard three close-on-exec: what the launcher's own parent left open is no
/// business of the ranks. A kernel before 5.11 does not know the call; then they keep what was inherited.
fn drop_inherited() {
    // SAFETY: close_range takes three integers, and with CLOSE_RANGE_CLOEXEC closes nothing in this process.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}
