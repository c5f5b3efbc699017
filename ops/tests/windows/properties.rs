//! What holds for any records and watermarks: out of order, twice, late, negative, at the ends of time.

use aeolian_ops::windows::{List, Pane, Time, Timing, When, Window, Windowing, Windows};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    /// A record of a key.
    Record(u8, Time),
    Watermark(Time),
    Clock(Time),
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        40 => -60..60i64,
        2 => Just(Time::MIN),
        2 => Just(Time::MAX),
        1 => any::<i64>(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..3u8, time()).prop_map(|(key, time)| Step::Record(key, time)),
        3 => (-60..80i64).prop_map(Step::Watermark),
        1 => (0..500i64).prop_map(Step::Clock),
    ];
    prop::collection::vec(step, 0..120)
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![(1..5u64).prop_map(When::Count), (1..100i64).prop_map(When::Every)]
}

/// How windows lie, for the oracle.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Sliding(Time, Time, Time),
    Sessions(Time),
    Global,
}

fn windowings() -> impl Strategy<Value = (Shape, Time, bool, Windowing)> {
    let shape = prop_oneof![
        (1..40i64, 1..20i64, -9..9i64).prop_map(|(size, slide, offset)| Shape::Sliding(size, slide, offset)),
        (1..30i64, -9..9i64).prop_map(|(size, offset)| Shape::Sliding(size, size, offset)),
        (1..25i64).prop_map(Shape::Sessions),
        Just(Shape::Global),
    ];
    let lateness = prop_oneof![Just(0), 1..50i64, Just(Time::MAX)];
    (shape, lateness, any::<bool>(), prop::option::of(when()), when()).prop_map(
        |(shape, lateness, discarding, early, late)| {
            let windowing = match shape {
                Shape::Sliding(size, slide, offset) => {
                    Windowing::sliding(size, slide).unwrap().offset(offset)
                }
                Shape::Sessions(gap) => Windowing::sessions(gap).unwrap(),
                Shape::Global => Windowing::global(),
            };
            let windowing = windowing.allowed_lateness(lateness).late(late);
            let windowing = if discarding { windowing.discarding() } else { windowing };
            let windowing = early.map_or(windowing, |early| windowing.early(early));
            (shape, lateness, discarding, windowing)
        },
    )
}

/// The windows that a time is in, of those that are aligned: each start is tried that may be one.
fn windows_of(shape: Shape, time: Time) -> Vec<Window> {
    let cut = |time: i128| time.clamp(Time::MIN.into(), Time::MAX.into()) as Time;
    match shape {
        Shape::Global => vec![Window { start: Time::MIN, end: Time::MAX }],
        Shape::Sessions(_) => unreachable!(),
        Shape::Sliding(size, slide, offset) => {
            let (time, size) = (i128::from(time), i128::from(size));
            (time - size + 1..=time)
                .filter(|start| (start - i128::from(offset)).rem_euclid(slide.into()) == 0)
                .map(|start| Window { start: cut(start), end: cut(start + size) })
                .collect()
        }
    }
}

