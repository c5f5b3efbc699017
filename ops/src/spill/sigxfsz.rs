//! SIGXFSZ: a write beyond the limit on the size of files (`ulimit -f`) is to fail, and not to end the process without a word.

use std::sync::Once;

/// From now on such a write fails with `EFBIG`. Does it once, and only if the program and its launcher have left the signal at its default.
///
/// It is caught by a handler that does nothing, not ignored: programs that this process starts have the default again.
pub(super) fn survive() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero actions are valid, and the handler does nothing.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &mut now) != 0
                || now.sa_sigaction != libc::SIG_DFL
            {
                return;
            }
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGXFSZ, &action, std::ptr::null_mut());
        }
    });
}

extern "C" fn nothing(_: libc::c_int) {}
