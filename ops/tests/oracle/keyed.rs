//! Operators that bring values of one key together.

use crate::trial::{Got, Log, Random, Trial, trials};
use aeolian_ops::{
    Distinct, Key, KeyedGather, KeyedGatherUngrouped, KeyedReduce, Order, Record, TopK, target_of,
};
use proptest::prelude::*;
use std::fmt::Debug;

/// How keys are spread over what sources insert.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Skew {
    /// All the same.
    One,
    /// Most the same.
    Most,
    /// Few.
    Few,
    /// Hardly any twice.
    Many,
}

pub(crate) fn skews() -> impl Strategy<Value = Skew> {
    prop::sample::select(vec![Skew::One, Skew::Most, Skew::Few, Skew::Many])
}

/// The number of the key of a record.
pub(crate) fn number(skew: Skew, source: u32, round: u32, place: usize) -> u64 {
    let mut random = Random(u64::from(source) << 40 ^ u64::from(round) << 32 ^ place as u64);
    match skew {
        Skew::One => 3,
        Skew::Most if random.below(20) > 0 => 3,
        Skew::Most | Skew::Few => random.below(6),
        Skew::Many => random.below(1 << 20),
    }
}

pub(crate) fn all_pairs<K>(
    trial: &Trial,
    round: u32,
    pair: impl Fn(u32, u32, usize) -> (K, u64),
) -> Vec<(u32, (K, u64))> {
    let of = |source| (0..trial.records_of(source, round)).map(move |place| (source, place));
    let all = (0..trial.sources.len() as u32).flat_map(of);
    all.map(|(source, place)| (source, pair(source, round, place))).collect()
}

/// Records of a round by target, each on its rank; that every target also got its barriers, before all else.
pub(crate) fn by_target<T: Record + Clone>(trial: &Trial, by_rank: &[Log<T>]) -> Vec<Vec<T>> {
    let mut all: Vec<Vec<T>> = vec![Vec::new(); trial.targets.len()];
    for (rank, log) in (0..).zip(by_rank) {
        let mut barriers = vec![0; trial.targets.len()];
        for (target, got) in log {
            let t = *target as usize;
            assert_eq!(trial.targets[t], rank, "{trial:?}");
            match got {
                Got::Record(record) => {
                    assert_eq!(barriers[t], trial.barriers, "{trial:?}");
                    all[t].push(record.clone());
                }
                Got::Barrier(marks) => {
                    assert_eq!(marks.len(), trial.sources.len(), "{trial:?}");
                    barriers[t] += 1;
                }
            }
        }
    }
    all
}

fn sums<K>(trial: &Trial, make: impl Fn(u64) -> K + Sync, skew: Skew)
where
    K: Key + Clone + Send + Debug,
{
    let pair = |s, r, p| (make(number(skew, s, r, p)), u64::from(s) + p as u64);
    let rounds =
        trial.run(|flow, plan, moody| KeyedReduce::new(flow, plan, |a: &mut u64, b| *a += b, moody), pair);
    for (round, by_rank) in (0..).zip(&rounds) {
        // By the order of keys alone, which is slow and plain.
        let mut pairs: Vec<(K, u64)> =
            all_pairs(trial, round, pair).into_iter().map(|(_, pair)| pair).collect();
        pairs.sort_by(|a, b| a.0.order(&b.0));
        let mut want: Vec<(K, u64)> = Vec::new();
        for (key, value) in pairs {
            match want.last_mut() {
                Some(last) if last.0.order(&key).is_eq() => last.1 += value,
                _ => want.push((key, value)),
            }
        }
        let mut got = Vec::new();
        for (target, pairs) in (0..).zip(by_target(trial, by_rank)) {
            for pair in pairs {
                assert_eq!(target_of(&pair.0, trial.targets.len() as u32), target, "{trial:?}: {pair:?}");
                got.push(pair);
            }
        }
        got.sort_by(|a, b| a.0.order(&b.0));
        assert_eq!(got.len(), want.len(), "{trial:?}: keys");
        for (got, want) in got.iter().zip(&want) {
            assert!(got.0.same(&want.0) && got.1 == want.1, "{trial:?}: {got:?}, not {want:?}");
        }
    }
}

