//! Joins of all kinds.

use crate::keyed::{Skew, by_target, number, skews};
use crate::trial::{Random, Trial, trials};
use aeolian_net::World;
use aeolian_ops::{
    Batch, Dataflow, Full, Join, JoinAlgorithm, JoinKind, Joiner, Key, LogicalPlan, Operator, Options,
    Receiver, Side, Where, drive, taking, target_of,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::fmt::Debug;

type Left = (u32, u32);
type Right = String;
type Joined<K> = (K, Option<Left>, Option<Right>);

const KINDS: [JoinKind; 6] =
    [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti];
const ALGORITHMS: [JoinAlgorithm; 4] =
    [JoinAlgorithm::Auto, JoinAlgorithm::Hash, JoinAlgorithm::SortMerge, JoinAlgorithm::Broadcast];

/// By loops over all pairs.
fn plain<K: Key + Clone>(
    kind: JoinKind,
    left: &[(K, Left)],
    right: &[(K, Right)],
    matches: impl Fn(&Left, &Right) -> bool,
) -> Vec<Joined<K>> {
    let meet = |l: &(K, Left), r: &(K, Right)| l.0.same(&r.0) && matches(&l.1, &r.1);
    let mut all = Vec::new();
    for l in left {
        let mut met = false;
        for r in right.iter().filter(|r| meet(l, r)) {
            met = true;
            if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                all.push((l.0.clone(), Some(l.1), Some(r.1.clone())));
            }
        }
        if match kind {
            JoinKind::Left | JoinKind::Full | JoinKind::Anti => !met,
            JoinKind::Semi => met,
            _ => false,
        } {
            all.push((l.0.clone(), Some(l.1), None));
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        let alone = right.iter().filter(|r| !left.iter().any(|l| meet(l, r)));
        all.extend(alone.map(|r| (r.0.clone(), None, Some(r.1.clone()))));
    }
    all
}

fn joined<K: Key + Clone + Send + Debug>(
    trial: &Trial,
    kind: JoinKind,
    algorithm: JoinAlgorithm,
    make: impl Fn(u64) -> K + Sync,
    skew: Skew,
) {
    let by_left = !matches!(kind, JoinKind::Right | JoinKind::Full);
    let algorithm = match algorithm {
        JoinAlgorithm::Broadcast if !by_left => JoinAlgorithm::Auto,
        algorithm => algorithm,
    };
    // Sides of about the same, or of very different lengths.
    let ratio = [2, 9, 1 << 40][trial.seed as usize % 3];
    let row = |s: u32, r: u32, p: usize| {
        let key = make(number(skew, s, r, p));
        let mut random = Random(trial.seed ^ u64::from(s) << 20 ^ p as u64);
        match (random.below(ratio) == 0) == trial.seed.is_multiple_of(2) {
            true => Side::Left((key, (s, p as u32))),
            false => Side::Right((key, format!("{s} {p} {}", "z".repeat(p * 31 % 100)))),
        }
    };
    let has_predicate = trial.seed % 5 > 2;
    let matches = |l: &Left, r: &Right| !has_predicate || (l.1 as usize + r.len()).is_multiple_of(3);
    let make_joiner = || {
        Where(
            move |_: &K, l: &Left, r: &Right| matches(l, r),
            |key: &K, l: Option<&Left>, r: Option<&Right>| (key.clone(), l.copied(), r.cloned()),
        )
    };
    fn is_joiner<K, J: Joiner<K, Left, Right, Output = Joined<K>>>(joiner: J) -> J {
        joiner
    }
    let may_broadcast = by_left && matches!(algorithm, JoinAlgorithm::Auto | JoinAlgorithm::Broadcast);
    let rounds = trial.run(
        |flow, plan, moody| Join::new(flow, plan, kind, algorithm, is_joiner::<K, _>(make_joiner()), moody),
        row,
    );
    for (round, by_rank) in (0..).zip(&rounds) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for source in 0..trial.sources.len() as u32 {
            for place in 0..trial.records_of(source, round) {
                match row(source, round, place) {
                    Side::Left(row) => left.push(row),
                    Side::Right(row) => right.push(row),
                }
            }
        }
        let in_order = |mut rows: Vec<Joined<K>>| {
            rows.sort_by(|a, b| a.0.order(&b.0).then_with(|| (&a.1, &a.2).cmp(&(&b.1, &b.2))));
            rows
        };
        let want = in_order(plain(kind, &left, &right, matches));
        let mut got = Vec::new();
        for (target, rows) in (0..).zip(by_target(trial, by_rank)) {
            for row in rows.iter().filter(|_| !may_broadcast) {
                assert_eq!(target_of(&row.0, trial.targets.len() as u32), target, "{trial:?}: {row:?}");
            }
            got.extend(rows);
        }
        let got = in_order(got);
        assert_eq!(got.len(), want.len(), "{kind:?} {algorithm:?} {trial:?}");
        for (got, want) in got.iter().zip(&want) {
            let same = got.0.same(&want.0) && (&got.1, &got.2) == (&want.1, &want.2);
            assert!(same, "{kind:?} {algorithm:?} {trial:?}: {got:?}, not {want:?}");
        }
    }
}

