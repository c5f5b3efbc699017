//! [`Sessions`]: windows of each key, which end where nothing came for a while.

use super::aggregate::Aggregate;
use super::pane::{Pane, State, Timing};
use super::spec::{Shape, Time, When, Window, Windowing};
use crate::key::Key;
use hashbrown::HashTable;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::marker::PhantomData;

pub(super) struct Sessions<K, V, A: Aggregate<V>> {
    windowing: Windowing,
    gap: Time,
    aggregate: A,
    watermark: Time,
    now: Time,
    due: Option<Time>,
    keys: HashTable<(K, Vec<Session<A::Acc>>)>,
    timers: Timers<K>,
    values: PhantomData<fn(V)>,
}

struct Session<Acc> {
    window: Window,
    state: State<Acc>,
    /// When its key is looked at. (Not set anew for each record: if it is too early then, it is set again.)
    timer: Time,
}

/// The watermark at which a key is looked at; of the same, in the order in which they were set.
struct Timer<K> {
    at: Time,
    number: u64,
    key: K,
}

struct Timers<K> {
    heap: BinaryHeap<Reverse<Timer<K>>>,
    /// How many were set.
    set: u64,
}

impl<K: Clone> Timers<K> {
    fn set(&mut self, at: Time, key: &K) {
        self.set += 1;
        self.heap.push(Reverse(Timer { at, number: self.set, key: key.clone() }));
    }

    /// The next one that is no later than the watermark.
    fn next(&mut self, watermark: Time) -> Option<Timer<K>> {
        let is_due = self.heap.peek().is_some_and(|Reverse(timer)| timer.at <= watermark);
        if is_due { self.heap.pop().map(|Reverse(timer)| timer) } else { None }
    }
}

impl<K> PartialEq for Timer<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K> Eq for Timer<K> {}

impl<K> PartialOrd for Timer<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Timer<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

const SEED: u64 = 0x5e55_1075;

impl<K: Key + Clone, V, A: Aggregate<V>> Sessions<K, V, A> {
    pub(super) fn new(windowing: Windowing, aggregate: A) -> Sessions<K, V, A> {
        let gap = if let Shape::Sessions { gap } = windowing.shape { gap } else { 1 };
        Sessions {
            windowing,
            gap,
            aggregate,
            watermark: Time::MIN,
            now: Time::MIN,
            due: None,
            keys: HashTable::new(),
            timers: Timers { heap: BinaryHeap::new(), set: 0 },
            values: PhantomData,
        }
    }

    pub(super) fn watermark(&self) -> Time {
        self.watermark
    }

    pub(super) fn len(&self) -> usize {
        self.keys.iter().map(|(_, sessions)| sessions.len()).sum()
    }

    pub(super) fn insert(
        &mut self,
        key: K,
        time: Time,
        value: V,
        emit: &mut impl FnMut(Pane<'_, K, A::Out>),
    ) -> Result<(), (K, V)> {
        let own = Window { start: time, end: time.saturating_add(self.gap) };
        let hash = key.hash(SEED);
        let is_forgotten = self.windowing.forgotten_at(own) <= self.watermark;
        let meets = |s: &Session<A::Acc>| s.window.start < own.end && own.start < s.window.end;
        if is_forgotten {
            let known = self.keys.find(hash, |(k, _)| k.same(&key));
            if !known.is_some_and(|(_, sessions)| sessions.iter().any(meets)) {
                return Err((key, value));
            }
        }
        let (key, sessions) = self
            .keys
            .entry(hash, |(k, _)| k.same(&key), |(k, _)| k.hash(SEED))
            .or_insert_with(|| (key, Vec::new()))
            .into_mut();
        // In order of time, and none meets another: those that this one meets are in a row.
        let begin = sessions.partition_point(|s| s.window.end <= own.start);
        let count = sessions[begin..].iter().take_while(|s| s.window.start < own.end).count();
        if count == 0 {
            let state = State::new(own.end <= self.watermark);
            let at = if state.is_settled { self.windowing.forgotten_at(own) } else { own.end };
            sessions.insert(begin, Session { window: own, state, timer: at });
            self.timers.set(at, key);
        }
        let others: Vec<_> = sessions.drain(begin + 1..begin + count.max(1)).collect();
        let session = &mut sessions[begin];
        let mut window =
            Window { start: session.window.start.min(own.start), end: session.window.end.max(own.end) };
        for other in others {
            window.end = window.end.max(other.window.end);
            session.state.merge(&self.aggregate, other.state);
        }
        if window != session.window {
            session.window = window;
            session.state.renumber();
            session.state.is_settled = window.end <= self.watermark;
            // It was complete, and is not any more.
            if !session.state.is_settled && session.timer > window.end {
                session.timer = window.end;
                self.timers.set(window.end, key);
            }
        }
        session.state.add(&self.aggregate, time, &value, self.watermark);
        match session.state.trigger(&self.windowing) {
            Some(When::Count(_)) if session.state.is_ready(&self.windowing) => {
                let state = &mut session.state;
                emit(state.give(&self.windowing, &self.aggregate, key, window, state.timing(), false));
            }
            Some(When::Every(wait)) => {
                self.due.get_or_insert(self.now.saturating_add(wait));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn advance(&mut self, watermark: Time, emit: &mut impl FnMut(Pane<'_, K, A::Out>)) {
        self.watermark = self.watermark.max(watermark);
        while let Some(Timer { at, key, .. }) = self.timers.next(self.watermark) {
            let hash = key.hash(SEED);
            let Ok(mut entry) = self.keys.find_entry(hash, |(k, _)| k.same(&key)) else { continue };
            let sessions = &mut entry.get_mut().1;
            let mut next = Vec::new();
            sessions.retain_mut(|Session { window, state, timer }| {
                if *timer > at {
                    return true;
                }
                let forgotten = self.windowing.forgotten_at(*window);
                if !state.is_settled && window.end <= at {
                    state.is_settled = true;
                    let is_last = forgotten <= self.watermark;
                    let timing = Timing::OnTime;
                    emit(state.give(&self.windowing, &self.aggregate, &key, *window, timing, is_last));
                }
                if state.is_settled && forgotten <= at {
                    if state.is_waiting() {
                        emit(state.give(&self.windowing, &self.aggregate, &key, *window, Timing::Late, true));
                    }
                    return false;
                }
                *timer = if state.is_settled { forgotten } else { window.end };
                next.push(*timer);
                true
            });
            if sessions.is_empty() {
                entry.remove();
            }
            next.into_iter().for_each(|at| self.timers.set(at, &key));
        }
    }

    pub(super) fn tick(&mut self, now: Time, emit: &mut impl FnMut(Pane<'_, K, A::Out>)) {
        self.now = now;
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        for (key, sessions) in self.keys.iter_mut() {
            for Session { window, state, .. } in sessions.iter_mut() {
                if state.is_waiting() && matches!(state.trigger(&self.windowing), Some(When::Every(_))) {
                    emit(state.give(&self.windowing, &self.aggregate, key, *window, state.timing(), false));
                }
            }
        }
    }

    pub(super) fn next_tick(&self) -> Option<Time> {
        self.due
    }
}
