//! Operators that bring records to targets as they are.

use crate::keyed::by_target;
use crate::trial::{Got, Log, Random, Trial, trials};
use aeolian_ops::{
    AllGather, Broadcast, ByHash, ByKey, Direct, Gather, KeyedPartition, Partition, Record, RoundRobin,
    Selector, Union, ZipWithIndex, target_of,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Records of many lengths, among them empty ones and some longer than a batch.
fn text(source: u32, round: u32, place: usize) -> String {
    let mut random = Random(u64::from(source) << 40 ^ u64::from(round) << 20 ^ place as u64);
    let len = if random.below(50) == 0 { random.below(3000) } else { random.below(12) };
    (0..len).map(|_| char::from(b'a' + random.below(3) as u8)).collect()
}

/// What each target should get of each source, between barriers: (source, record) in order.
type Wanted<T> = BTreeMap<u32, Vec<Vec<(u32, T)>>>;

/// Runs the plain loop: `targets_of` gives the targets of a record.
fn wanted<T>(
    trial: &Trial,
    round: u32,
    record: impl Fn(u32, u32, usize) -> T,
    mut targets_of: impl FnMut(u32, &T) -> Vec<u32>,
) -> Wanted<T>
where
    T: Clone,
{
    let parts = trial.barriers as usize + 1;
    let mut all: Wanted<T> = (0..trial.targets.len() as u32).map(|t| (t, vec![Vec::new(); parts])).collect();
    for source in 0..trial.sources.len() as u32 {
        for place in 0..trial.records_of(source, round) {
            let part = (0..trial.barriers).filter(|b| trial.place_of(source, round, *b) <= place).count();
            let value = record(source, round, place);
            for target in targets_of(source, &value) {
                all.get_mut(&target).unwrap()[part].push((source, value.clone()));
            }
        }
    }
    all
}

/// That targets got what they should, on the ranks where they are, barriers where they should be, each source's in order.
fn check<T: Record + Clone + PartialEq + std::fmt::Debug>(
    trial: &Trial,
    rounds: &[Vec<Log<(u32, T)>>],
    want: impl Fn(u32) -> Wanted<T>,
) {
    for (round, by_rank) in (0..).zip(rounds) {
        for (target, parts) in want(round) {
            let log = &by_rank[trial.targets[target as usize] as usize];
            let mine: Vec<_> = log.iter().filter(|(t, _)| *t == target).map(|(_, got)| got.clone()).collect();
            let mut came = mine.split(|got| matches!(got, Got::Barrier(_)));
            for (part, want) in parts.into_iter().enumerate() {
                let came =
                    came.next().unwrap_or_else(|| panic!("{trial:?}: target {target} has no part {part}"));
                for source in 0..trial.sources.len() as u32 {
                    let of = |pair: &(u32, T)| pair.0 == source;
                    let want: Vec<_> = want.iter().filter(|p| of(p)).cloned().collect();
                    let came: Vec<_> = came
                        .iter()
                        .filter_map(|got| match got {
                            Got::Record(pair) => of(pair).then(|| pair.clone()),
                            Got::Barrier(_) => None,
                        })
                        .collect();
                    assert_eq!(came, want, "{trial:?}: target {target}, source {source}, part {part}");
                }
            }
            assert!(came.next().is_none(), "{trial:?}: target {target} got more barriers");
            for (barrier, marks) in
                (0..).zip(mine.iter().filter_map(|g| if let Got::Barrier(m) = g { Some(m) } else { None }))
            {
                let want: Vec<_> = (0..trial.sources.len() as u32)
                    .map(|source| (source, trial.mark(source, round, barrier)))
                    .collect();
                assert_eq!(marks, &want, "{trial:?}: target {target}, barrier {barrier}");
            }
        }
        let total: usize = by_rank.iter().flatten().count();
        let barriers = trial.targets.len() * trial.barriers as usize;
        let records: usize = want(round).values().flatten().map(Vec::len).sum();
        assert_eq!(total, records + barriers, "{trial:?}: nothing went anywhere else");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn partition_by_hash(trial in trials()) {
        let record = |s, r, p| (s, text(s, r, p));
        let select = |_: u32, pair: &(u32, String), n: u32| target_of(&pair.1, n);
        let rounds = trial.run(|flow, plan, moody| Partition::new(&trial.maybe_streaming(flow), plan, select, moody), record);
        let n = trial.targets.len() as u32;
        check(&trial, &rounds, |round| wanted(&trial, round, text, |_, t| vec![target_of(t, n)]));
    }

    #[test]
    fn partition_in_turn(trial in trials()) {
        let number = |s: u32, r: u32, p: usize| (f64::from(s) + 0.25, [p as u16, r as u16]);
        let record = |s, r, p| (s, number(s, r, p));
        let rounds = trial.run(|flow, plan, moody| Partition::new(&trial.maybe_streaming(flow), plan, RoundRobin::default(), moody), record);
        let n = trial.targets.len() as u32;
        // The turn goes on from round to round.
        let mut turn = RoundRobin::default();
        let all: Vec<_> = (0..trial.rounds)
            .map(|round| {
                wanted(&trial, round, number, |source, value| {
                    let target = turn.select(source, value, n);
                    Selector::<()>::commit(&mut turn, source);
                    vec![target]
                })
            })
            .collect();
        check(&trial, &rounds, |round| all[round as usize].clone());
    }

    #[test]
    fn keyed_partition(trial in trials()) {
        let key = |s: u32, r: u32, p: usize| -> f64 { [0.0, -0.0, f64::NAN, -f64::NAN, 7.5, 1e300][(p * 31 + r as usize + s as usize) % 6] };
        let rounds = trial.run(
            |flow, plan, moody| KeyedPartition::new(&trial.maybe_streaming(flow), plan, ByKey, moody),
            |s, r, p| (key(s, r, p), (s, p as u64)),
        );
        // As (source, (bits of the key, place)), which can be compared.
        let flat: Vec<Vec<Vec<_>>> = rounds.iter().map(|by_rank| by_rank.iter().map(|log| log.iter().map(|(t, got)| (*t, match got {
            Got::Record((key, (source, place))) => Got::Record((*source, (key.to_bits(), *place))),
            Got::Barrier(marks) => Got::Barrier(marks.clone()),
        })).collect()).collect()).collect();
        let n = trial.targets.len() as u32;
        check(&trial, &flat, |round| {
            wanted(&trial, round, |s, r, p| (key(s, r, p).to_bits(), p as u64), |_, (bits, _)| vec![target_of(&f64::from_bits(*bits), n)])
        });
    }

    #[test]
    fn direct(mut trial in trials()) {
        let both = trial.sources.len().min(trial.targets.len());
        trial.sources.truncate(both);
        trial.targets.truncate(both);
        let rounds = trial.run(|flow, plan, moody| Direct::new(&trial.maybe_streaming(flow), plan, moody), |s, r, p| (s, text(s, r, p)));
        check(&trial, &rounds, |round| wanted(&trial, round, text, |source, _| vec![source]));
    }

    #[test]
    fn union(trial in trials()) {
        let rounds = trial.run(|flow, plan, moody| Union::new(&trial.maybe_streaming(flow), plan, moody), |s, r, p| (s, text(s, r, p)));
        // The sources of a rank take its targets in turn.
        let target = |source: u32| {
            let rank = trial.sources[source as usize];
            let here: Vec<u32> = (0..).zip(&trial.targets).filter(|(_, r)| **r == rank).map(|(t, _)| t).collect();
            let turn = trial.sources[..source as usize].iter().filter(|r| **r == rank).count();
            if here.is_empty() { source % trial.targets.len() as u32 } else { here[turn % here.len()] }
        };
        check(&trial, &rounds, |round| wanted(&trial, round, text, |source, _| vec![target(source)]));
    }

    #[test]
    fn zip_with_index(mut trial in trials()) {
        let both = trial.sources.len().min(trial.targets.len());
        trial.sources.truncate(both);
        trial.targets.truncate(both);
        let rounds = trial.run(ZipWithIndex::new, |s, r, p| (s, text(s, r, p)));
        for (round, by_rank) in (0..).zip(&rounds) {
            let of = |s| (0..trial.records_of(s, round)).map(move |p| (s, text(s, round, p)));
            let want: Vec<_> = (0u64..).zip((0..trial.sources.len() as u32).flat_map(of)).collect();
            let got = by_target(&trial, by_rank);
            for (target, records) in (0u32..).zip(&got) {
                prop_assert!(records.iter().all(|(_, (source, _))| *source == target), "{:?}", trial);
            }
            prop_assert_eq!(got.concat(), want);
        }
    }

    #[test]
    fn gather(mut trial in trials()) {
        trial.targets.truncate(1);
        let rounds = trial.run(|flow, plan, moody| Gather::new(&trial.maybe_streaming(flow), plan, moody), text);
        check(&trial, &rounds, |round| wanted(&trial, round, text, |_, _| vec![0]));
    }

    #[test]
    fn broadcast(trial in trials()) {
        let rounds = trial.run(|flow, plan, moody| Broadcast::new(&trial.maybe_streaming(flow), plan, moody), |s, r, p| (s, text(s, r, p)));
        let all: Vec<u32> = (0..trial.targets.len() as u32).collect();
        check(&trial, &rounds, |round| wanted(&trial, round, text, |_, _| all.clone()));
    }

    #[test]
    fn all_gather(trial in trials()) {
        let rounds = trial.run(|flow, plan, moody| AllGather::new(&trial.maybe_streaming(flow), plan, moody), |_, _, p| vec![(); p % 3]);
        let all: Vec<u32> = (0..trial.targets.len() as u32).collect();
        check(&trial, &rounds, |round| wanted(&trial, round, |_, _, p| vec![(); p % 3], |_, _| all.clone()));
    }

    #[test]
    fn records_of_no_bytes_are_counted(trial in trials()) {
        let rounds = trial.run(|flow, plan, moody| Partition::new(&trial.maybe_streaming(flow), plan, ByHash, moody), |_, _, _| ());
        for (round, by_rank) in (0..).zip(&rounds) {
            let got = by_rank.iter().flatten().filter(|(_, got)| *got == Got::Record(())).count();
            let want: usize = (0..trial.sources.len() as u32).map(|s| trial.records_of(s, round)).sum();
            assert_eq!(got, want, "{trial:?}");
        }
    }
}
