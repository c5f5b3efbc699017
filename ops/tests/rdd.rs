//! The operators that correspond to those of PySpark's RDD, on the inputs of the examples in its documentation (PySpark 3.5), with the
//! results that are documented there.
//!
//! | RDD | here |
//! |---|---|
//! | `reduceByKey`, `foldByKey`, `aggregateByKey`, `countByKey`, `countByValue` | `KeyedReduce` |
//! | `groupByKey`, `combineByKey` | `KeyedGather` |
//! | `join`, `leftOuterJoin`, `rightOuterJoin`, `fullOuterJoin`, `subtractByKey` | `Join` |
//! | `distinct` | `Distinct` |
//! | `sortBy`, `sortByKey` | `Sort` |
//! | `top`, `takeOrdered` | `TopK` |
//! | `zipWithIndex` | `ZipWithIndex` |
//! | `union` | `Union` |
//! | `partitionBy` | `KeyedPartition` |
//! | `pipe` | `Pipe` |
//! | `reduce`, `fold`, `aggregate` | `Reduce` |
//! | `cartesian` | none |

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

use aeolian_net::World;
use aeolian_ops::{
    Ascending, Batch, ByKey, Dataflow, Distinct, Full, Insert, Join, JoinAlgorithm, JoinKind, KeyedGather,
    KeyedPartition, KeyedReduce, Lists, LogicalPlan, Operator, OpsError, Order, Pipe, Record, Reduce, Side,
    Sort, SortBy, TopK, Union, ZipWithIndex, taking,
};
use std::cell::RefCell;
use std::rc::Rc;

const RANKS: u32 = 3;

/// A receiver that takes all.
type Take<T> = Box<dyn FnMut(u32, T) -> Result<(), Full<T>>>;

/// What a rank has of all, as in an RDD: one portion after another.
fn portion<T: Clone>(all: &[T], rank: u32) -> Vec<T> {
    let at = |rank: u32| all.len() * rank as usize / RANKS as usize;
    all[at(rank)..at(rank + 1)].to_vec()
}

/// Runs an operator with a source on each rank and so many targets. What each rank got, as `read` says.
fn by_rank<I, B, T, O>(
    targets: u32,
    input: &[I],
    read: impl Fn(B, &mut Vec<T>) + Copy + Sync + 'static,
    make: impl Fn(&Dataflow, &LogicalPlan, Take<B>) -> Result<O, OpsError> + Sync,
) -> Vec<Vec<T>>
where
    I: Clone + Sync,
    B: 'static,
    T: Send + 'static,
    O: Insert<I>,
{
    let got = World::local(RANKS, |world| {
        let (flow, me) = (Dataflow::new(&world)?, world.rank());
        let plan = LogicalPlan::new(&world, RANKS, targets);
        let got: Rc<RefCell<Vec<T>>> = Rc::default();
        let to = got.clone();
        let take = taking(move |_, item| read(item, &mut to.borrow_mut()));
        let mut op = make(&flow, &plan, Box::new(take))?;
        for source in plan.sources_of(me) {
            op.insert_all(source, portion(input, source))?;
            op.finish(source)?;
        }
        op.complete()?;
        drop((op, flow));
        world.finish()?;
        Ok(got.take())
    });
    got.unwrap()
}

/// Records of batches, rank after rank.
fn records<I, T, O>(
    targets: u32,
    input: &[I],
    make: impl Fn(&Dataflow, &LogicalPlan, Take<Batch<T>>) -> Result<O, OpsError> + Sync,
) -> Vec<T>
where
    I: Clone + Sync,
    T: Record + Send + Clone,
    O: Insert<I>,
{
    by_rank(targets, input, |batch: Batch<T>, got| got.extend(batch), make).concat()
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}

fn pairs<V: Copy>(all: &[(&str, V)]) -> Vec<(String, V)> {
    all.iter().map(|(key, value)| (key.to_string(), *value)).collect()
}

/// One value of each key, by key.
fn reduced<V: Record + Send + Sync + Clone + Ord>(
    input: &[(String, V)],
    combine: fn(&mut V, V),
) -> Vec<(String, V)> {
    sorted(records(RANKS, input, |flow, plan, take| KeyedReduce::new(flow, plan, combine, take)))
}