fn distinct<K: Key + Clone + Send + Debug>(trial: &Trial, make: impl Fn(u64) -> K + Sync, skew: Skew) {
    let record = |s, r, p| make(number(skew, s, r, p));
    let rounds = trial.run(Distinct::new, record);
    for (round, by_rank) in (0..).zip(&rounds) {
        let all = all_pairs(trial, round, |s, r, p| (record(s, r, p), 0)).into_iter();
        let mut want: Vec<K> = all.map(|(_, (key, _))| key).collect();
        want.sort_by(K::order);
        want.dedup_by(|a, b| a.order(b).is_eq());
        let mut got = Vec::new();
        for (target, records) in (0..).zip(by_target(trial, by_rank)) {
            assert!(records.iter().all(|r| target_of(r, trial.targets.len() as u32) == target), "{trial:?}");
            got.extend(records);
        }
        got.sort_by(K::order);
        assert_eq!(got.len(), want.len(), "{trial:?}");
        assert!(got.iter().zip(&want).all(|(a, b)| a.same(b)), "{trial:?}: {got:?}, not {want:?}");
    }
}

/// A pair's source and place, in front of something long now and then.
pub(crate) fn value(source: u32, place: usize) -> (u32, u32, String) {
    (source, place as u32, "y".repeat(place * 77 % 300))
}

