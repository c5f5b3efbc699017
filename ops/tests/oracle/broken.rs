//! Records of a program's own that do not keep their word once they are combined: they are told, not dropped.

use aeolian_net::World;
use aeolian_ops::record::{Reader, Writer};
use aeolian_ops::{AllReduce, Batch, Dataflow, Insert, KeyedReduce, LogicalPlan, OpsError, Record, taking};

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

/// What one rank is told that inserts two records of this length.
fn told(len: u64, of_keys: bool, memory: u64) -> String {
    let world = World::alone();
    let mut options = aeolian_ops::Options::detect(world.layout(), 0).unwrap();
    options.memory = memory;
    let flow = Dataflow::with(&world, options);
    let plan = LogicalPlan::each_rank(&world);
    let records = [Odd { parts: 1, len }, Odd { parts: 1, len }];
    fn run<T, O: Insert<T>>(mut op: O, records: impl IntoIterator<Item = T>) -> Result<(), OpsError> {
        op.insert_all(0, records)?;
        op.finish(0)?;
        op.complete()
    }
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
