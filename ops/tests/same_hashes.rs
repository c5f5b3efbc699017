//! Keys whose hashes were made to be the same: keyed reductions give what they would of others, in time and memory that are bounded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so and ends")]

use aeolian_net::World;
use aeolian_ops::record::{Reader, Writer};
use aeolian_ops::{
    Batch, Dataflow, Distinct, Insert, Key, KeyedReduce, LogicalPlan, Operator, Options, Record, taking,
};
use std::cell::Cell;
use std::cmp::Ordering;

thread_local! {
    /// How often this rank compared keys.
    static COMPARED: Cell<u64> = const { Cell::new(0) };
}

#[derive(Debug, Clone, Copy)]
struct Same(u64);

impl Record for Same {
    const SIZE: Option<usize> = Some(8);

    fn size(&self) -> usize {
        8
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        self.0.put(out)
    }

    fn get(input: &mut Reader<'_>) -> Option<Same> {
        u64::get(input).map(Same)
    }
}

impl Key for Same {
    fn hash(&self, _: u64) -> u64 {
        7
    }

    fn order(&self, other: &Same) -> Ordering {
        COMPARED.set(COMPARED.get() + 1);
        self.0.cmp(&other.0)
    }
}

const KEYS: u64 = 40_000;

/// Runs this at each rank of two; all that targets got, the most that any operator of a rank held, and the most that one compared.
fn at_two<T: Send>(
    memory: u64,
    run: impl Fn(&Dataflow, &LogicalPlan, &mut Vec<T>) -> Result<(), aeolian_ops::OpsError> + Sync,
) -> (Vec<T>, u64, u64) {
    let ranks = World::local(2, |world| {
        COMPARED.set(0);
        let options = Options { memory, batch: 8192, ..Options::detect(world.layout(), world.rank())? };
        let flow = Dataflow::with(&world, options);
        let mut got = Vec::new();
        run(&flow, &LogicalPlan::each_rank(&world), &mut got)?;
        world.finish()?;
        Ok((got, flow.memory().peak(), COMPARED.get()))
    });
    let (mut all, mut held, mut compared) = (Vec::new(), 0, 0);
    for (got, peak, count) in ranks.unwrap() {
        all.extend(got);
        (held, compared) = (held.max(peak), compared.max(count));
    }
    (all, held, compared)
}

#[test]
fn reduced_and_distinct_as_other_keys_are() {
    for memory in [1 << 30, 1 << 18] {
        let (mut sums, held, compared) = at_two(memory, |flow, plan, got| {
            let me = flow.world().rank();
            let take =
                taking(|_, batch: Batch<(Same, u64)>| got.extend(batch.map(|(key, sum)| (key.0, sum))));
            let mut op = KeyedReduce::new(flow, plan, |a: &mut u64, b| *a += b, take)?;
            op.insert_all(me, (0..2 * KEYS).map(|i| (Same(i % KEYS), 1 + u64::from(me))))?;
            op.finish(me)?;
            op.complete()
        });
        sums.sort();
        assert!(sums.into_iter().eq((0..KEYS).map(|key| (key, 6))));
        // All with all would be 800 million.
        assert!(compared < 20_000_000, "{compared}");
        assert!(memory > 1 << 18 || held < 1 << 20, "{held}");

        let (mut keys, held, compared) = at_two(memory, |flow, plan, got| {
            let me = flow.world().rank();
            let take = taking(|_, batch: Batch<Same>| got.extend(batch.map(|key| key.0)));
            let mut op = Distinct::new(flow, plan, take)?;
            op.insert_all(me, (0..KEYS).map(Same))?;
            op.finish(me)?;
            op.complete()
        });
        keys.sort();
        assert!(keys.into_iter().eq(0..KEYS));
        assert!(compared < 20_000_000, "{compared}");
        assert!(memory > 1 << 18 || held < 1 << 20, "{held}");
    }
}
