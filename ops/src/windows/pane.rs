//! [`Pane`]: what is given of a window, and [`State`]: what is kept of it.

use super::aggregate::Aggregate;
use super::spec::{Accumulation, Time, When, Window, Windowing};

/// Whether a pane was given before, when or after its window was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timing {
    /// The watermark was not at its end.
    Early,
    /// The watermark came to its end. (Once for each window that had a record by then.)
    OnTime,
    /// After that.
    Late,
}

/// What is given of a window of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pane<'a, K, Out> {
    /// The key.
    pub key: &'a K,
    /// The window; of sessions, as far as they are known.
    pub window: Window,
    /// What the aggregate made.
    pub value: Out,
    /// Before, when or after the window was complete.
    pub timing: Timing,
    /// Which pane of its window, from 0 on.
    pub index: u32,
    /// Which of those that are not early; of early ones, which it would be.
    pub settled_index: u32,
    /// No other will come of this window.
    pub is_last: bool,
    /// The pane's own time, by [`Stamp`](super::Stamp).
    pub time: Time,
}

/// What is kept of a window of a key.
pub(super) struct State<Acc> {
    /// `None` if it has been given away, and nothing has come since.
    acc: Option<Acc>,
    /// Records since the last pane.
    new: u64,
    panes: u32,
    settled: u32,
    /// Earliest and latest of the records since the last pane that were not behind the watermark.
    times: Option<(Time, Time)>,
    /// The window is complete, and that is told.
    pub(super) is_settled: bool,
}

impl<Acc> State<Acc> {
    /// Of a window that is (or is not) complete before its first record.
    pub(super) fn new(is_settled: bool) -> State<Acc> {
        State { acc: None, new: 0, panes: 0, settled: 0, times: None, is_settled }
    }

    /// Whether it has records that were not given.
    pub(super) fn is_waiting(&self) -> bool {
        self.new > 0
    }

    #[inline]
    pub(super) fn add<V, A: Aggregate<V, Acc = Acc>>(
        &mut self,
        aggregate: &A,
        time: Time,
        value: &V,
        watermark: Time,
    ) {
        aggregate.add(self.acc.get_or_insert_with(|| aggregate.init()), value);
        self.new += 1;
        if time >= watermark {
            let (earliest, latest) = self.times.unwrap_or((time, time));
            self.times = Some((earliest.min(time), latest.max(time)));
        }
    }

    /// Two windows turn out to be one.
    pub(super) fn merge<V, A: Aggregate<V, Acc = Acc>>(&mut self, aggregate: &A, other: State<Acc>) {
        self.acc = match (self.acc.take(), other.acc) {
            (Some(mut acc), Some(other)) => {
                aggregate.merge(&mut acc, other);
                Some(acc)
            }
            (acc, other) => acc.or(other),
        };
        self.new += other.new;
        self.times = match (self.times, other.times) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }

    /// It is of another window now: its panes are numbered anew.
    pub(super) fn renumber(&mut self) {
        (self.panes, self.settled) = (0, 0);
    }

    /// Of a pane between its records: not the one that is on time.
    #[inline]
    pub(super) fn timing(&self) -> Timing {
        if self.is_settled { Timing::Late } else { Timing::Early }
    }

    /// The trigger that it waits for.
    #[inline]
    pub(super) fn trigger(&self, windowing: &Windowing) -> Option<When> {
        if self.is_settled { Some(windowing.late) } else { windowing.early }
    }

    /// Whether so many records are enough.
    #[inline]
    pub(super) fn is_ready(&self, windowing: &Windowing) -> bool {
        matches!(self.trigger(windowing), Some(When::Count(n)) if self.new >= n)
    }

    /// Gives what there is.
    pub(super) fn give<'k, K, V, A: Aggregate<V, Acc = Acc>>(
        &mut self,
        windowing: &Windowing,
        aggregate: &A,
        key: &'k K,
        window: Window,
        timing: Timing,
        is_last: bool,
    ) -> Pane<'k, K, A::Out> {
        let time = windowing.stamp_of(window, self.times);
        let acc = self.acc.get_or_insert_with(|| aggregate.init());
        let value = aggregate.finish(acc);
        let pane = Pane {
            key,
            window,
            value,
            timing,
            index: self.panes,
            settled_index: self.settled,
            is_last,
            time,
        };
        self.panes += 1;
        self.settled += u32::from(timing != Timing::Early);
        self.new = 0;
        self.times = None;
        if windowing.accumulation == Accumulation::Discarding {
            self.acc = None;
        }
        pane
    }
}
