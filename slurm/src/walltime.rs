//! How much time the job has left.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The end of the job's time limit. The wall clock is read once, when this is made; from then on the time left follows
/// the monotonic clock, so that a clock that is set during the job changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct WallTime {
    /// When this was made, and the time that was left then.
    made: Instant,
    left: Duration,
}

impl WallTime {
    /// From the second of the UNIX epoch at which the job ends (`SLURM_JOB_END_TIME`, see
    /// [`SlurmEnv::end_time`](crate::SlurmEnv::end_time)).
    pub fn ending_at(end: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(Instant::now(), now, end)
    }

    /// A job that ends in `left` from now (a limit that the user gave, for example).
    pub fn ending_in(left: Duration) -> Self {
        Self { made: Instant::now(), left }
    }

    fn at(made: Instant, now: Duration, end: u64) -> Self {
        Self { made, left: Duration::from_secs(end).saturating_sub(now) }
    }

    /// Time left; zero when it is over.
    pub fn left(&self) -> Duration {
        self.left_at(Instant::now())
    }

    fn left_at(&self, now: Instant) -> Duration {
        self.left.saturating_sub(now.saturating_duration_since(self.made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_down_to_zero() {
        let made = Instant::now();
        let t = WallTime::at(made, Duration::from_millis(1_000_500), 1010);
        let after = |ms| t.left_at(made + Duration::from_millis(ms));
        assert_eq!(after(0), Duration::from_millis(9500));
        assert_eq!(after(9000), Duration::from_millis(500));
        assert_eq!(after(20_000), Duration::ZERO);
        assert_eq!(WallTime::at(made, Duration::from_secs(1011), 1010).left_at(made), Duration::ZERO);
    }

    #[test]
    fn the_far_ends_of_time() {
        assert_eq!(WallTime::ending_at(0).left(), Duration::ZERO);
        assert!(WallTime::ending_at(u64::MAX).left() > Duration::from_secs(1 << 40));
        assert!(WallTime::ending_in(Duration::MAX).left() > Duration::from_secs(1 << 40));
    }
}
