//! What a process as a whole can say of its end: an exit without farewell, and signals.

use super::client::Shared;
use super::protocol::ToMaster;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Signals that ask a program to end.
const SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1];

/// How long an ending process waits for the job master's verdict on it.
const LAST_ECHO: Duration = Duration::from_millis(300);

/// How long it waits, if it hosts the job master, until all others have heard the verdict.
const LAST_VERDICT: Duration = Duration::from_secs(1);

/// The process that has joined.
static PROCESS: OnceLock<u32> = OnceLock::new();
static JOB: OnceLock<Weak<Shared>> = OnceLock::new();
/// Waits until all have heard the verdict of the job master of this process.
static DRAIN: OnceLock<Drain> = OnceLock::new();

type Drain = Box<dyn Fn(Duration) + Send + Sync>;

/// This process hosts the job master, whose verdict `drain` sees off.
pub(crate) fn hosts_master(drain: impl Fn(Duration) + Send + Sync + 'static) {
    let _ = DRAIN.set(Box::new(drain));
}

/// glibc tells an exit handler the code; elsewhere it stays unknown.
#[cfg(target_env = "gnu")]
fn at_exit_call(handler: extern "C" fn(i32, *mut libc::c_void)) {
    unsafe extern "C" {
        fn on_exit(handler: extern "C" fn(i32, *mut libc::c_void), argument: *mut libc::c_void) -> i32;
    }
    // SAFETY: a plain function that uses no argument; it runs before the process is torn down.
    unsafe { on_exit(handler, std::ptr::null_mut()) };
}

#[cfg(not(target_env = "gnu"))]
fn at_exit_call(_: extern "C" fn(i32, *mut libc::c_void)) {
    extern "C" fn without_code() {
        farewell(None);
    }
    // SAFETY: a plain function without arguments; it runs before the process is torn down.
    unsafe { libc::atexit(without_code) };
}

extern "C" fn at_exit(code: i32, _: *mut libc::c_void) {
    // What the system makes of it: exit(256) is a success.
    farewell(Some(code & 0xff));
}

fn farewell(code: Option<i32>) {
    // A forked child has inherited the handler, not the job.
    if PROCESS.get() != Some(&std::process::id()) {
        return;
    }
    if let Some(job) = JOB.get().and_then(Weak::upgrade)
        && !job.finished.load(Ordering::Acquire)
    {
        if !job.has_failed() {
            job.send_and_flush(ToMaster::Left(code));
        }
        // If the job master is a thread of this process, it must get to tell the others before it dies with us.
        let end = Instant::now() + LAST_ECHO;
        while !job.has_failed() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(drain) = DRAIN.get()
            && job.has_failed()
        {
            job.hang_up();
            drain(LAST_VERDICT);
        }
        if code.unwrap_or(0) == 0 {
            // Success is never an accident: launchers that know nothing of FINISHED must not take this for one, and some
            // (Hydra) would end the others before they can object.
            let code = job.verdict_code().unwrap_or(crate::exit::LEFT_EARLY);
            // SAFETY: all open C streams are flushed; then the process ends (Rust has flushed its own before exit handlers).
            unsafe {
                libc::fflush(std::ptr::null_mut());
                libc::_exit(i32::from(code));
            }
        }
    }
}

/// True if the program and its launcher have left a signal at its default.
pub(crate) fn is_default(signal: i32) -> bool {
    // SAFETY: asks only; `old` is a local of the right type.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut old) == 0 && old.sa_sigaction == libc::SIG_DFL
    }
}

pub(super) fn install(shared: &Arc<Shared>) {
    if JOB.set(Arc::downgrade(shared)).is_err() {
        return;
    }
    let _ = PROCESS.set(std::process::id());
    at_exit_call(at_exit);
    for (signal, slot) in SIGNALS.into_iter().zip(&shared.signals) {
        if !is_default(signal) {
            continue;
        }
        let Ok((read, write)) = UnixStream::pair() else { continue };
        let ready = read.set_nonblocking(true).is_ok() && write.set_nonblocking(true).is_ok();
        if ready && signal_hook::low_level::pipe::register(signal, write).is_ok() {
            slot.store(read.into_raw_fd(), Ordering::Release);
            // A program that goes on after its world is finished can still be ended by Ctrl-C or SIGTERM. (Not by SIGUSR1: a
            // scheduler's warning that comes as the job ends must not spoil its end.)
            if signal == libc::SIGUSR1 {
                continue;
            }
            let _ = signal_hook::flag::register_conditional_default(signal, shared.deaf.clone());
        }
    }
}

/// What to poll for signals. (The descriptors stay open as long as the process: the handlers do too.)
pub(super) fn signal_fds(shared: &Shared) -> Vec<BorrowedFd<'static>> {
    shared
        .signals
        .iter()
        .map(|s| s.load(Ordering::Acquire))
        .filter(|&fd| fd >= 0)
        // SAFETY: opened by `install` and never closed.
        .map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
        .collect()
}

/// Signals that have come since the last call.
pub(super) fn pending_signals(shared: &Shared) -> Vec<i32> {
    let mut came = Vec::new();
    for (signal, slot) in SIGNALS.into_iter().zip(&shared.signals) {
        let fd = slot.load(Ordering::Acquire);
        if fd < 0 {
            continue;
        }
        // SAFETY: as in `signal_fds`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut bytes = [0; 16];
        if matches!(rustix::io::read(fd, &mut bytes), Ok(n) if n > 0) {
            came.push(signal);
        }
    }
    came
}
