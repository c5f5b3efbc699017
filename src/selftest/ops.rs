//! The operators: what each target must get follows from the numbers of sources and records, by plain loops. With plenty of memory, and
//! with none, where everything that can spill does.

use super::expect;
use crate::Failure;
use aeolian_net::World;
use aeolian_ops::{
    AllGather, AllReduce, Ascending, Batch, Broadcast, ByKey, Dataflow, Descending, Direct, Distinct, Full,
    Gather, Group, Insert, Join, JoinAlgorithm, JoinKind, Key, KeyedGather, KeyedGatherUngrouped,
    KeyedPartition, KeyedReduce, LogicalPlan, Operator, OpsError, Options, Order, Partition, Receiver,
    Record, Reduce, RoundRobin, Sort, TopK, Union, Ways, ZipWithIndex, target_of,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Records of a source.
const EACH: u64 = 200;
/// Ranks that have tasks, where it is not each.
const MOST: u32 = 4;
/// Keys of all.
const KEYS: u64 = 97;

/// A key that many have, and a value that tells the source, and where it was inserted.
type Pair = (String, u64);

fn pair(source: u32, place: u64) -> Pair {
    let key = (u64::from(source) * 31 + place * 7) % KEYS;
    // Some keys are long.
    ("k".repeat((key % 5 * 9) as usize + 1) + &key.to_string(), u64::from(source) << 32 | place)
}

/// What targets of this rank got. Every second offer is refused: it comes again.
struct Taken<T> {
    by_target: Rc<RefCell<Vec<Vec<T>>>>,
    offers: u64,
}

impl<T> Taken<T> {
    fn takes(&mut self) -> bool {
        self.offers += 1;
        self.offers.is_multiple_of(2)
    }
}

impl<T: Record> Receiver<Batch<T>> for Taken<T> {
    fn receive(&mut self, target: u32, batch: Batch<T>) -> Result<(), Full<Batch<T>>> {
        if !self.takes() {
            return Err(Full(batch));
        }
        self.by_target.borrow_mut()[target as usize].extend(batch);
        Ok(())
    }
}

impl<T: Record> Receiver<T> for Taken<T> {
    fn receive(&mut self, target: u32, value: T) -> Result<(), Full<T>> {
        if !self.takes() {
            return Err(Full(value));
        }
        self.by_target.borrow_mut()[target as usize].push(value);
        Ok(())
    }
}

impl<K: Key, V: Record> Receiver<Group<K, V>> for Taken<(K, Vec<V>)> {
    fn receive(&mut self, target: u32, group: Group<K, V>) -> Result<(), Full<Group<K, V>>> {
        if !self.takes() {
            return Err(Full(group));
        }
        let lists = &mut self.by_target.borrow_mut()[target as usize];
        match lists.last_mut() {
            // Another piece of a long group.
            Some(last) if last.0.same(&group.key) => last.1.extend(group.values),
            _ => lists.push((group.key, group.values.collect())),
        }
        Ok(())
    }
}

/// An operator under test, and its tasks.
struct Under<'a> {
    name: &'static str,
    flow: &'a Dataflow,
    plan: LogicalPlan,
}

impl Under<'_> {
    fn sources(&self) -> u32 {
        self.plan.sources().len() as u32
    }

    fn targets(&self) -> u32 {
        self.plan.targets().len() as u32
    }

    fn is_here(&self, target: u32) -> bool {
        self.plan.targets()[target as usize] == self.flow.world().rank()
    }

    /// All records, by source, then in order.
    fn all<T>(&self, record: impl Fn(u32, u64) -> T) -> Vec<T> {
        let record = &record;
        (0..self.sources()).flat_map(|source| (0..EACH).map(move |place| record(source, place))).collect()
    }

    /// Runs it: target -> what it got, if it is on this rank.
    fn run<I, T, O: Insert<I>>(
        &self,
        make: impl FnOnce(&Dataflow, &LogicalPlan, Taken<T>) -> Result<O, OpsError>,
        record: impl Fn(u32, u64) -> I,
    ) -> Result<Vec<Vec<T>>, Failure> {
        let by_target = Rc::new(RefCell::new((0..self.targets()).map(|_| Vec::new()).collect()));
        let mut op = make(self.flow, &self.plan, Taken { by_target: by_target.clone(), offers: 0 })?;
        for source in self.plan.sources_of(self.flow.world().rank()) {
            op.insert_all(source, (0..EACH).map(|place| record(source, place)))?;
            op.finish(source)?;
        }
        op.complete()?;
        drop(op);
        expect(self.flow.memory().used() == 0, || format!("{} keeps memory", self.name))?;
        Ok(by_target.take())
    }

    /// Each target of this rank got what `want` says; `place` brings both into one order where the operator leaves it open.
    fn check<T: PartialEq>(
        &self,
        mut got: Vec<Vec<T>>,
        want: impl Fn(u32) -> Vec<T>,
        place: impl Fn(&mut [T]),
    ) -> Result<(), Failure> {
        for (target, got) in (0..).zip(&mut got) {
            let mut want = if self.is_here(target) { want(target) } else { Vec::new() };
            place(got);
            place(&mut want);
            let (records, due) = (got.len(), want.len());
            expect(*got == want, || {
                format!("{}: target {target} got {records} records, {due} are due, or others", self.name)
            })?;
        }
        Ok(())
    }
}

