//! Windows: what of a stream without an end is counted together.
//!
//! A [`Windowing`] says which windows a record is in, by its time, and when what is known of one is given. [`Windows`] keeps what is known, for each key.
//! It is a state machine without clocks, threads or wires: records, watermarks and times of a clock come in, [`Pane`]s come out.
//!
//! # Time
//!
//! Times ([`Time`]) are whole numbers: milliseconds since the Unix epoch where they are calendar times, or whatever all sources count in. They may be
//! negative, and as far away as they like. (`Time::MAX` is the end of time, when all is complete: a record of then counts as one of just before.) Windows are aligned to 0 (plus an offset), not to the first record.
//!
//! A *watermark* `w` says that no record with a time before `w` is expected any more. A window `[start, end)` is complete when the watermark is `end` or
//! later: then it is given *on time*. Records that come for it after that are *late*; they count until the watermark is `end` plus the allowed lateness,
//! when the window is forgotten. What comes later still is given back, to be counted or looked at, not lost in silence.
//!
//! (Flink's watermark `t` also rules out records of `t` itself: ours is its plus one. Beam's and timely's are as ours.)
//!
//! # What is as where
//!
//! Windows, panes and their numbers are those of the Dataflow model (Akidau and others, VLDB 2015), and so of Apache Beam: its published
//! transcripts of triggers are a test of this module. As in Flink, a late record may join a session that is still known even if a session of its own
//! would be forgotten already. As in Beam, a session ends if for a whole `gap` there was nothing: `[0, 10)` and `[10, 20)` are two.

mod aggregate;
mod aligned;
mod counted;
mod pane;
mod sessions;
mod spec;

pub use aggregate::{Aggregate, Count, Fold, List, Reduced, fold, reduced};
pub use counted::CountWindows;
pub use pane::{Pane, Timing};
pub use spec::{Accumulation, Stamp, Time, When, Window, Windowing};

use crate::error::Result;
use crate::key::Key;
use aligned::Aligned;
use sessions::Sessions;

/// What is known of the windows that are not forgotten yet, for each key.
///
/// ```
/// use aeolian_ops::windows::{Count, Timing, Windowing, Windows};
/// // Flights an hour of each airport, by the minute of the day.
/// let mut flights = Windows::new(Windowing::tumbling(60)?, Count)?;
/// let mut told = Vec::new();
/// for (minute, airport) in [(5, "JFK"), (59, "JFK"), (61, "LGA"), (7, "JFK")] {
///     flights.insert(airport.to_string(), minute, (), &mut |_| {}).unwrap();
/// }
/// flights.advance(60, &mut |pane| told.push((pane.key.clone(), pane.window.start, pane.value)));
/// assert_eq!(told, [("JFK".to_string(), 0, 3)]);
/// // Without allowed lateness, what comes after that comes back.
/// assert_eq!(flights.insert("JFK".into(), 30, (), &mut |_| {}), Err(("JFK".to_string(), ())));
/// # Ok::<(), aeolian_ops::OpsError>(())
/// ```
pub struct Windows<K, V, A: Aggregate<V>> {
    known: Known<K, V, A>,
    dropped: u64,
}

enum Known<K, V, A: Aggregate<V>> {
    Aligned(Aligned<K, V, A>),
    Sessions(Sessions<K, V, A>),
}

impl<K: Key + Clone, V, A: Aggregate<V>> Windows<K, V, A> {
    /// No windows yet; the watermark is as early as can be.
    ///
    /// # Errors
    /// [`OpsError::Plan`](crate::OpsError::Plan) if `windowing` asks for what cannot be.
    pub fn new(windowing: Windowing, aggregate: A) -> Result<Windows<K, V, A>> {
        windowing.check()?;
        let known = match windowing.is_of_sessions() {
            true => Known::Sessions(Sessions::new(windowing, aggregate)),
            false => Known::Aligned(Aligned::new(windowing, aggregate)),
        };
        Ok(Windows { known, dropped: 0 })
    }

    /// A record of a time. What that makes ready (early and late panes) goes to `emit`.
    ///
    /// # Errors
    /// The record, if all its windows are forgotten.
    #[inline]
    pub fn insert(
        &mut self,
        key: K,
        time: Time,
        value: V,
        emit: &mut impl FnMut(Pane<'_, K, A::Out>),
    ) -> Result<(), (K, V)> {
        let time = time.min(Time::MAX - 1);
        let done = match &mut self.known {
            Known::Aligned(known) => known.insert(key, time, value, emit),
            Known::Sessions(known) => known.insert(key, time, value, emit),
        };
        self.dropped += u64::from(done.is_err());
        done
    }

    /// The watermark is this now; one that is earlier than the last changes nothing. Windows that are complete go to `emit`, by their ends, and keys of
    /// one window in any order.
    pub fn advance(&mut self, watermark: Time, emit: &mut impl FnMut(Pane<'_, K, A::Out>)) {
        match &mut self.known {
            Known::Aligned(known) => known.advance(watermark, emit),
            Known::Sessions(known) => known.advance(watermark, emit),
        }
    }

    /// The clock of this machine shows this now, in milliseconds: for [`When::Every`].
    pub fn tick(&mut self, now: Time, emit: &mut impl FnMut(Pane<'_, K, A::Out>)) {
        match &mut self.known {
            Known::Aligned(known) => known.tick(now, emit),
            Known::Sessions(known) => known.tick(now, emit),
        }
    }

    /// When [`Windows::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<Time> {
        match &self.known {
            Known::Aligned(known) => known.next_tick(),
            Known::Sessions(known) => known.next_tick(),
        }
    }

    /// The last watermark.
    pub fn watermark(&self) -> Time {
        match &self.known {
            Known::Aligned(known) => known.watermark(),
            Known::Sessions(known) => known.watermark(),
        }
    }

    /// How many windows of keys are known.
    pub fn len(&self) -> usize {
        match &self.known {
            Known::Aligned(known) => known.len(),
            Known::Sessions(known) => known.len(),
        }
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many records came when all their windows were forgotten.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}