/// A small right side that is finished first goes to all targets, and left rows stay where they are; a large one does not.
#[test]
fn a_small_right_side_goes_to_all() {
    for (rows, kind, broadcast) in [
        (1000u64, JoinKind::Left, true),
        (1000, JoinKind::Full, false),
        (900_000, JoinKind::Semi, false),
        (0, JoinKind::Anti, true),
    ] {
        let by_rank = World::local(3, |world| {
            let flow = Dataflow::new(&world)?;
            let plan = LogicalPlan::each_rank(&world);
            let mut keys: Vec<u64> = Vec::new();
            let take = taking(|_, batch: Batch<u64>| keys.extend(batch));
            let make = |key: &u64, _: Option<&u64>, _: Option<&u64>| *key;
            let mut op = Join::new(&flow, &plan, kind, JoinAlgorithm::Auto, make, take)?;
            let me = world.rank();
            for round in 0..2 {
                if round > 0 {
                    op.reset()?;
                }
                op.insert_all_right(me, (0..rows).filter(|i| i % 3 == u64::from(me)).map(|i| (i, i)))?;
                op.finish_right(me)?;
                op.decide()?;
                assert_eq!(op.report().broadcast, broadcast, "{rows} rows, {kind:?}");
                op.insert_all_left(me, (0..100).map(|i| (u64::from(me) * 10_000 + i, i)))?;
                op.finish(me)?;
                op.complete()?;
                let report = op.report();
                assert!(report.hashed > 0 && report.largest_part <= report.bytes, "{report}");
            }
            drop(op);
            world.finish()?;
            Ok(keys)
        })
        .unwrap();
        let mut all = by_rank.concat();
        if broadcast {
            let stayed = |(rank, keys): (u64, &Vec<u64>)| keys.iter().all(|key| key / 10_000 == rank);
            assert!((0..).zip(&by_rank).all(stayed), "left rows stay on their rank");
        }
        let left = || (0..3).flat_map(|rank| (0..100).map(move |i| rank * 10_000 + i));
        let mut want: Vec<u64> = match kind {
            JoinKind::Left => left().collect(),
            JoinKind::Semi => left().filter(|key| *key < rows).collect(),
            JoinKind::Anti => left().filter(|key| *key >= rows).collect(),
            _ => left().chain((0..rows).filter(|i| *i % 10_000 >= 100 || *i >= 30_000)).collect(),
        };
        want.extend(want.clone());
        all.sort_unstable();
        want.sort_unstable();
        assert_eq!(all, want, "{rows} rows, {kind:?}");
    }
}

/// Most left rows have one key: all ranks join some of them, in memory and on disk, and those of other keys as ever.
#[test]
fn a_key_of_most_left_rows_is_shared() {
    let key = |i: u64| if i.is_multiple_of(100) { i } else { 7 };
    const ROWS: u64 = 100_000;
    for (memory, kind, algorithm) in [
        (1 << 30, JoinKind::Inner, JoinAlgorithm::Hash),
        (1 << 20, JoinKind::Left, JoinAlgorithm::SortMerge),
        (0, JoinKind::Semi, JoinAlgorithm::Hash),
        (1 << 30, JoinKind::Anti, JoinAlgorithm::Hash),
        (1 << 30, JoinKind::Full, JoinAlgorithm::Hash),
    ] {
        let by_rank = World::local(3, |world| {
            let options = Options { memory, ..Options::detect(world.layout(), world.rank())? };
            let flow = Dataflow::with(&world, options);
            let plan = LogicalPlan::each_rank(&world);
            let mut rows: Vec<(u64, u64, u64)> = Vec::new();
            let take = taking(|_, batch: Batch<(u64, u64, u64)>| rows.extend(batch));
            let make = |key: &u64, left: Option<&u64>, right: Option<&u64>| {
                (*key, left.copied().unwrap_or(0), right.copied().unwrap_or(0))
            };
            let mut op = Join::new(&flow, &plan, kind, algorithm, make, take)?;
            let me = u64::from(world.rank());
            let mut shared = 0;
            for round in 0..2 {
                if round > 0 {
                    op.reset()?;
                }
                op.insert_all_left(me as u32, (me..ROWS).step_by(3).map(|i| (key(i), i + 1)))?;
                // (Of key 7 there are two; of the other keys half match.)
                let right = (me..ROWS).step_by(3).filter(|i| i % 200 == 0 || *i == 7 || *i == 9);
                op.insert_all_right(me as u32, right.map(|i| (if i == 9 { 7 } else { i }, i + 1)))?;
                op.finish(me as u32)?;
                op.complete()?;
                let report = op.report();
                assert!(
                    report.to_string().contains("skewed") == (report.shared + report.got > 0),
                    "{report}"
                );
                shared += report.shared + report.got;
            }
            drop(op);
            assert_eq!(flow.memory().used(), 0);
            world.finish()?;
            Ok((rows, shared))
        })
        .unwrap();
        let (rows, shared): (Vec<_>, Vec<u64>) = by_rank.into_iter().unzip();
        let is_shared = kind != JoinKind::Full;
        assert!(shared.iter().all(|shared| (*shared > 0) == is_shared), "{kind:?}: {shared:?}");
        let heavy: Vec<usize> =
            rows.iter().map(|rows| rows.iter().filter(|row| row.0 == 7).count()).collect();
        let all: usize = heavy.iter().sum();
        if is_shared {
            assert!(heavy.iter().all(|n| *n >= all / 5), "{kind:?}: {heavy:?}");
        }
        let mut want = Vec::new();
        for i in 0..ROWS {
            let right: &[u64] = match key(i) {
                7 => &[8, 10],
                key if key % 200 == 0 => &[key + 1],
                _ => &[],
            };
            match (kind, right) {
                (JoinKind::Inner | JoinKind::Left | JoinKind::Full, [_, ..]) => {
                    want.extend(right.iter().map(|right| (key(i), i + 1, *right)));
                }
                (JoinKind::Semi, [_, ..]) => want.push((key(i), i + 1, 0)),
                (JoinKind::Left | JoinKind::Full | JoinKind::Anti, []) => want.push((key(i), i + 1, 0)),
                _ => {}
            }
        }
        want.extend(want.clone());
        want.sort_unstable();
        let mut got = rows.concat();
        got.sort_unstable();
        assert!(got == want, "{kind:?}: {} rows, not {}", got.len(), want.len());
    }
}

