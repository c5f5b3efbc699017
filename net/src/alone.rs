//! Nobody watches over a world of one; but its user may ask it to stop.

use crate::control::is_default;
use crate::error::{Blame, Result};
use crate::supervisor::{OpName, Supervisor};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The supervisor of a world of one.
#[derive(Default)]
pub(crate) struct Alone {
    listens: AtomicBool,
    /// When the wait began that goes on.
    waits: Mutex<Option<Instant>>,
    told: AtomicBool,
}

/// After so long a wait somebody should know that no other rank will end it.
const LONG: Duration = Duration::from_secs(10);

/// What signals have said to this process. Once it has been asked, or listens no more, it is deaf: signals do what the
/// system does with them.
struct Signals {
    asked: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
}

impl Signals {
    fn of_this_process() -> &'static Signals {
        static SIGNALS: OnceLock<Signals> = OnceLock::new();
        SIGNALS.get_or_init(|| {
            let signals = Signals { asked: Arc::default(), deaf: Arc::default() };
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1].into_iter().filter(|s| is_default(*s))
            {
                // In this order: the first signal is a request, the next one ends the process. (Not a second SIGUSR1: it is a
                // scheduler's warning, and may come late.)
                let (asked, deaf) = (signals.asked.clone(), signals.deaf.clone());
                if signal != libc::SIGUSR1 {
                    let _ = signal_hook::flag::register_conditional_default(signal, deaf.clone());
                    let _ = signal_hook::flag::register(signal, deaf);
                }
                let _ = signal_hook::flag::register(signal, asked);
            }
            signals
        })
    }
}

impl Supervisor for Alone {
    fn enter(&self, _: &'static OpName, _: u64) {}
    fn leave(&self) {}
    fn waiting(&self, yes: bool) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = yes.then(Instant::now);
    }
    fn progressed(&self) {}
    /// Not an error: the program may wait for a file, a thread or a moment.
    fn blocked(&self) {
        let waits = *self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.is_some_and(|since| since.elapsed() >= LONG) && !self.told.swap(true, Ordering::Relaxed) {
            let text = format!(
                "aeolian: this process has waited for {} s in a world of one, where no other rank can send it anything\n",
                LONG.as_secs()
            );
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
    fn failure(&self) -> Option<Blame> {
        None
    }
    fn fail(&self, _: Blame) {}
    fn say_finished(&self) -> Result<()> {
        Ok(())
    }
    fn all_finished(&self) -> bool {
        true
    }
    /// The first call promises that this program listens; until then signals end it at once.
    fn stop_requested(&self) -> bool {
        let signals = Signals::of_this_process();
        let asked = signals.asked.load(Ordering::Acquire);
        if !self.listens.swap(true, Ordering::Relaxed) && !asked {
            signals.deaf.store(false, Ordering::Release);
        }
        asked
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if self.listens.load(Ordering::Relaxed) {
            Signals::of_this_process().deaf.store(true, Ordering::Release);
        }
    }
}
