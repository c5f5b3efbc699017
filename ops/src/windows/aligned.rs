//! [`Aligned`]: windows whose places do not depend on what is in them.

use super::aggregate::Aggregate;
use super::pane::{Pane, State, Timing};
use super::spec::{Time, When, Window, Windowing};
use crate::key::Key;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::marker::PhantomData;

/// Window by window, since that is how they are given and forgotten; and records of one time meet the same one again and again.
pub(super) struct Aligned<K, V, A: Aggregate<V>> {
    windowing: Windowing,
    aggregate: A,
    watermark: Time,
    /// What the clock showed last.
    now: Time,
    /// By their ends, then by their beginnings.
    open: VecDeque<Open<K, A::Acc>>,
    /// Where the last record was.
    last: usize,
    values: PhantomData<fn(V)>,
}

struct Open<K, Acc> {
    window: Window,
    /// When keys that wait for a time of the clock are given.
    due: Option<Time>,
    keys: HashTable<(K, State<Acc>)>,
}

const SEED: u64 = 0x5717_d0e5;

impl<K: Key + Clone, V, A: Aggregate<V>> Aligned<K, V, A> {
    pub(super) fn new(windowing: Windowing, aggregate: A) -> Aligned<K, V, A> {
        let (watermark, now) = (Time::MIN, Time::MIN);
        Aligned { windowing, aggregate, watermark, now, open: VecDeque::new(), last: 0, values: PhantomData }
    }

    pub(super) fn watermark(&self) -> Time {
        self.watermark
    }

    pub(super) fn len(&self) -> usize {
        self.open.iter().map(|open| open.keys.len()).sum()
    }

    #[inline]
    pub(super) fn insert(
        &mut self,
        key: K,
        time: Time,
        value: V,
        emit: &mut impl FnMut(Pane<'_, K, A::Out>),
    ) -> Result<(), (K, V)> {
        let hash = key.hash(SEED);
        let windows = self.windowing.windows_of(time).filter(|window| !self.is_forgotten(*window));
        let windows: SmallVec<[Window; 1]> = windows.collect();
        // (A time between windows that are apart is in none, and not late.)
        if windows.is_empty() && self.windowing.windows_of(time).next().is_some() {
            return Err((key, value));
        }
        for window in windows {
            self.insert_into(window, hash, &key, time, &value, emit);
        }
        Ok(())
    }

    fn is_forgotten(&self, window: Window) -> bool {
        self.windowing.forgotten_at(window) <= self.watermark
    }

    #[inline]
    fn insert_into(
        &mut self,
        window: Window,
        hash: u64,
        key: &K,
        time: Time,
        value: &V,
        emit: &mut impl FnMut(Pane<'_, K, A::Out>),
    ) {
        let at = self.place_of(window);
        let open = &mut self.open[at];
        let is_settled = window.end <= self.watermark;
        let (key, state) = open
            .keys
            .entry(hash, |(k, _)| k.same(key), |(k, _)| k.hash(SEED))
            .or_insert_with(|| (key.clone(), State::new(is_settled)))
            .into_mut();
        state.add(&self.aggregate, time, value, self.watermark);
        match state.trigger(&self.windowing) {
            None => {}
            Some(When::Count(_)) if state.is_ready(&self.windowing) => {
                emit(state.give(&self.windowing, &self.aggregate, key, window, state.timing(), false));
            }
            Some(When::Count(_)) => {}
            Some(When::Every(wait)) => {
                open.due.get_or_insert(self.now.saturating_add(wait));
            }
        }
    }

    /// Where a window is in `open`.
    #[inline]
    fn place_of(&mut self, window: Window) -> usize {
        if self.open.get(self.last).is_none_or(|open| open.window != window) {
            let place = self
                .open
                .binary_search_by_key(&(window.end, window.start), |o| (o.window.end, o.window.start));
            self.last = place.unwrap_or_else(|at| {
                self.open.insert(at, Open { window, due: None, keys: HashTable::new() });
                at
            });
        }
        self.last
    }

    pub(super) fn advance(&mut self, watermark: Time, emit: &mut impl FnMut(Pane<'_, K, A::Out>)) {
        if watermark <= self.watermark {
            return;
        }
        let begin = self.open.partition_point(|open| open.window.end <= self.watermark);
        self.watermark = watermark;
        let (windowing, aggregate) = (&self.windowing, &self.aggregate);
        for open in self.open.range_mut(begin..).take_while(|open| open.window.end <= watermark) {
            let is_last = windowing.forgotten_at(open.window) <= watermark;
            for (key, state) in open.keys.iter_mut() {
                state.is_settled = true;
                emit(state.give(windowing, aggregate, key, open.window, Timing::OnTime, is_last));
            }
            open.due = None;
        }
        while let Some(open) = self.open.front_mut()
            && windowing.forgotten_at(open.window) <= watermark
        {
            for (key, state) in open.keys.iter_mut().filter(|(_, state)| state.is_waiting()) {
                emit(state.give(windowing, aggregate, key, open.window, Timing::Late, true));
            }
            self.open.pop_front();
            self.last = self.last.wrapping_sub(1);
        }
    }

    pub(super) fn tick(&mut self, now: Time, emit: &mut impl FnMut(Pane<'_, K, A::Out>)) {
        self.now = now;
        let (windowing, aggregate) = (&self.windowing, &self.aggregate);
        for open in self.open.iter_mut().filter(|open| open.due.is_some_and(|due| due <= now)) {
            open.due = None;
            for (key, state) in open.keys.iter_mut().filter(|(_, state)| state.is_waiting()) {
                emit(state.give(windowing, aggregate, key, open.window, state.timing(), false));
            }
        }
    }

    pub(super) fn next_tick(&self) -> Option<Time> {
        self.open.iter().filter_map(|open| open.due).min()
    }
}