/// The source that a value tells.
fn source_of(value: u64) -> u32 {
    (value >> 32) as u32
}

fn sorted<T: Ord>(all: &mut [T]) {
    all.sort_unstable();
}

/// So that only the order within each source counts.
fn by_source(all: &mut [Pair]) {
    all.sort_by_key(|(_, value)| source_of(*value));
}

pub(super) fn operators(world: &mut World) -> Result<(), Failure> {
    let usual = Options::detect(world.layout(), world.rank())?;
    let usual = Options { memory: usual.memory.max(64 << 20), ..usual };
    let none = Options { memory: 0, batch: 1000, ways: Ways::ByNode, ..usual.clone() };
    for options in [usual, none] {
        let spills = options.memory == 0;
        let flow = Dataflow::with(world, options);
        forwarding(&flow)?;
        reducing(&flow)?;
        let before = flow.spill().report().blocks_written;
        expect(spills || before == 0, || "operators spill though there is memory".into())?;
        for (name, check) in [
            ("keyed reduce", sums as fn(&Dataflow) -> Result<(), Failure>),
            ("keyed gather", lists),
            ("sort", sorts),
            ("join", joins),
            ("zip with index", numbers),
        ] {
            let before = flow.spill().report();
            check(&flow)?;
            let after = flow.spill().report();
            let has_spilled = after.blocks_written > before.blocks_written;
            let is_due = flow.world().size() <= MOST;
            expect(if spills { has_spilled || !is_due } else { !has_spilled }, || {
                format!("{name} writes {} blocks", after.blocks_written - before.blocks_written)
            })?;
            expect(after.stored_now == 0, || format!("{name} leaves {} bytes on disk", after.stored_now))?;
        }
    }
    Ok(())
}

/// Tasks that are not as many as ranks; on some ranks only, where there are many: plain loops take their time.
fn under<'a>(name: &'static str, flow: &'a Dataflow, targets: u32) -> Under<'a> {
    let sources = 2 * flow.world().size().min(MOST) - 1;
    Under { name, flow, plan: LogicalPlan::new(flow.world(), sources, targets) }
}

/// One more than ranks.
fn several<'a>(name: &'static str, flow: &'a Dataflow) -> Under<'a> {
    under(name, flow, flow.world().size().min(MOST) + 1)
}

fn forwarding(flow: &Dataflow) -> Result<(), Failure> {
    let n = flow.world().size();
    // Source i is on rank i, its target on the next one.
    let next: Vec<u32> = (0..n).map(|i| (i + 1) % n).collect();
    let next = LogicalPlan::each_rank(flow.world()).targets_on(&next)?;
    let op = Under { name: "direct", flow, plan: next };
    let got = op.run(Direct::new, pair)?;
    op.check(got, |target| (0..EACH).map(|place| pair(target, place)).collect(), |_| ())?;

    let op = several("partition", flow);
    let targets = op.targets();
    let got = op.run(|flow, plan, take| Partition::new(flow, plan, RoundRobin::default(), take), pair)?;
    let mine = |target: u32| {
        let due = |(_, value): &Pair| (source_of(*value) + *value as u32) % targets == target;
        op.all(pair).into_iter().filter(due).collect()
    };
    op.check(got, mine, by_source)?;

    let op = Under { name: "keyed partition", ..op };
    let got = op.run(|flow, plan, take| KeyedPartition::new(flow, plan, ByKey, take), pair)?;
    let mine =
        |target| op.all(pair).into_iter().filter(|pair| target_of(&pair.0, targets) == target).collect();
    op.check(got, mine, by_source)?;

    let op = Under { name: "broadcast", ..op };
    let got = op.run(Broadcast::new, pair)?;
    op.check(got, |_| op.all(pair), by_source)?;

    let with_source = |source, place| (source, pair(source, place));
    let op = Under { name: "all-gather", ..op };
    let got = op.run(AllGather::new, pair)?;
    op.check(got, |_| op.all(with_source), |all| all.sort_by_key(|(source, _)| *source))?;

    let op = under("gather", flow, 1);
    let got = op.run(Gather::new, pair)?;
    op.check(got, |_| op.all(with_source), |all| all.sort_by_key(|(source, _)| *source))?;

    // Two inputs with a source on each rank, a target on each.
    let twice: Vec<u32> = (0..2 * n).map(|i| i % n).collect();
    let op = Under { name: "union", flow, plan: LogicalPlan::each_rank(flow.world()).sources_on(&twice)? };
    let got = op.run(Union::new, pair)?;
    let mine = |target| [target, target + n].iter().flat_map(|s| (0..EACH).map(|p| pair(*s, p))).collect();
    op.check(got, mine, by_source)
}

