//! Records of a program's own that do not keep their word once they are combined: they are told, not dropped.

use aeolian_net::{NetError, World};
use aeolian_ops::record::{Reader, Writer};
use aeolian_ops::{
    AllReduce, Ascending, Batch, Dataflow, Direct, Distinct, Full, Insert, Join, JoinAlgorithm, JoinKind,
    KeyedGather, KeyedReduce, LogicalPlan, Operator, OpsError, Order, Receiver, Record, Reduce, Sort, TopK,
    taking, trying,
};
use std::cell::Cell;

/// Says that it has nine bytes, whatever it has; one of two parts and more cannot be read.
#[derive(Debug, Clone, PartialEq)]
struct Odd {
    parts: u8,
    len: u64,
}

impl Record for Odd {
    const SIZE: Option<usize> = None;

    fn size(&self) -> usize {
        9
    }

    fn put(&self, out: &mut Writer<'_>) -> Option<()> {
        self.parts.put(out)?;
        self.len.put(out)?;
        out.bytes(&vec![0; self.len as usize])
    }

    fn get(input: &mut Reader<'_>) -> Option<Odd> {
        let (parts, len) = (u8::get(input)?, u64::get(input)?);
        input.bytes(len as usize)?;
        (parts < 2).then_some(Odd { parts, len })
    }
}

fn combine(a: &mut Odd, b: Odd) {
    a.parts += b.parts;
    a.len += b.len;
}

fn run<T, O: Insert<T>>(mut op: O, records: impl IntoIterator<Item = T>) -> Result<(), OpsError> {
    op.insert_all(0, records)?;
    op.finish(0)?;
    op.complete()
}

/// What one rank is told that inserts two records of this length.
fn told(len: u64, of_keys: bool, memory: u64) -> String {
    let world = World::alone();
    let mut options = aeolian_ops::Options::detect(world.layout(), 0).unwrap();
    options.memory = memory;
    let flow = Dataflow::with(&world, options);
    let plan = LogicalPlan::each_rank(&world);
    let records = [Odd { parts: 1, len }, Odd { parts: 1, len }];
    let done = if of_keys {
        let take = taking(|_, batch: Batch<(u64, Odd)>| batch.for_each(drop));
        KeyedReduce::new(&flow, &plan, combine, take).and_then(|op| run(op, records.map(|r| (5, r))))
    } else {
        AllReduce::new(&flow, &plan, combine, taking(|_, _: Odd| {})).and_then(|op| run(op, records))
    };
    done.unwrap_err().to_string()
}

#[test]
fn records_that_break_their_word_are_told() {
    for memory in [0, 1 << 30] {
        for (of_keys, operator) in [(true, "keyed_reduce #1"), (false, "all_reduce #1")] {
            let long = told(300_000, of_keys, memory);
            assert!(long.contains(operator) && long.contains("cannot be written"), "{long}");
            let unreadable = told(0, of_keys, memory);
            assert!(unreadable.contains(operator) && unreadable.contains("cannot be read"), "{unreadable}");
        }
    }
}

/// What waited on the disk did not come by wire just now.
#[test]
fn what_cannot_be_read_says_whether_it_is_from_disk() {
    for (waits, from) in [(false, "a batch"), (true, "a spilled run")] {
        let world = World::alone();
        let mut options = aeolian_ops::Options::detect(world.layout(), 0).unwrap();
        (options.memory, options.batch) = (0, 1000);
        let flow = Dataflow::with(&world, options);
        let takes = Cell::new(!waits);
        let take = |_, batch: Batch<Odd>| match takes.get() {
            true => {
                batch.for_each(drop);
                Ok(())
            }
            false => Err(Full(batch)),
        };
        let mut op = Direct::new(&flow, &LogicalPlan::each_rank(&world), take).unwrap();
        let odd = |parts| Odd { parts, len: 0 };
        op.insert_all(0, std::iter::repeat_n(odd(1), 1000).chain([odd(2)])).unwrap();
        op.finish(0).unwrap();
        for _ in 0..100 * u32::from(waits) {
            op.progress().unwrap();
        }
        takes.set(true);
        let error = op.complete().unwrap_err().to_string();
        assert_eq!(flow.spill().report().blocks_written > 0, waits);
        assert!(
            error.starts_with(&format!("direct #1 on rank 0: {from} has records that cannot")),
            "{error}"
        );
    }
}

