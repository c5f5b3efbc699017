//! What operators take in memory, by an allocator that counts: not much more than the budget, whatever they are given.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

use aeolian_net::World;
use aeolian_ops::record::{Reader, Writer};
use aeolian_ops::{
    Ascending, Batch, Dataflow, Group, Insert, Join, JoinAlgorithm, JoinKind, Key, KeyedGather, LogicalPlan,
    Operator, Options, Order, Record, Sort, taking,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

const MB: u64 = 1 << 20;

thread_local! {
    /// Bytes that this thread has of the heap, and the most that it had.
    static HEAP: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
    static READ: Cell<u64> = const { Cell::new(0) };
}

/// The system's, which counts. (Batches and tables of 4 KiB and more are of the pool: those are in the budget's own account.)
struct Counting;

fn count(more: i64) {
    let _ = HEAP.try_with(|heap| {
        let (now, most) = heap.get();
        heap.set((now + more, most.max(now + more)));
    });
}

// SAFETY: all is the system's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs this with such a budget; returns what it does, the most bytes of the heap that it took, and the most that were accounted for.
fn within<T>(memory: u64, run: impl FnOnce(&Dataflow, &LogicalPlan) -> T) -> (T, u64, u64) {
    let world = World::alone();
    let options = Options { memory, ..Options::detect(world.layout(), 0).unwrap() };
    let flow = Dataflow::with(&world, options);
    let before = HEAP.get().0;
    HEAP.set((before, before));
    let result = run(&flow, &LogicalPlan::each_rank(&world));
    let heap = (HEAP.get().1 - before) as u64;
    assert_eq!(flow.memory().used(), 0);
    (result, heap, flow.memory().peak())
}

/// Gathers these pairs; how many came, and bytes written to disk.
fn gather<K: Key, V: Record>(
    flow: &Dataflow,
    plan: &LogicalPlan,
    order: Order,
    pairs: impl Iterator<Item = (K, V)>,
    mut look: impl FnMut(K, &Batch<V>),
) -> (u64, u64) {
    let mut came = 0;
    let take = taking(|_, group: Group<K, V>| {
        look(group.key, &group.values);
        came += group.values.count() as u64;
    });
    let mut op = KeyedGather::new(flow, plan, order, take).unwrap();
    op.insert_all(0, pairs).unwrap();
    op.finish(0).unwrap();
    op.complete().unwrap();
    drop(op);
    (came, flow.spill().report().bytes_written)
}

#[test]
fn short_words_are_sorted_within_the_budget() {
    let pairs = (0..1_000_000u64).map(|i| ((i * 7919 % 1000).to_string(), i as u8));
    let run = |flow: &_, plan: &_| gather(flow, plan, Order::ByKey, pairs, |_, _| ());
    let ((came, written), heap, accounted) = within(8 * MB, run);
    assert!(came == 1_000_000 && written > 4 * MB, "{came} {written}");
    assert!(heap < 8 * MB && accounted < 10 * MB, "{heap} {accounted}");
}

#[test]
fn words_that_begin_alike_are_sorted_within_the_budget() {
    let pairs = (0..300_000u64).map(|i| (format!("the same word {}", i * 7919 % 100_003), i));
    let mut last = String::new();
    let look = |key: String, values: &Batch<u64>| {
        assert!(last < key && values.as_slice().is_sorted(), "{last} {key} {values:?}");
        last = key;
    };
    let run = |flow: &_, plan: &_| gather(flow, plan, Order::ByKey, pairs, look);
    let ((came, _), heap, accounted) = within(8 * MB, run);
    assert_eq!(came, 300_000);
    assert!(heap < 8 * MB && accounted < 10 * MB, "{heap} {accounted}");
}

/// Batches of short pairs fit; what sorting them takes does not.
#[test]
fn a_part_that_was_never_on_disk_is_sorted_within_the_budget() {
    for order in [Order::Any, Order::ByKey] {
        let pairs = (0..2_000_000).map(|i| (7u8, i as u8));
        let run = |flow: &_, plan: &_| gather(flow, plan, order, pairs, |_, _| ());
        let ((came, written), _, accounted) = within(8 * MB, run);
        assert!(came == 2_000_000 && written > MB, "{came} {written}");
        assert!(accounted < 12 * MB, "{accounted}");
    }
}

/// Joins so many rows of one key on each side; what it gives are left rows.
fn join<L: Record, R: Record>(
    flow: &Dataflow,
    plan: &LogicalPlan,
    kind: JoinKind,
    algorithm: JoinAlgorithm,
    left: impl Iterator<Item = L>,
    right: impl Iterator<Item = R>,
) -> u64 {
    let key = || vec![1u8];
    let mut came = 0;
    let take = taking(|_, batch: Batch<u8>| came += batch.count() as u64);
    let row = |_: &Vec<u8>, left: Option<&L>, _: Option<&R>| u8::from(left.is_some());
    let mut op = Join::new(flow, plan, kind, algorithm, row, take).unwrap();
    op.insert_all_right(0, right.map(|row| (key(), row))).unwrap();
    op.insert_all_left(0, left.map(|row| (key(), row))).unwrap();
    op.finish(0).unwrap();
    op.complete().unwrap();
    drop(op);
    came
}

#[test]
fn a_table_of_short_rows_that_were_never_on_disk_is_within_the_budget() {
    let rows = || (0..200_000).map(|_| Vec::<u8>::new());
    for (kind, gives) in [(JoinKind::Semi, 200_000), (JoinKind::Anti, 0)] {
        let run = |flow: &_, plan: &_| join(flow, plan, kind, JoinAlgorithm::Hash, rows(), rows());
        let (came, heap, accounted) = within(4 * MB, run);
        assert_eq!(came, gives);
        assert!(heap < 4 * MB && accounted < 6 * MB, "{heap} {accounted}");
    }
}

/// A row that counts how often it is read.
struct Counted(u32);

impl Record for Counted {
    const SIZE: Option<usize> = Some(4);

    fn size(&self) -> usize {
        4
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        self.0.put(out)
    }

    fn get(input: &mut Reader<'_>) -> Option<Counted> {
        READ.set(READ.get() + 1);
        u32::get(input).map(Counted)
    }
}

/// Right rows are held in many portions, of which the first tells all.
#[test]
fn left_rows_that_have_matched_are_not_read_again() {
    let rows = 40_000u32;
    for (kind, gives) in [(JoinKind::Semi, u64::from(rows)), (JoinKind::Anti, 0)] {
        READ.set(0);
        let run = |flow: &_, plan: &_| {
            join(flow, plan, kind, JoinAlgorithm::SortMerge, (0..rows).map(Counted), 0..rows)
        };
        let (came, ..) = within(64 << 10, run);
        assert_eq!(came, gives);
        // Where they are put aside, and where they are matched.
        assert!(READ.get() <= 2 * u64::from(rows), "{}", READ.get());
    }
}

#[test]
fn whether_left_rows_have_matched_is_accounted_for() {
    let run = |flow: &_, plan: &_| {
        join(flow, plan, JoinKind::Semi, JoinAlgorithm::SortMerge, 0..1_000_000u32, 0..20_000u32)
    };
    let (came, _, accounted) = within(64 << 10, run);
    assert!(came == 1_000_000 && (1_000_000..2 * MB).contains(&accounted), "{came} {accounted}");
}

#[test]
fn a_sample_of_long_records_is_within_the_budget() {
    let run = |flow: &_, plan: &_| {
        let mut last = String::new();
        let mut came = 0;
        let take = taking(|_, batch: Batch<String>| {
            for record in batch {
                assert!(last <= record);
                (came, last) = (came + 1, record);
            }
        });
        let mut op = Sort::new(flow, plan, Ascending, take).unwrap();
        op.insert_all(0, (0..2000u64).map(|i| format!("{:0>8000}", i * 7919 % 2003))).unwrap();
        op.finish(0).unwrap();
        op.complete().unwrap();
        drop(op);
        came
    };
    let (came, heap, accounted) = within(2 * MB, run);
    assert_eq!(came, 2000);
    assert!(heap < 2 * MB && accounted < 4 * MB, "{heap} {accounted}");
}