#[test]
fn reduce_fold_aggregate_and_count_by_key() {
    let input = pairs(&[("a", 1), ("b", 1), ("a", 1)]);
    // reduceByKey and foldByKey with add, and countByKey.
    assert_eq!(reduced(&input, |a, b| *a += b), pairs(&[("a", 2), ("b", 1)]));
    let ones: Vec<(u64, u64)> = [1, 2, 1, 2, 2].map(|value| (value, 1)).into();
    let count = |flow: &Dataflow, plan: &LogicalPlan, take| {
        KeyedReduce::new(flow, plan, |a: &mut u64, b| *a += b, take)
    };
    assert_eq!(sorted(records(RANKS, &ones, count)), [(1, 2), (2, 3)]);
    // aggregateByKey: the sum and the number.
    let input = pairs(&[("a", (1, 1)), ("b", (1, 1)), ("a", (2, 1))]);
    let both = reduced(&input, |a: &mut (u64, u64), b| *a = (a.0 + b.0, a.1 + b.1));
    assert_eq!(both, pairs(&[("a", (3, 2)), ("b", (1, 1))]));
}

fn grouped(input: &[(String, u64)]) -> Vec<(String, Vec<u64>)> {
    let got = World::local(RANKS, |world| {
        let (flow, me) = (Dataflow::new(&world)?, world.rank());
        let mut got = Vec::new();
        let take = Lists::new(|_, key: String, values: Vec<u64>| got.push((key, values)));
        let mut op = KeyedGather::new(&flow, &LogicalPlan::each_rank(&world), Order::Any, take)?;
        op.insert_all(me, portion(input, me))?;
        op.finish(me)?;
        op.complete()?;
        drop((op, flow));
        world.finish()?;
        Ok(got)
    });
    sorted(got.unwrap().concat())
}

#[test]
fn group_and_combine_by_key() {
    let ones = grouped(&pairs(&[("a", 1), ("b", 1), ("a", 1)]));
    assert_eq!(ones, [("a".to_string(), vec![1, 1]), ("b".to_string(), vec![1])]);
    let both = grouped(&pairs(&[("a", 1), ("b", 1), ("a", 2)]));
    assert_eq!(both, [("a".to_string(), vec![1, 2]), ("b".to_string(), vec![1])]);
}

type Row = (String, Option<u64>, Option<u64>);

fn joined(kind: JoinKind, left: &[(&str, u64)], right: &[(&str, u64)]) -> Vec<Row> {
    let left = pairs(left).into_iter().map(Side::Left);
    let rows: Vec<Side<(String, u64), (String, u64)>> =
        left.chain(pairs(right).into_iter().map(Side::Right)).collect();
    let got = records(RANKS, &rows, |flow, plan, take: Take<Batch<Row>>| {
        let join = |key: &String, l: Option<&u64>, r: Option<&u64>| (key.clone(), l.copied(), r.copied());
        Join::new(flow, plan, kind, JoinAlgorithm::Auto, join, take)
    });
    sorted(got)
}

fn row(key: &str, left: Option<u64>, right: Option<u64>) -> Row {
    (key.into(), left, right)
}

#[test]
fn joins() {
    let x = [("a", 1), ("b", 4)];
    let inner = joined(JoinKind::Inner, &x, &[("a", 2), ("a", 3)]);
    assert_eq!(inner, [row("a", Some(1), Some(2)), row("a", Some(1), Some(3))]);
    let left = joined(JoinKind::Left, &x, &[("a", 2)]);
    assert_eq!(left, [row("a", Some(1), Some(2)), row("b", Some(4), None)]);
    let right = joined(JoinKind::Right, &[("a", 2)], &x);
    assert_eq!(right, [row("a", Some(2), Some(1)), row("b", None, Some(4))]);
    let full = joined(JoinKind::Full, &x, &[("a", 2), ("c", 8)]);
    assert_eq!(full, [row("a", Some(1), Some(2)), row("b", Some(4), None), row("c", None, Some(8))]);
    // subtractByKey. (Its right side has a value that is none, which does not matter.)
    let rest = joined(JoinKind::Anti, &[("a", 1), ("b", 4), ("b", 5), ("a", 2)], &[("a", 3), ("c", 0)]);
    assert_eq!(rest, [row("b", Some(4), None), row("b", Some(5), None)]);
}

#[test]
fn distinct() {
    assert_eq!(sorted(records(RANKS, &[1u64, 1, 2, 3], Distinct::new)), [1, 2, 3]);
}

struct BySecond;

impl SortBy<(String, u64)> for BySecond {
    type Key = u64;
    fn key(record: &(String, u64)) -> &u64 {
        &record.1
    }
}