/// Has no room for anything, and says so when it is asked; meanwhile it gives back what it got, or drops it.
struct NoRoom {
    gives_back: bool,
}

impl<I> Receiver<I> for NoRoom {
    fn receive(&mut self, _: u32, item: I) -> Result<(), Full<I>> {
        if self.gives_back { Err(Full(item)) } else { Ok(()) }
    }

    fn error(&mut self) -> Option<OpsError> {
        Some(no_room().into())
    }
}

fn no_room() -> NetError {
    NetError::Above { code: 73, what: "no room".into() }
}

/// What becomes of each operator whose receiver `take` makes.
macro_rules! ends {
    ($take:expr) => {{
        let world = World::alone();
        let flow = Dataflow::new(&world).unwrap();
        let plan = LogicalPlan::each_rank(&world);
        let pairs = || (0..10u64).map(|i| (i % 3, i));
        let sum = |a: &mut u64, b: u64| *a += b;
        let make = |key: &u64, _: Option<&u64>, _: Option<&u64>| *key;
        [
            Direct::new(&flow, &plan, $take).and_then(|op| run(op, 0..10u64)),
            Reduce::new(&flow, &plan, sum, $take).and_then(|op| run(op, 0..10)),
            TopK::new(&flow, &plan, 3, $take).and_then(|op| run(op, 0..10u64)),
            Distinct::new(&flow, &plan, $take).and_then(|op| run(op, 0..10u64)),
            Sort::new(&flow, &plan, Ascending, $take).and_then(|op| run(op, 0..10u64)),
            KeyedReduce::new(&flow, &plan, sum, $take).and_then(|op| run(op, pairs())),
            KeyedGather::new(&flow, &plan, Order::Any, $take).and_then(|op| run(op, pairs())),
            Join::new(&flow, &plan, JoinKind::Left, JoinAlgorithm::Auto, make, $take).and_then(
                |mut op: Join<u64, u64, u64, _, _>| {
                    op.insert_all_left(0, pairs())?;
                    run(op, [])
                },
            ),
        ]
    }};
}

/// What a receiver fails with ends the operator, also if it gives back what it could not use.
#[test]
fn a_receiver_may_fail() {
    let all = [
        ends!(trying(|_, _| Err(no_room()))),
        ends!(NoRoom { gives_back: false }),
        ends!(NoRoom { gives_back: true }),
    ];
    for (number, end) in all.into_iter().flatten().enumerate() {
        let error = end.expect_err("there was no room");
        assert_eq!((error.exit_code(), error.to_string().as_str()), (73, "no room"), "{number}");
    }
}

/// Errors name the edge where there are several, and the operator where it is about all of them.
#[test]
fn errors_name_the_edge() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap();
    let plan = LogicalPlan::each_rank(&world);
    let make = |key: &u64, _: Option<&u64>, _: Option<&u64>| *key;
    let take = taking(|_, batch: Batch<u64>| batch.for_each(drop));
    let mut op: Join<u64, u64, u64, _, _> =
        Join::new(&flow, &plan, JoinKind::Inner, JoinAlgorithm::Auto, make, take).unwrap();
    let told = |end: Result<(), OpsError>| end.unwrap_err().to_string();
    assert_eq!(
        told(op.insert_all_left(7, [(1, 1)])),
        "join #1 (left side) on rank 0: there is no source 7, only 1"
    );
    assert_eq!(
        told(op.insert_all_right(7, [(1, 1)])),
        "join #1 (right side) on rank 0: there is no source 7, only 1"
    );
    assert_eq!(told(op.reset()), "join #1 on rank 0: reset before it was complete");
}