/// A pane, and the numbers of its records.
#[derive(Debug, Clone, PartialEq)]
struct Given {
    values: Vec<usize>,
    timing: Timing,
    index: u32,
    settled_index: u32,
    is_last: bool,
    step: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_where_it_belongs(
        steps in steps(),
        (shape, lateness, discarding, windowing) in windowings(),
    ) {
        let mut windows = Windows::new(windowing, List).unwrap();
        // Windows that are complete at a step, which have been told by then.
        let mut complete: Vec<((u8, Window), usize)> = Vec::new();
        let step_now = Cell::new(0);
        // By key and window, in order.
        let mut panes: BTreeMap<(u8, Window), Vec<Given>> = BTreeMap::new();
        let mut emit = |pane: Pane<'_, u8, Vec<usize>>| {
            let mut values = pane.value;
            values.sort_unstable();
            let (timing, index) = (pane.timing, pane.index);
            let (settled_index, is_last) = (pane.settled_index, pane.is_last);
            let given = Given { values, timing, index, settled_index, is_last, step: step_now.get() };
            panes.entry((*pane.key, pane.window)).or_default().push(given);
        };
        // What the oracle knows: the records that count, with their numbers.
        let mut counted: Vec<(u8, Time, usize)> = Vec::new();
        let (mut watermark, mut dropped) = (Time::MIN, 0);
        let mut known: Vec<(u8, Window)> = Vec::new();
        let mut kept: BTreeMap<(u8, Window), Vec<usize>> = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Step::Watermark(to) => {
                    watermark = watermark.max(to);
                    known.retain(|(_, session)| session.end.saturating_add(lateness) > watermark);
                    step_now.set(number);
                    windows.advance(to, &mut emit);
                    prop_assert_eq!(windows.watermark(), watermark);
                    // What is forgotten is gone, and what is complete has been told.
                    let there: Vec<(u8, Window)> = match shape {
                        Shape::Sessions(_) => known.clone(),
                        _ => kept.keys().copied().filter(|(_, w)| w.end.saturating_add(lateness) > watermark).collect(),
                    };
                    prop_assert_eq!(windows.len(), there.len());
                    complete.extend(there.into_iter().filter(|(_, w)| w.end <= watermark).map(|which| (which, number)));
                }
                Step::Clock(now) => windows.tick(now, &mut emit),
                Step::Record(key, time) => {
                    let took = windows.insert(key, time, number, &mut emit).is_ok();
                    let time = time.min(Time::MAX - 1);
                    let is_known = |window: &Window| window.end.saturating_add(lateness) > watermark;
                    let ought = match shape {
                        Shape::Sessions(gap) => {
                            let mut own = Window { start: time, end: time.saturating_add(gap) };
                            let (met, rest) = known.iter().partition::<Vec<(u8, Window)>, _>(|(k, s)| {
                                *k == key && s.start < own.end && own.start < s.end
                            });
                            let ought = !met.is_empty() || is_known(&own);
                            if ought {
                                for (_, session) in met {
                                    own.start = own.start.min(session.start);
                                    own.end = own.end.max(session.end);
                                }
                                known = rest;
                                known.push((key, own));
                            }
                            ought
                        }
                        _ => {
                            let all = windows_of(shape, time);
                            let known: Vec<_> = all.iter().copied().filter(is_known).collect();
                            for window in &known {
                                kept.entry((key, *window)).or_default().push(number);
                            }
                            all.is_empty() || !known.is_empty()
                        }
                    };
                    prop_assert_eq!(took, ought, "{:?} at watermark {}", step, watermark);
                    dropped += u64::from(!took);
                    if took {
                        counted.push((key, time, number));
                    }
                }
            }
        }
        prop_assert_eq!(windows.dropped(), dropped);
        step_now.set(steps.len());
        windows.advance(Time::MAX, &mut emit);
        prop_assert!(windows.is_empty(), "all are forgotten at the end of time");
        prop_assert_eq!(windows.next_tick().is_some() && !matches!(shape, Shape::Sessions(_)), false);

        for (which, step) in complete {
            let told = panes.get(&which).is_some_and(|p| p.iter().any(|p| p.timing != Timing::Early && p.step <= step));
            // (Late records that wait for others.)
            let began_late = panes.get(&which).is_none_or(|p| p.iter().all(|p| p.timing == Timing::Late));
            prop_assert!(told || began_late, "{:?} was complete at step {}: {:?}", which, step, panes.get(&which));
        }
        for ((key, window), panes) in &panes {
            for (at, pane) in panes.iter().enumerate() {
                let before = &panes[..at];
                prop_assert_eq!(pane.index as usize, at, "{} {:?}: {:?}", key, window, panes);
                let settled = before.iter().filter(|p| p.timing != Timing::Early).count();
                prop_assert_eq!(pane.settled_index as usize, settled);
                prop_assert!(before.iter().all(|p| p.timing <= pane.timing && !p.is_last), "{:?}", panes);
            }
            let on_time = panes.iter().filter(|p| p.timing == Timing::OnTime).count();
            prop_assert!(on_time <= 1, "{:?}", panes);
        }
        if let Shape::Sessions(gap) = shape {
            // Each record is in the last pane of a session; those of sessions that grew are replaced.
            for key in 0..3 {
                let of_key = counted.iter().filter(|c| c.0 == key);
                for &(_, time, number) in of_key {
                    let home = panes.iter().filter(|((k, w), given)| {
                        *k == key && w.start <= time && time < w.end
                            && given.iter().any(|pane| pane.values.contains(&number))
                    });
                    prop_assert!(home.count() > 0, "record {} at {}: {:?}", number, time, panes);
                }
                // Where nothing is forgotten before the end, they are what they are on paper.
                if lateness == Time::MAX && !discarding {
                    for session in sessions(&counted, key, gap) {
                        let inside = |c: &&(u8, Time, usize)| {
                            c.0 == key && session.start <= c.1 && c.1 < session.end
                        };
                        let want: Vec<usize> = counted.iter().filter(inside).map(|c| c.2).collect();
                        let last = panes.get(&(key, session)).and_then(|p| p.last());
                        prop_assert_eq!(last.map(|p| &p.values), Some(&want), "{:?}", session);
                    }
                }
            }
        } else {
            prop_assert_eq!(panes.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
            for (which, want) in &kept {
                let given = &panes[which];
                let mut got = match discarding {
                    true => given.iter().flat_map(|pane| pane.values.clone()).collect(),
                    false => given.last().unwrap().values.clone(),
                };
                got.sort_unstable();
                prop_assert_eq!(&got, want, "{:?}: {:?}", which, given);
                prop_assert!(given.iter().filter(|p| p.is_last).count() <= 1);
            }
        }
    }
}

/// The sessions of a key's records.
fn sessions(counted: &[(u8, Time, usize)], key: u8, gap: Time) -> Vec<Window> {
    let mut times: Vec<Time> = counted.iter().filter(|c| c.0 == key).map(|c| c.1).collect();
    times.sort_unstable();
    let mut all: Vec<Window> = Vec::new();
    for time in times {
        let end = time.saturating_add(gap);
        match all.last_mut() {
            Some(last) if time < last.end => last.end = last.end.max(end),
            _ => all.push(Window { start: time, end }),
        }
    }
    all
}
