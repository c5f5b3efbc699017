//! What a rank that is a process hooks into: panics, the end of the process, signals.

use std::os::fd::AsRawFd as _;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use super::client::Control;
use super::protocol::ToMaster;
use super::shared::{Shared, locked};
use crate::error::{Blame, NetError, Result};
use crate::exit;

/// How long the end of the process waits until the master has judged.
const JUDGEMENT: Duration = Duration::from_millis(1300);

/// The rank that this process is, and the process id it had then (a forked child is not the rank).
static CURRENT: Mutex<Option<(Arc<Shared>, u32)>> = Mutex::new(None);
/// Where the signal handler writes to; -1: nobody wants signals any more.
static SIGNAL_FD: AtomicI32 = AtomicI32::new(-1);
static INSTALLED: Once = Once::new();

/// Makes this process *be* the rank of `control`: a panic anywhere in it is reported as the rank's failure, leaving
/// without having finished as LEFT_EARLY (or with the program's own exit code), and SIGTERM, SIGINT and SIGUSR1 become
/// stop requests where the program has not set its own handlers. Call it once, after registering.
///
/// # Errors
/// [`NetError::Os`] if a handler cannot be set.
pub fn install_process_hooks(control: &Control) -> Result<()> {
    let shared = Arc::clone(control.shared());
    let fd = shared.wake_write.as_raw_fd();
    // Leaked on purpose: a signal handler may hold the descriptor's number at any moment.
    std::mem::forget(Arc::clone(&shared));
    *locked(&CURRENT) = Some((shared, std::process::id()));
    SIGNAL_FD.store(fd, Ordering::Release);
    INSTALLED.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            earlier(info);
            panicked(info);
        }));
        at_exit();
    });
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1] {
        catch(signal).map_err(NetError::os(format!("setting the handler of signal {signal}")))?;
    }
    Ok(())
}

/// The rank has finished: signals do again what they did before.
pub(super) fn forget(shared: &Arc<Shared>) {
    let mut current = locked(&CURRENT);
    if current.as_ref().is_some_and(|(ours, _)| Arc::ptr_eq(ours, shared)) {
        SIGNAL_FD.store(-1, Ordering::Release);
        *current = None;
    }
}

/// Ends the process at once, without destructors: the main thread has had its time.
pub(super) fn end_process(code: u8) -> ! {
    // SAFETY: _exit touches no memory of ours and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

fn current() -> Option<Arc<Shared>> {
    // A panic may come from anywhere, but nobody holds this lock for longer than a clone takes.
    let current = locked(&CURRENT);
    let (shared, pid) = current.as_ref()?;
    (*pid == std::process::id()).then(|| Arc::clone(shared))
}

fn panicked(info: &PanicHookInfo<'_>) {
    let Some(shared) = current() else { return };
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message =
        message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)");
    let mut short: String = message.chars().take(400).collect();
    if short.len() < message.len() {
        short.push_str("...");
    }
    let place = info.location().map_or(String::new(), |at| format!(" at {}:{}", at.file(), at.line()));
    shared.tell(ToMaster::Failed(Blame {
        code: exit::PANICKED,
        rank: Some(shared.rank),
        host: String::new(),
        pid: 0,
        phase: String::new(),
        cause: format!("panicked{place}: {}", short.replace('\n', " ")),
        remedy: "RUST_BACKTRACE=1 shows how it came there".into(),
    }));
    if std::thread::current().name() != Some("aeolian-control") {
        // If this rank hosts the master, the others must hear of it before the process is gone.
        shared.verdict(JUDGEMENT);
    }
}

/// What happens at the end of the process; `code` where the system tells it.
fn at_end(code: Option<i32>) {
    let Some(shared) = current() else { return };
    if shared.finished() {
        return;
    }
    if shared.failure().is_some() {
        // If the master is lost, this rank may be the one to print it.
        let mut patience = 40;
        while !shared.reported.load(Ordering::Acquire) && patience > 0 {
            std::thread::sleep(Duration::from_millis(100));
            patience -= 1;
        }
    } else {
        shared.tell(ToMaster::Left { code });
        shared.verdict(JUDGEMENT);
    }
    if let Some(blame) = shared.failure()
        && code == Some(0)
    {
        // A failed job must not look like a success to a launcher that sees only exit codes.
        // SAFETY: a null pointer means all streams; no memory of ours is touched.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        end_process(blame.code);
    }
}

#[cfg(target_env = "gnu")]
fn at_exit() {
    unsafe extern "C" {
        fn on_exit(
            function: extern "C" fn(libc::c_int, *mut libc::c_void),
            argument: *mut libc::c_void,
        ) -> libc::c_int;
    }
    extern "C" fn ended(code: libc::c_int, _: *mut libc::c_void) {
        at_end(Some(code));
    }
    // SAFETY: glibc's on_exit as its manual declares it; the function lives as long as the program.
    unsafe { on_exit(ended, std::ptr::null_mut()) };
}

#[cfg(not(target_env = "gnu"))]
fn at_exit() {
    extern "C" fn ended() {
        at_end(None);
    }
    // SAFETY: the function lives as long as the program.
    unsafe { libc::atexit(ended) };
}

fn catch(signal: i32) -> std::io::Result<()> {
    // SAFETY: sigaction reads and writes only these two structures, which are zeroed to begin with (a valid value:
    // default handler, no flags, empty mask).
    unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut present) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        if present.sa_sigaction != libc::SIG_DFL {
            return Ok(());
        }
        let mut wanted: libc::sigaction = std::mem::zeroed();
        wanted.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        wanted.sa_flags = libc::SA_RESTART;
        if libc::sigaction(signal, &wanted, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Only what is safe in a signal handler: an atomic load, `write`, `signal`, `raise`.
extern "C" fn on_signal(signal: libc::c_int) {
    let fd = SIGNAL_FD.load(Ordering::Acquire);
    // SAFETY: all calls are async-signal-safe; the byte lives on this stack; the descriptor's owner is leaked and so
    // open for ever; errno is put back.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let byte = signal as u8;
        if fd < 0 {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        } else {
            libc::write(fd, std::ptr::from_ref(&byte).cast(), 1);
        }
        *errno = saved;
    }
}