fn reducing(flow: &Dataflow) -> Result<(), Failure> {
    // Not commutative: the first and the last value, and how many.
    let one = |source: u32, place: u64| (pair(source, place).0, pair(source, place).0, 1u64);
    let combine = |a: &mut (String, String, u64), b: (String, String, u64)| {
        a.1 = b.1;
        a.2 += b.2;
    };
    let op = under("reduce", flow, 1);
    let last = op.sources() - 1;
    let all = (pair(0, 0).0, pair(last, EACH - 1).0, u64::from(op.sources()) * EACH);
    let got = op.run(|flow, plan, take| Reduce::new(flow, plan, combine, take), one)?;
    op.check(got, |_| vec![all.clone()], |_| ())?;
    let op = several("all-reduce", flow);
    let got = op.run(|flow, plan, take| AllReduce::new(flow, plan, combine, take), one)?;
    op.check(got, |_| vec![all.clone()], |_| ())?;

    let op = under("top k", flow, 1);
    let k = 100;
    let got = op.run(|flow, plan, take| TopK::new(flow, plan, k, take), pair)?;
    let mut largest = op.all(pair);
    largest.sort_unstable_by(|a, b| b.cmp(a));
    largest.truncate(k);
    op.check(got, |_| largest.clone(), |_| ())
}

/// key -> its values, by source, then in order
fn by_key(op: &Under<'_>) -> BTreeMap<String, Vec<u64>> {
    let mut lists: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, value) in op.all(pair) {
        lists.entry(key).or_default().push(value);
    }
    lists
}

fn sums(flow: &Dataflow) -> Result<(), Failure> {
    let op = several("keyed reduce", flow);
    let (lists, targets) = (by_key(&op), op.targets());
    let got =
        op.run(|flow, plan, take| KeyedReduce::new(flow, plan, |a: &mut u64, b| *a += b, take), pair)?;
    let here = |target| lists.iter().filter(move |(key, _)| target_of(*key, targets) == target);
    let mine = |target| here(target).map(|(key, list)| (key.clone(), list.iter().sum())).collect();
    op.check(got, mine, sorted)?;
    let op = Under { name: "distinct", ..op };
    let got = op.run(Distinct::new, |source, place| pair(source, place).0)?;
    op.check(got, |target| here(target).map(|(key, _)| key.clone()).collect(), sorted)
}

fn lists(flow: &Dataflow) -> Result<(), Failure> {
    for order in [Order::Any, Order::ByKey] {
        let op = several("keyed gather", flow);
        let (lists, targets) = (by_key(&op), op.targets());
        // Within a source in order; those of a rank's sources take turns.
        let by_source = |list: &mut Vec<u64>| list.sort_by_key(|value| source_of(*value));
        let place = |lists: &mut [(String, Vec<u64>)]| {
            lists.iter_mut().for_each(|(_, list)| by_source(list));
            if order == Order::Any {
                lists.sort();
            }
        };
        let here = |target| lists.iter().filter(move |(key, _)| target_of(*key, targets) == target);
        let got = op.run(|flow, plan, take| KeyedGather::new(flow, plan, order, take), pair)?;
        let mine = |target| here(target).map(|(key, list)| (key.clone(), list.clone())).collect();
        op.check(got, mine, place)?;

        let op = Under { name: "keyed gather, ungrouped", ..op };
        let got = op.run(|flow, plan, take| KeyedGatherUngrouped::new(flow, plan, order, take), pair)?;
        // Put together by neighbours: so a key that comes in two places is seen.
        let got = got.into_iter().map(|pairs| {
            let mut lists: Vec<(String, Vec<u64>)> = Vec::new();
            for (key, value) in pairs {
                match lists.last_mut() {
                    Some(last) if last.0 == key => last.1.push(value),
                    _ => lists.push((key, vec![value])),
                }
            }
            lists
        });
        op.check(got.collect(), mine, place)?;
    }
    Ok(())
}

/// Rows of all ranks, at rank 0.
fn together<T: Record + Clone>(flow: &Dataflow, rows: &[T]) -> Result<Vec<T>, Failure> {
    let plan = LogicalPlan::each_rank(flow.world()).targets_on(&[0])?;
    let (mut all, me) = (Vec::new(), flow.world().rank());
    let take = aeolian_ops::taking(|_, batch: Batch<(u32, T)>| all.extend(batch));
    let mut op = Gather::new(flow, &plan, take)?;
    op.insert_all(me, rows.iter().cloned())?;
    op.finish(me)?;
    op.complete()?;
    drop(op);
    // By target: those of one source come in order.
    all.sort_by_key(|(source, _)| *source);
    Ok(all.into_iter().map(|(_, row)| row).collect())
}

