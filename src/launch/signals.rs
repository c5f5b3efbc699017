//! Signals that the launcher gets, as values on a channel.

use super::error::{LaunchError, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// Calls `got` with each signal that is for the job, from a thread of its own. A signal that whoever started us
/// ignores (`nohup`, a shell's background job) stays ignored.
pub(crate) fn listen(got: impl Fn(i32) + Send + 'static) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1, SIGUSR2];
    let wanted = wanted.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(wanted).map_err(LaunchError::os("listening for signals"))?;
    let wait = move || signals.forever().for_each(got);
    std::thread::Builder::new()
        .name("signals".into())
        .stack_size(128 << 10)
        .spawn(wait)
        .map(drop)
        .map_err(LaunchError::os("starting the thread `signals`"))
}

/// The mask of ignored signals in the text of `/proc/self/status` (bit 0 is signal 1).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// What a person calls a signal: `SIGKILL`, or `signal 40`.
pub(crate) fn name(signal: i32) -> String {
    signal_hook::low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000000001\n") & 1, 1);
        assert_eq!(ignored("nothing of the kind"), 0);
    }
}