#[test]
fn sorts() {
    let input = pairs(&[("a", 1u64), ("b", 2), ("1", 3), ("d", 4), ("2", 5)]);
    // sortBy the first and sortByKey; sortBy the second.
    let by_key = records(RANKS, &input, |flow, plan, take| Sort::new(flow, plan, ByKey, take));
    assert_eq!(by_key, pairs(&[("1", 3), ("2", 5), ("a", 1), ("b", 2), ("d", 4)]));
    let by_second = records(RANKS, &input, |flow, plan, take| Sort::new(flow, plan, BySecond, take));
    assert_eq!(by_second, input);
    // By a function of the key: it is made a key of its own.
    let rhyme = ["Mary", "had", "a", "little", "lamb", "whose", "fleece", "was", "white"];
    let input: Vec<(String, u64)> = rhyme.iter().map(|word| word.to_lowercase()).zip(1..).collect();
    let lower = records(RANKS, &input, |flow, plan, take| Sort::new(flow, plan, Ascending, take));
    let numbers: Vec<u64> = lower.into_iter().map(|(_, number)| number).collect();
    assert_eq!(numbers, [3, 7, 2, 5, 4, 1, 8, 9, 6]);
}

#[test]
fn top_and_take_ordered() {
    let top = |input: &[i64], k| records(1, input, |flow, plan, take| TopK::new(flow, plan, k, take));
    assert_eq!(top(&[10, 4, 2, 12, 3], 1), [12]);
    assert_eq!(top(&[2, 3, 4, 5, 6], 2), [6, 5]);
    // By another key, which is put in front.
    let by_text: Vec<(String, i64)> = [10, 4, 2, 12, 3].map(|n| (n.to_string(), n)).into();
    let by_text = records(1, &by_text, |flow, plan, take| TopK::new(flow, plan, 3, take));
    assert_eq!(by_text.into_iter().map(|(_, n)| n).collect::<Vec<_>>(), [4, 3, 2]);
    // takeOrdered: the least, which are the largest the other way round.
    let input = [10, 1, 2, 9, 3, 4, 5, 6, 7];
    assert_eq!(top(&input.map(|n: i64| -n), 6).iter().map(|n| -n).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(top(&input, 6), [10, 9, 7, 6, 5, 4]);
}

#[test]
fn zip_with_index_and_union() {
    let input = ["a", "b", "c", "d"].map(String::from);
    let numbered = records(RANKS, &input, ZipWithIndex::new);
    assert_eq!(numbered, [(0, "a"), (1, "b"), (2, "c"), (3, "d")].map(|(i, word)| (i, word.to_string())));
    let both = [1u64, 1, 2, 3, 1, 1, 2, 3];
    assert_eq!(sorted(records(RANKS, &both, Union::new)), [1, 1, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn pipe() {
    let lines = ["1", "2", "", "3"].map(|line| line.as_bytes().to_vec());
    let got: Vec<Vec<u8>> = records(RANKS, &lines, |flow, plan, take| Pipe::new(flow, plan, ["cat"], take));
    assert_eq!(got, lines);
}

#[test]
fn partition_by() {
    let input: Vec<(u64, u64)> = [1, 2, 3, 4, 2, 4, 1].map(|n| (n, n)).into();
    let parts = by_rank(
        2,
        &input,
        |batch: Batch<(u64, u64)>, got| got.extend(batch),
        |flow, plan, take| KeyedPartition::new(flow, plan, ByKey, take),
    );
    // No key is in both, and none is lost.
    assert!(parts[0].iter().all(|pair| !parts[1].contains(pair)));
    assert_eq!(sorted(parts.concat()), sorted(input));
}

#[test]
fn reduce_fold_and_aggregate() {
    let one = |input: &[u64]| {
        by_rank(
            1,
            input,
            |sum: u64, got| got.push(sum),
            |flow, plan, take| Reduce::new(flow, plan, |a: &mut u64, b| *a += b, take),
        )
        .concat()
    };
    assert_eq!(one(&[1, 2, 3, 4, 5]), [15]);
    // Of nothing there is no value, where `fold` and `aggregate` give their zero.
    assert!(one(&[]).is_empty());
    let both: Vec<(u64, u64)> = (1..=4).map(|n| (n, 1)).collect();
    let sum = by_rank(
        1,
        &both,
        |sum: (u64, u64), got| got.push(sum),
        |flow, plan, take| Reduce::new(flow, plan, |a: &mut (u64, u64), b| *a = (a.0 + b.0, a.1 + b.1), take),
    );
    assert_eq!(sum.concat(), [(10, 4)]);
}
