//! [`Windowing`]: which windows a record is in, and when what is known of one is given.

use crate::error::{OpsError, Result};

/// An event's time (see the [module](super)).
pub type Time = i64;

/// From `start` on, before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// The first time in it.
    pub start: Time,
    /// The first time after it.
    pub end: Time,
}

/// When something is given that is not yet, or no longer, on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// After so many new records for its key.
    Count(u64),
    /// At most so many milliseconds, by this machine's clock, after its first new record. (Keys of one window, and all sessions, are given together.)
    Every(Time),
}

/// What is in a pane that is not the first of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accumulation {
    /// All that is known: it replaces the one before.
    #[default]
    Accumulating,
    /// What has come since the one before: they add up.
    Discarding,
}

/// The time of a pane itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stamp {
    /// The last time in the window.
    #[default]
    EndOfWindow,
    /// That of the earliest record in it, of those that were not behind the watermark; if all were, the last time in the window.
    Earliest,
    /// The same with the latest.
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `size == slide` is tumbling.
    Sliding {
        size: Time,
        slide: Time,
    },
    Sessions {
        gap: Time,
    },
    Global,
}

/// Which windows a record is in, when what is known of one is given, and when it is forgotten.
///
/// Each window is given when it is complete. Also early or late only if that is asked for; but if lateness is allowed, and nothing is said of late
/// records, each of them gives it anew.
///
/// ```
/// use aeolian_ops::windows::{When, Windowing};
/// // Ten seconds long, a new one every two, shown each 100 records; late records count for a minute.
/// let windowing = Windowing::sliding(10_000, 2_000)?.early(When::Count(100)).allowed_lateness(60_000);
/// # Ok::<(), aeolian_ops::OpsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windowing {
    pub(super) shape: Shape,
    pub(super) offset: Time,
    pub(super) lateness: Time,
    pub(super) early: Option<When>,
    pub(super) late: When,
    pub(super) accumulation: Accumulation,
    pub(super) stamp: Stamp,
}

fn positive(what: &str, value: Time) -> Result<()> {
    match value {
        1.. => Ok(()),
        _ => Err(OpsError::Plan(format!("a window's {what} is at least 1, not {value}"))),
    }
}

impl Windowing {
    fn of(shape: Shape) -> Windowing {
        Windowing {
            shape,
            offset: 0,
            lateness: 0,
            early: None,
            late: When::Count(1),
            accumulation: Accumulation::Accumulating,
            stamp: Stamp::EndOfWindow,
        }
    }

    /// One after another, each so long.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if that is not at least 1.
    pub fn tumbling(size: Time) -> Result<Windowing> {
        Windowing::sliding(size, size)
    }

    /// Each `size` long, a new one every `slide`: a record is in about `size / slide` (in none, if it falls between two that are apart).
    ///
    /// # Errors
    /// [`OpsError::Plan`] if one is not at least 1.
    pub fn sliding(size: Time, slide: Time) -> Result<Windowing> {
        positive("size", size)?;
        positive("slide", slide)?;
        Ok(Windowing::of(Shape::Sliding { size, slide }))
    }

    /// For each key, from a record until nothing has come for `gap`.
    ///
    /// # Errors
    /// [`OpsError::Plan`] if that is not at least 1.
    pub fn sessions(gap: Time) -> Result<Windowing> {
        positive("gap", gap)?;
        Ok(Windowing::of(Shape::Sessions { gap }))
    }

    /// One for all times: with [`Windowing::early`] and [`Windowing::discarding`] these are windows by count, whose rest is given at the end.
    pub fn global() -> Windowing {
        Windowing::of(Shape::Global)
    }

    /// Windows begin so much after the multiples of `size` (or `slide`).
    pub fn offset(self, offset: Time) -> Windowing {
        Windowing { offset, ..self }
    }

    /// How long after their ends, in event time, records still count.
    pub fn allowed_lateness(self, lateness: Time) -> Windowing {
        Windowing { lateness, ..self }
    }

    /// Given also before the end.
    pub fn early(self, when: When) -> Windowing {
        Windowing { early: Some(when), ..self }
    }

    /// When late records give a window anew: by default each does.
    pub fn late(self, when: When) -> Windowing {
        Windowing { late: when, ..self }
    }

    /// Each pane has what has come since the one before.
    pub fn discarding(self) -> Windowing {
        Windowing { accumulation: Accumulation::Discarding, ..self }
    }

    /// The time of panes.
    pub fn stamp(self, stamp: Stamp) -> Windowing {
        Windowing { stamp, ..self }
    }

    pub(super) fn is_of_sessions(&self) -> bool {
        matches!(self.shape, Shape::Sessions { .. })
    }

    /// Whether all this can be.
    pub(super) fn check(&self) -> Result<()> {
        if self.lateness < 0 {
            return Err(OpsError::Plan(format!("an allowed lateness is not negative: {}", self.lateness)));
        }
        for when in self.early.iter().chain([&self.late]) {
            if matches!(when, When::Count(0) | When::Every(..1)) {
                return Err(OpsError::Plan(format!("a trigger waits for at least 1: {when:?}")));
            }
        }
        Ok(())
    }

    /// The windows that a time is in, the earliest first, if they are aligned.
    #[inline]
    pub(super) fn windows_of(&self, time: Time) -> impl Iterator<Item = Window> + use<> {
        let (size, slide) = match self.shape {
            Shape::Sliding { size, slide } => (size, slide),
            _ => (0, 1),
        };
        let global = (size == 0).then_some(Window { start: Time::MIN, end: Time::MAX });
        // The last one that has begun, and how many before it have not ended.
        let since = (i128::from(time) - i128::from(self.offset)).rem_euclid(i128::from(slide));
        let before =
            if size == 0 { -1 } else { (i128::from(size) - 1 - since).div_euclid(i128::from(slide)) };
        let last = i128::from(time) - since;
        let aligned = (0..=before).rev().map(move |n| {
            let start = last - n * i128::from(slide);
            Window { start: clamped(start), end: clamped(start + i128::from(size)) }
        });
        global.into_iter().chain(aligned)
    }

    /// When a window is forgotten. (One that ends with time itself is, when that does.)
    #[inline]
    pub(super) fn forgotten_at(&self, window: Window) -> Time {
        window.end.saturating_add(self.lateness)
    }

    /// The time of a pane of records with these times.
    pub(super) fn stamp_of(&self, window: Window, times: Option<(Time, Time)>) -> Time {
        let last = window.end.saturating_sub(1);
        match (self.stamp, times) {
            (Stamp::EndOfWindow, _) | (_, None) => last,
            (Stamp::Earliest, Some((earliest, _))) => earliest,
            (Stamp::Latest, Some((_, latest))) => latest,
        }
    }
}

/// Windows at the ends of time are cut off there.
fn clamped(time: i128) -> Time {
    time.clamp(Time::MIN.into(), Time::MAX.into()) as Time
}