fn sorts(flow: &Dataflow) -> Result<(), Failure> {
    let is_root = flow.world().rank() == 0;
    // A source and a target on each rank, so that equal records have one order.
    let op = Under { name: "sort", flow, plan: LogicalPlan::each_rank(flow.world()) };
    let mut want = op.all(pair);
    want.sort_unstable();
    let got = op.run(|flow, plan, take| Sort::new(flow, plan, Ascending, take), pair)?.concat();
    let got = together(flow, &got)?;
    expect(!is_root || got == want, || "sort, ascending".into())?;
    let mut want = op.all(pair);
    want.sort_by(|a, b| b.0.cmp(&a.0));
    let got = op.run(|flow, plan, take| Sort::new(flow, plan, Descending(ByKey), take), pair)?.concat();
    let got = together(flow, &got)?;
    expect(!is_root || got == want, || "sort by key, descending, is stable".into())
}

fn numbers(flow: &Dataflow) -> Result<(), Failure> {
    let op = Under { name: "zip with index", flow, plan: LogicalPlan::each_rank(flow.world()) };
    let got = op.run(ZipWithIndex::new, pair)?;
    let number = |target: u32, place| (u64::from(target) * EACH + place, pair(target, place));
    op.check(got, |target| (0..EACH).map(|place| number(target, place)).collect(), |_| ())
}

type Row = (String, Option<u64>, Option<u64>);

/// Right rows: one in seven records, with every other key, some of which no left row has.
fn right(source: u32, place: u64) -> Option<Pair> {
    let (key, value) = pair(source, place);
    let key = if place.is_multiple_of(3) { format!("only right {}", place % 5) } else { key };
    place.is_multiple_of(7).then_some((key, value))
}

fn left(source: u32, place: u64) -> Option<Pair> {
    (!place.is_multiple_of(5)).then(|| pair(source, place))
}

/// By two loops.
fn rows(kind: JoinKind, left: &[Pair], right: &[Pair]) -> Vec<Row> {
    let (mut rows, mut is_matched) = (Vec::new(), vec![false; right.len()]);
    for (key, l) in left {
        let mut any = false;
        for ((other, r), is_matched) in right.iter().zip(&mut is_matched) {
            if key == other {
                (any, *is_matched) = (true, true);
                if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                    rows.push((key.clone(), Some(*l), Some(*r)));
                }
            }
        }
        let alone = matches!(kind, JoinKind::Left | JoinKind::Full | JoinKind::Anti);
        if if any { kind == JoinKind::Semi } else { alone } {
            rows.push((key.clone(), Some(*l), None));
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        let alone = right.iter().zip(is_matched).filter(|(_, is_matched)| !is_matched);
        rows.extend(alone.map(|((key, r), _)| (key.clone(), None, Some(*r))));
    }
    rows
}

fn joins(flow: &Dataflow) -> Result<(), Failure> {
    use JoinAlgorithm::{Auto, Broadcast, Hash, SortMerge};
    let op = several("join", flow);
    let me = flow.world().rank();
    let side = |row: fn(u32, u64) -> Option<Pair>| op.all(row).into_iter().flatten().collect::<Vec<_>>();
    let (all_left, all_right) = (side(left), side(right));
    for kind in
        [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti]
    {
        // Two loops over everything: by one rank only.
        let mut want = if me == 0 { rows(kind, &all_left, &all_right) } else { Vec::new() };
        want.sort_unstable();
        for how in [Auto, Hash, SortMerge, Broadcast] {
            if how == Broadcast && matches!(kind, JoinKind::Right | JoinKind::Full) {
                continue;
            }
            let mut got: Vec<Row> = Vec::new();
            let take = aeolian_ops::taking(|_, batch: Batch<Row>| got.extend(batch));
            let join = |key: &String, l: Option<&u64>, r: Option<&u64>| (key.clone(), l.copied(), r.copied());
            let mut join = Join::new(flow, &op.plan, kind, how, join, take)?;
            for source in op.plan.sources_of(me) {
                join.insert_all_right(source, (0..EACH).filter_map(|place| right(source, place)))?;
                join.insert_all_left(source, (0..EACH).filter_map(|place| left(source, place)))?;
                join.finish(source)?;
            }
            join.complete()?;
            drop(join);
            let mut got = together(flow, &got)?;
            got.sort_unstable();
            expect(got == want, || {
                format!("{kind:?} join by {how:?}: {} of {} rows", got.len(), want.len())
            })?;
        }
    }
    Ok(())
}
