//! How a rank waits: spin while a core is its own, then yield, then sleep.
//!
//! A hand-over between two spinning cores takes a tenth of a microsecond, waking a sleeping core twenty, and spinning on
//! a core that the awaited rank needs costs a time slice. So a rank that has a core to itself spins for about as long as
//! a wake-up would take; one that shares its core yields at once; both sleep in the end, so an idle rank costs nothing.

use std::time::Duration;

/// How long to do what before sleeping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitPolicy {
    spins: u32,
    yields: u32,
    polled: bool,
}

/// What to do in one round of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Look again at once.
    Spin,
    /// Let another thread have the core first.
    Yield,
    /// Sleep until something happens, at most so long.
    Sleep(Duration),
}

impl WaitPolicy {
    /// `ranks` of this node share `cores`; `polled`: some wire (MPI) cannot wake us.
    pub(crate) fn new(ranks: usize, cores: usize, polled: bool) -> WaitPolicy {
        if ranks > cores {
            WaitPolicy { spins: 4, yields: 200, polled }
        } else {
            WaitPolicy { spins: 2000, yields: 50, polled }
        }
    }

    /// Fruitless rounds before another thread should have the core.
    pub(crate) fn spins(&self) -> u32 {
        self.spins
    }

    /// What to do after `idle` fruitless rounds.
    pub(crate) fn step(&self, idle: u32) -> Step {
        if idle < self.spins {
            Step::Spin
        } else if idle < self.spins + self.yields {
            Step::Yield
        } else if self.polled {
            // MPI has no descriptor: short naps that grow to a millisecond (about 1 % of a core).
            let nap = 20u64 << ((idle - self.spins - self.yields) / 16).min(6);
            Step::Sleep(Duration::from_micros(nap.min(1000)))
        } else {
            Step::Sleep(Duration::from_secs(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_ends_in_sleep_and_shared_cores_hardly_spin() {
        for polled in [false, true] {
            let (own, shared) = (WaitPolicy::new(2, 2, polled), WaitPolicy::new(3, 2, polled));
            assert_eq!(own.step(0), Step::Spin);
            assert_eq!(shared.step(10), Step::Yield);
            for policy in [own, shared] {
                assert!(matches!(policy.step(5000), Step::Sleep(t) if t <= Duration::from_secs(1)));
            }
        }
    }
}