/// One rank has finished its right side, which it keeps until the others have; they wait for a barrier before they do.
#[test]
fn a_barrier_does_not_wait_for_a_side_that_is_kept() {
    let heard = World::local(2, |world| {
        let flow = Dataflow::new(&world)?;
        let plan = LogicalPlan::each_rank(&world);
        let heard = RefCell::new(Vec::new());
        let rows = RefCell::new(0);
        type Marks = Vec<(u32, Vec<u8>)>;
        struct Hear<'a>(&'a RefCell<Vec<Marks>>, &'a RefCell<usize>);
        impl Receiver<Batch<u64>> for Hear<'_> {
            fn receive(&mut self, _: u32, batch: Batch<u64>) -> Result<(), Full<Batch<u64>>> {
                *self.1.borrow_mut() += batch.count();
                Ok(())
            }

            fn barrier(&mut self, _: u32, marks: &[(u32, Vec<u8>)]) {
                self.0.borrow_mut().push(marks.to_vec());
            }
        }
        let make = |key: &u64, _: Option<&u64>, _: Option<&u64>| *key;
        let take = Hear(&heard, &rows);
        let mut op = Join::new(&flow, &plan, JoinKind::Inner, JoinAlgorithm::Auto, make, take)?;
        let me = world.rank();
        op.insert_all_right(me, (0..10).map(|i| (10 * u64::from(me) + i, i)))?;
        if me == 1 {
            op.finish_right(me)?;
        }
        op.barrier(me, vec![me as u8])?;
        drive(&mut op, |_| Ok((!heard.borrow().is_empty()).then_some(())))?;
        op.insert_all_left(me, (0..20).map(|i| (i, i)))?;
        op.finish(me)?;
        op.complete()?;
        drop(op);
        world.finish()?;
        Ok((heard.into_inner(), rows.into_inner()))
    })
    .unwrap();
    for (heard, _) in &heard {
        assert_eq!(heard, &[vec![(0, vec![0]), (1, vec![1])]]);
    }
    assert_eq!(heard.iter().map(|(_, rows)| rows).sum::<usize>(), 40);
}

#[test]
fn a_right_side_that_all_targets_have_cannot_be_kept() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap();
    let plan = LogicalPlan::each_rank(&world);
    for kind in [JoinKind::Right, JoinKind::Full] {
        let make = |key: &u64, _: Option<&u64>, _: Option<&u64>| *key;
        let take = taking(|_, _: Batch<u64>| {});
        let text = match Join::new(&flow, &plan, kind, JoinAlgorithm::Broadcast, make, take) {
            Ok(_) => panic!("{kind:?}"),
            Err(e) => e.to_string(),
        };
        assert!(text.contains("cannot send its right side to all targets"), "{text}");
    }
}

fn kinds() -> impl Strategy<Value = (JoinKind, JoinAlgorithm)> {
    (prop::sample::select(KINDS.to_vec()), prop::sample::select(ALGORITHMS.to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn by_number(trial in trials(), skew in skews(), (kind, algorithm) in kinds()) {
        joined(&trial, kind, algorithm, |n| n, skew);
    }

    #[test]
    fn by_text(trial in trials(), skew in skews(), (kind, algorithm) in kinds()) {
        joined(&trial, kind, algorithm, |n| "x".repeat((n % 7) as usize) + &n.to_string(), skew);
    }

    #[test]
    fn by_odd_keys(trial in trials(), skew in skews(), (kind, algorithm) in kinds()) {
        let odd = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN];
        joined(&trial, kind, algorithm, |n| odd.get(n as usize).copied().unwrap_or(n as f64), skew);
        joined(&trial, kind, algorithm, |n| (Some([n as u8]), Vec::<u16>::new()), skew);
    }
}
