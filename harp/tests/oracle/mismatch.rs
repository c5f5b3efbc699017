//! Ranks that disagree: each pair of collectives, and the same collective with something else. There must be an error that says who is
//! in what, never a hang, never an answer.

use aeolian_harp::*;
use aeolian_net::{NetError, World, exit};
use std::hash::Hash;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn table<E: Element, C: Combiner<[E]>>(combiner: C) -> Table<E, C> {
    let mut table = Table::<E, C>::new(combiner);
    for id in 0..6 {
        table.insert(id, Array::zeroed(3));
    }
    table
}

fn one_each<T>(world: &World, table: impl Fn() -> T) -> Vec<T> {
    (0..world.size()).map(|_| table()).collect()
}

/// A collective by the name that errors give it.
type Call = (&'static str, fn(&mut World) -> Result<()>);

/// The collectives on tables, of such a table, root, partitioner and rotation, in their blocking form.
macro_rules! calls {
    ($table:expr, $root:expr, $place:expr, $rotation:expr) => {{
        let calls: Vec<Call> = vec![
            ("broadcast", |w| broadcast(w, &mut $table, $root)),
            ("reduce", |w| reduce(w, &mut $table, $root)),
            ("allreduce", |w| allreduce(w, &mut $table)),
            ("gather", |w| gather(w, &mut $table, $root)),
            ("allgather", |w| allgather(w, &mut $table)),
            ("scatter", |w| scatter(w, &mut $table, $root, &$place)),
            ("alltoall", |w| alltoall(w, one_each(w, || $table)).map(drop)),
            ("regroup", |w| regroup(w, &mut $table, &$place)),
            ("aggregate", |w| aggregate(w, &mut $table, &$place, |_, _| {})),
            ("push", |w| push(w, &$table, &mut $table, &$place)),
            ("pull", |w| pull(w, &mut $table, &$table).map(drop)),
            ("join", |w| join(w, &mut $table, &$table, &$place)),
            ("rotate", |w| rotate(w, &mut $table, &$rotation)),
            ("scan", |w| scan(w, &mut $table)),
            ("exscan", |w| exscan(w, &mut $table)),
        ];
        calls
    }};
}

/// All collectives, blocking.
fn blocking() -> Vec<Call> {
    let mut calls = calls!(table::<f64, _>(Sum), 0, Modulo, Rotation::Ring);
    calls.push(("barrier", barrier));
    calls.push(("split", |w| split(w, Some(0), 0).map(drop)));
    calls
}

/// All that can be started.
fn started() -> Vec<Call> {
    fn t() -> Table<f64, Sum> {
        table(Sum)
    }
    vec![
        ("barrier", |w| ibarrier(w)?.wait()),
        ("broadcast", |w| ibroadcast(w, t(), 0)?.wait().map(drop)),
        ("reduce", |w| ireduce(w, t(), 0)?.wait().map(drop)),
        ("allreduce", |w| iallreduce(w, t())?.wait().map(drop)),
        ("gather", |w| igather(w, t(), 0)?.wait().map(drop)),
        ("allgather", |w| iallgather(w, t())?.wait().map(drop)),
        ("scatter", |w| iscatter(w, t(), 0, Modulo)?.wait().map(drop)),
        ("alltoall", |w| ialltoall(w, one_each(w, t))?.wait().map(drop)),
        ("regroup", |w| iregroup(w, t(), Modulo)?.wait().map(drop)),
        ("aggregate", |w| iaggregate(w, t(), Modulo, |_, _| {})?.wait().map(drop)),
        ("push", |w| ipush(w, t(), t(), Modulo)?.wait().map(drop)),
        ("pull", |w| ipull(w, t(), t())?.wait().map(drop)),
        ("join", |w| ijoin(w, t(), 0..6, Modulo)?.wait().map(drop)),
        ("rotate", |w| irotate(w, t(), Rotation::Ring)?.wait().map(drop)),
        ("scan", |w| iscan(w, t())?.wait().map(drop)),
        ("exscan", |w| iexscan(w, t())?.wait().map(drop)),
    ]
}

type Run = dyn Fn(&mut World) -> Result<()> + Send + Sync;

/// A case: what it is called, what each rank does, and what the error must say.
struct Case {
    name: String,
    run: Box<Run>,
    says: Vec<String>,
}

impl Case {
    fn new(
        name: String,
        says: &[&str],
        run: impl Fn(&mut World) -> Result<()> + Send + Sync + 'static,
    ) -> Case {
        Case { name, run: Box::new(run), says: says.iter().map(|s| s.to_string()).collect() }
    }
}

/// Ranks of a job that disagrees.
const RANKS: u32 = 3;
/// The longest that a case may take on a busy machine; that it ends is shown, not how fast.
const FOR_EVER: Duration = Duration::from_secs(120);

/// Runs the cases, many at a time (they mostly sleep), and tells all that are not as they must be.
fn all_end(cases: Vec<Case>) {
    all_end_on([0; RANKS as usize], cases);
}

/// The same on these nodes.
fn all_end_on(nodes: [u32; RANKS as usize], cases: Vec<Case>) {
    let total = cases.len();
    let cases = Arc::new(Mutex::new(cases));
    let (tell, told) = channel();
    for _ in 0..24 {
        let (cases, tell) = (cases.clone(), tell.clone());
        std::thread::spawn(move || {
            loop {
                let Some(case) = cases.lock().unwrap().pop() else { return };
                let outcome = World::local_nodes_with(&nodes, Duration::from_millis(300), |mut world| {
                    (case.run)(&mut world)?;
                    world.finish()
                });
                tell.send((case.name.clone(), verdict(&case, outcome.map(drop)))).unwrap();
            }
        });
    }
    let mut wrong = Vec::new();
    for done in 0..total {
        let Ok((name, verdict)) = told.recv_timeout(FOR_EVER) else {
            panic!("{} of {total} cases hang, among them one of the last before {:?}", total - done, wrong);
        };
        wrong.extend(verdict.map(|what| format!("{name}: {what}")));
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {total} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is wrong with it.
///
/// A rank that has come to its end is not said to have been in an operation any more, and of a message that nobody took the number of its
/// call is said instead of its name: that much less is accepted where the ranks do not wait for one another.
fn verdict(case: &Case, outcome: Result<(), NetError>) -> Option<String> {
    let Err(e) = outcome else { return Some("there is no error".into()) };
    let text = e.to_string();
    let named = case.says.iter().filter(|s| text.contains(*s)).count();
    let ended = text.contains("has finished") && named > 0;
    let untaken = text.contains(", of which this rank never took a message");
    if e.exit_code() != exit::MISMATCH {
        return Some(format!("exit code {}: {text}", e.exit_code()));
    }
    (named < case.says.len() && !ended && !untaken).then(|| format!("does not say {:?}: {text}", case.says))
}

/// Cases in which rank `odd` makes another call than the others.
fn odd_one(odd: u32, ours: Call, theirs: Call, says: &[&str]) -> Case {
    let name = format!("rank {odd} in {}, the others in {}", theirs.0, ours.0);
    Case::new(name, says, move |w| if w.rank() == odd { theirs.1(w) } else { ours.1(w) })
}

/// Each pair.
fn pairs(calls: &[Call], odd: u32) -> Vec<Case> {
    let others = |ours: Call| calls.iter().copied().filter(move |theirs| theirs.0 != ours.0);
    let pairs = calls.iter().flat_map(|&ours| others(ours).map(move |theirs| (ours, theirs)));
    pairs.map(|(ours, theirs)| odd_one(odd, ours, theirs, &[ours.0, theirs.0])).collect()
}

#[test]
fn of_each_pair_of_collectives_both_are_named_if_rank_0_is_in_another() {
    all_end(pairs(&blocking(), 0));
}

#[test]
fn of_each_pair_of_collectives_both_are_named_if_the_last_rank_is_in_another() {
    all_end(pairs(&blocking(), RANKS - 1));
}

#[test]
fn of_each_pair_of_collectives_both_are_named_on_several_nodes() {
    all_end_on([0, 0, 1], pairs(&blocking(), 0));
    all_end_on([0, 1, 1], pairs(&blocking(), 0));
}

#[test]
fn of_each_pair_of_started_collectives_both_are_named() {
    all_end(pairs(&started(), 1));
}

/// The same collective with something else, on each rank in turn.
fn all_differ(those: &[&str], other: Vec<Call>) {
    let ours = calls!(table::<f64, _>(Sum), 0, Modulo, Rotation::Ring);
    let pairs: Vec<_> =
        ours.into_iter().zip(other).filter(|(ours, _)| those.is_empty() || those.contains(&ours.0)).collect();
    assert!(!pairs.is_empty());
    let cases = (0..RANKS).flat_map(|odd| {
        pairs.iter().map(move |&(ours, theirs)| odd_one(odd, ours, theirs, &[&format!("{} #1", ours.0)]))
    });
    all_end(cases.collect());
}

#[test]
fn another_element_type_is_found() {
    all_differ(&[], calls!(table::<f32, _>(Sum), 0, Modulo, Rotation::Ring));
    all_differ(&[], calls!(table::<i64, _>(Sum), 0, Modulo, Rotation::Ring));
}

#[test]
fn another_combiner_is_found() {
    all_differ(&[], calls!(table::<f64, _>(Max), 0, Modulo, Rotation::Ring));
    // This one also takes another way through the ranks.
    all_differ(&[], calls!(table::<f64, _>(Minus), 0, Modulo, Rotation::Ring));
}

#[test]
fn another_root_is_found() {
    all_differ(
        &["broadcast", "reduce", "gather", "scatter"],
        calls!(table::<f64, _>(Sum), 1, Modulo, Rotation::Ring),
    );
}

#[test]
fn another_partitioner_is_found() {
    all_differ(
        &["scatter", "regroup", "aggregate", "push", "join"],
        calls!(table::<f64, _>(Sum), 0, Hashed, Rotation::Ring),
    );
}

#[test]
fn another_rotation_is_found() {
    all_differ(&["rotate"], calls!(table::<f64, _>(Sum), 0, Modulo, Rotation::To(vec![1, 0, 2])));
    // The same way, but said otherwise on one rank.
    all_differ(&["rotate"], calls!(table::<f64, _>(Sum), 0, Modulo, Rotation::To(vec![1, 2, 0])));
}

#[test]
fn a_rank_that_calls_one_more_is_found() {
    let cases = (0..RANKS).flat_map(|odd| {
        blocking().into_iter().chain(started()).map(move |(name, call)| {
            Case::new(format!("rank {odd} in {name} once more"), &[&format!("{name} #2")], move |w| {
                call(w)?;
                if w.rank() == odd { call(w) } else { Ok(()) }
            })
        })
    });
    all_end(cases.collect());
}

#[test]
fn a_rank_that_calls_none_is_found() {
    let cases = (0..RANKS).flat_map(|odd| {
        blocking().into_iter().chain(started()).map(move |(name, call)| {
            Case::new(format!("rank {odd} not in {name}"), &[&format!("{name} #1")], move |w| {
                if w.rank() == odd { Ok(()) } else { call(w) }
            })
        })
    });
    all_end(cases.collect());
}

#[test]
fn a_rank_that_starts_two_in_another_order_is_found() {
    let calls = blocking();
    let cases = (0..calls.len()).map(|at| {
        let ((a, first), (b, second)) = (calls[at], calls[(at + 1) % calls.len()]);
        Case::new(format!("{a} and {b} the other way around on rank 1"), &[a, b], move |w| {
            let one_then_other = if w.rank() == 1 { [second, first] } else { [first, second] };
            one_then_other.into_iter().try_for_each(|call| call(w))
        })
    });
    all_end(cases.collect());
}

#[test]
fn one_under_way_that_another_rank_never_starts_is_found() {
    let cases = (0..RANKS).map(|odd| {
        Case::new(format!("rank {odd} starts no barrier"), &["barrier #1"], move |w| {
            if w.rank() == odd {
                return Ok(());
            }
            let never_over = ibarrier(w)?;
            never_over.wait()
        })
    });
    all_end(cases.collect());
}

/// The collectives of key-value tables, of one row of these types and such a root.
fn kv<K: Element + Hash + Eq, V: Element, C: Combiner<[V]> + Default, const ROOT: u32>() -> Vec<Call> {
    vec![
        ("regroup_kv", |w| regroup_kv(w, &mut one_row::<K, V, C>())),
        ("allreduce_kv", |w| allreduce_kv(w, &mut one_row::<K, V, C>())),
        ("reduce_kv", |w| reduce_kv(w, &mut one_row::<K, V, C>(), ROOT)),
        ("broadcast_kv", |w| broadcast_kv(w, &mut one_row::<K, V, C>(), ROOT)),
        ("group_by_key", |w| group_by_key::<K, V>(w, vec![K::zeroed()], vec![V::zeroed()]).map(drop)),
    ]
}

/// Their started forms.
fn ikv() -> Vec<Call> {
    fn t() -> KvTable<u32, f64, Sum> {
        one_row()
    }
    vec![
        ("regroup_kv", |w| iregroup_kv(w, t())?.wait().map(drop)),
        ("allreduce_kv", |w| iallreduce_kv(w, t())?.wait().map(drop)),
        ("reduce_kv", |w| ireduce_kv(w, t(), 0)?.wait().map(drop)),
        ("broadcast_kv", |w| ibroadcast_kv(w, t(), 0)?.wait().map(drop)),
        ("group_by_key", |w| igroup_by_key::<u32, f64>(w, vec![1], vec![1.0])?.wait().map(drop)),
    ]
}

fn one_row<K: Element + Hash + Eq, V: Element, C: Combiner<[V]> + Default>() -> KvTable<K, V, C> {
    let mut table = KvTable::new(C::default());
    table.add(K::zeroed(), V::zeroed());
    table
}

#[test]
fn of_each_pair_of_key_value_collectives_both_are_named() {
    let ours = kv::<u32, f64, Sum, 0>;
    all_end((0..RANKS).flat_map(|odd| pairs(&ours(), odd)).chain(pairs(&ikv(), 1)).collect());
    all_end_on([0, 1, 1], pairs(&ours(), 0));
}

#[test]
fn another_key_value_combiner_or_root_of_key_value_collectives_is_found() {
    let others = [
        (
            kv::<i32, f64, Sum, 0>(),
            &["regroup_kv", "allreduce_kv", "reduce_kv", "broadcast_kv", "group_by_key"][..],
        ),
        (
            kv::<u32, u64, Sum, 0>(),
            &["regroup_kv", "allreduce_kv", "reduce_kv", "broadcast_kv", "group_by_key"],
        ),
        (kv::<u32, f64, Max, 0>(), &["regroup_kv", "allreduce_kv", "reduce_kv", "broadcast_kv"]),
        (kv::<u32, f64, Sum, 1>(), &["reduce_kv", "broadcast_kv"]),
    ];
    let mut cases = Vec::new();
    for (theirs, those) in others {
        for (ours, theirs) in kv::<u32, f64, Sum, 0>().into_iter().zip(theirs) {
            let says = format!("{} #1", ours.0);
            let found = (0..RANKS).filter(|_| those.contains(&ours.0));
            cases.extend(found.map(|odd| odd_one(odd, ours, theirs, &[&says])));
        }
    }
    all_end(cases);
}