/// What a target should get: pairs by key, then by the rank of their source. (On one rank, sources take turns: what came of each in its
/// own order is checked apart.)
fn gathered<K: Key + Clone + Send + Debug>(trial: &Trial, make: impl Fn(u64) -> K + Sync, skew: Skew) {
    let pair = |s, r, p| (make(number(skew, s, r, p)), value(s, p));
    for order in [Order::Any, Order::ByKey] {
        let grouped = trial.run(|flow, plan, moody| KeyedGather::new(flow, plan, order, moody), pair);
        let ungrouped =
            trial.run(|flow, plan, moody| KeyedGatherUngrouped::new(flow, plan, order, moody), pair);
        for (round, (grouped, ungrouped)) in (0..).zip(grouped.iter().zip(&ungrouped)) {
            let mut want: Vec<_> = all_pairs(trial, round, |s, r, p| (make(number(skew, s, r, p)), p as u64))
                .into_iter()
                .map(|(source, (key, place))| (key, value(source, place as usize)))
                .collect();
            let rank = |value: &(u32, u32, String)| trial.sources[value.0 as usize];
            want.sort_by(|a, b| {
                a.0.order(&b.0).then((rank(&a.1), a.1.0, a.1.1).cmp(&(rank(&b.1), b.1.0, b.1.1)))
            });
            let mut from_groups = Vec::new();
            for groups in by_target(trial, grouped) {
                let (mut pairs, mut ended): (Vec<(K, _)>, bool) = (Vec::new(), true);
                for (key, values, is_last) in groups {
                    assert!(!values.is_empty(), "{trial:?}");
                    let continues = pairs.last().is_some_and(|last: &(K, _)| last.0.same(&key));
                    assert_eq!(continues, !ended, "{trial:?}: pieces of a group follow one another");
                    pairs.extend(values.into_iter().map(|value| (key.clone(), value)));
                    ended = is_last;
                }
                assert!(ended, "{trial:?}");
                from_groups.push(pairs);
            }
            for by_target in [from_groups, by_target(trial, ungrouped)] {
                let mut all = Vec::new();
                for (target, pairs) in (0..).zip(by_target) {
                    let mut seen: Vec<K> = Vec::new();
                    for (i, (key, value)) in pairs.iter().enumerate() {
                        assert_eq!(target_of(key, trial.targets.len() as u32), target, "{trial:?}: {key:?}");
                        let before = i.checked_sub(1).map(|before| &pairs[before]);
                        match before {
                            Some((before, other)) if before.same(key) => {
                                assert!(rank(other) <= rank(value), "{trial:?}: {key:?}");
                                assert!(other.0 != value.0 || other.1 < value.1, "{trial:?}: {key:?}");
                            }
                            Some((before, _)) if order == Order::ByKey => {
                                assert!(before.order(key).is_lt(), "{trial:?}: {before:?} {key:?}");
                            }
                            _ => {
                                assert!(!seen.iter().any(|k| k.same(key)), "{trial:?}: {key:?} again");
                                seen.push(key.clone());
                            }
                        }
                    }
                    all.extend(pairs);
                }
                all.sort_by(|a, b| {
                    a.0.order(&b.0).then((rank(&a.1), a.1.0, a.1.1).cmp(&(rank(&b.1), b.1.0, b.1.1)))
                });
                assert_eq!(all.len(), want.len(), "{trial:?}: pairs");
                for (got, want) in all.iter().zip(&want) {
                    assert!(got.0.same(&want.0) && got.1 == want.1, "{trial:?}: {got:?}, not {want:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn sums_by_number(trial in trials(), skew in skews()) {
        sums(&trial, |n| n, skew);
    }

    #[test]
    fn sums_by_text(trial in trials(), skew in skews()) {
        sums(&trial, |n| "x".repeat((n % 7) as usize) + &n.to_string(), skew);
    }

    #[test]
    fn sums_by_odd_floats(trial in trials(), skew in skews()) {
        let odd = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN];
        sums(&trial, |n| odd.get(n as usize).copied().unwrap_or(n as f64), skew);
    }

    #[test]
    fn distinct_records(trial in trials(), skew in skews()) {
        distinct(&trial, |n| "x".repeat((n % 7) as usize) + &n.to_string(), skew);
        distinct(&trial, |n| (n as u8, f32::from_bits(n as u32)), skew);
        distinct(&trial, |_| (), skew);
    }

    #[test]
    fn gathered_by_number(trial in trials(), skew in skews()) {
        gathered(&trial, |n| n, skew);
    }

    #[test]
    fn gathered_by_text(trial in trials(), skew in skews()) {
        gathered(&trial, |n| "x".repeat((n % 7) as usize) + &n.to_string(), skew);
    }

    #[test]
    fn gathered_by_odd_keys(trial in trials(), skew in skews()) {
        let odd = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN];
        gathered(&trial, |n| odd.get(n as usize).copied().unwrap_or(n as f64), skew);
        gathered(&trial, |_| (), skew);
        gathered(&trial, |n| (i64::MIN + n as i64 % 3, Some([n as u8]), Vec::<u16>::new()), skew);
    }

    #[test]
    fn top_k(mut trial in trials(), skew in skews(), k in prop::sample::select(vec![0usize, 1, 10, 1000])) {
        trial.targets.truncate(1);
        let record = |s, r, p| (number(skew, s, r, p), format!("{s} {p}"));
        let rounds = trial.run(|flow, plan, moody| TopK::new(flow, plan, k, moody), record);
        for (round, by_rank) in (0..).zip(&rounds) {
            let all = all_pairs(&trial, round, |s, r, p| (record(s, r, p), 0)).into_iter();
            let mut want: Vec<_> = all.map(|(_, (record, _))| record).collect();
            want.sort();
            want.reverse();
            want.truncate(k);
            prop_assert_eq!(&by_target(&trial, by_rank)[0], &want);
        }
    }

    #[test]
    fn sums_by_tuples_and_nothing(trial in trials(), skew in skews()) {
        sums(&trial, |n| (i64::MIN + n as i64 % 3, Some([n as u8]), Vec::<u16>::new()), skew);
        sums(&trial, |_| (), skew);
    }
}
