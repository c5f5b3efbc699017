//! Streams: watermarks and idle sources, what waits for more to go with it, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

use aeolian_net::{NetError, World};
use aeolian_ops::{
    Batch, Broadcast, ByHash, Dataflow, Direct, Full, Insert, InsertError, KeyedReduce, LogicalPlan,
    Operator, Options, Partition, Receiver, Sort, Streaming, drive, taking,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq)]
enum Got {
    /// Source, and time.
    Record(u32, i64),
    Watermark(i64),
    Barrier,
}

/// (target, what it got)
type Log = Rc<RefCell<Vec<(u32, Got)>>>;

/// Takes a few at random and gives the rest back.
struct Moody {
    log: Log,
    refuse: u64,
    random: Random,
}

impl Receiver<Batch<(u32, i64)>> for Moody {
    fn receive(&mut self, target: u32, mut batch: Batch<(u32, i64)>) -> Result<(), Full<Batch<(u32, i64)>>> {
        let few = match self.refuse > 0 && self.random.below(self.refuse) == 0 {
            true => self.random.below(5) as usize,
            false => usize::MAX,
        };
        let taken = batch.by_ref().take(few).map(|(source, time)| (target, Got::Record(source, time)));
        self.log.borrow_mut().extend(taken);
        if batch.is_empty() { Ok(()) } else { Err(Full(batch)) }
    }

    fn watermark(&mut self, target: u32, time: i64) {
        self.log.borrow_mut().push((target, Got::Watermark(time)));
    }

    fn barrier(&mut self, target: u32, _: &[(u32, Vec<u8>)]) {
        self.log.borrow_mut().push((target, Got::Barrier));
    }
}

/// splitmix64.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % n.max(1)
    }
}

#[derive(Debug, Clone)]
struct Trial {
    ranks: u32,
    sources: Vec<u32>,
    targets: Vec<u32>,
    records: i64,
    batch: usize,
    window: u64,
    latency: u64,
    refuse: u64,
    to_all: bool,
    idle: bool,
    seed: u64,
}

fn trials() -> impl Strategy<Value = Trial> {
    let ranks = prop::sample::select(vec![1u32, 2, 3, 5, 8]);
    let shape = ranks.prop_flat_map(|ranks| {
        let tasks = || prop::collection::vec(0..ranks, 1..6);
        (Just(ranks), tasks(), tasks())
    });
    let sizes = (
        prop::sample::select(vec![1usize, 100, 64 << 10]),
        prop::sample::select(vec![1u64, 500, 4 << 20]),
        prop::sample::select(vec![0u64, 50, 3000]),
    );
    (
        shape,
        sizes,
        0i64..300,
        prop::sample::select(vec![0u64, 2, 5]),
        any::<bool>(),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(
            |((ranks, sources, targets), (batch, window, latency), records, refuse, to_all, idle, seed)| {
                Trial { ranks, sources, targets, records, batch, window, latency, refuse, to_all, idle, seed }
            },
        )
}

impl Trial {
    /// Each source inserts the times 0, 1, 2 .. and says so, not each time; some are idle for a while, with or without records that are late then.
    fn on_rank<O: Insert<(u32, i64)>>(
        &self,
        op: &mut O,
        world: &World,
        random: &mut Random,
    ) -> Result<(), NetError> {
        let mut mine: Vec<(u32, i64)> = (0..)
            .zip(&self.sources)
            .filter(|(_, rank)| **rank == world.rank())
            .map(|(s, _)| (s, 0))
            .collect();
        let mut at_barrier = vec![false; self.sources.len()];
        while !mine.is_empty() {
            let at = random.below(mine.len() as u64) as usize;
            let (source, next) = &mut mine[at];
            for _ in 0..=random.below(20) {
                if *next == self.records {
                    break;
                }
                match op.insert(*source, (*source, *next)) {
                    Ok(()) => *next += 1,
                    Err(InsertError::Full(_)) => break,
                    Err(InsertError::Failed(e)) => return Err(e.into()),
                }
            }
            match random.below(6) {
                0..3 => op.watermark(*source, *next)?,
                // One that has been said already, or is earlier.
                3 => op.watermark(*source, *next - random.below(9) as i64)?,
                4 if self.idle => op.idle(*source)?,
                _ => {}
            }
            // One barrier, somewhere.
            if *next >= self.records / 2 && !std::mem::replace(&mut at_barrier[*source as usize], true) {
                op.barrier(*source, Vec::new())?;
            }
            if *next == self.records {
                op.finish(*source)?;
                mine.swap_remove(at);
            }
            match random.below(3) {
                0 => drop(op.progress()?),
                1 => {
                    let mut once = false;
                    drive(op, |_| Ok(std::mem::replace(&mut once, true).then_some(())))?;
                }
                _ => {}
            }
        }
        op.complete()?;
        Ok(())
    }

    fn run(&self) -> Vec<Vec<(u32, Got)>> {
        World::local(self.ranks, |world| {
            let options = Options { batch: self.batch, ..Options::detect(world.layout(), world.rank())? };
            world.set_window(self.window);
            let latency = Duration::from_micros(self.latency);
            let flow = Dataflow::with(&world, options).streaming(Streaming { latency });
            let plan = LogicalPlan::new(&world, 0, 0).sources_on(&self.sources)?.targets_on(&self.targets)?;
            let mut random = Random(self.seed ^ u64::from(world.rank()) << 32);
            let log = Log::default();
            let moody = Moody { log: log.clone(), refuse: self.refuse, random: random.clone() };
            if self.to_all {
                self.on_rank(&mut Broadcast::new(&flow, &plan, moody)?, &world, &mut random)?;
            } else {
                self.on_rank(&mut Partition::new(&flow, &plan, ByHash, moody)?, &world, &mut random)?;
            }
            assert_eq!(flow.memory().used(), 0);
            world.finish()?;
            Ok(log.take())
        })
        .unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn watermarks_are_where_they_belong(trial in trials()) {
        let logs = trial.run();
        let mut records = 0;
        for (target, rank) in (0..).zip(&trial.targets) {
            let mine: Vec<&Got> =
                logs[*rank as usize].iter().filter(|(t, _)| *t == target).map(|(_, got)| got).collect();
            let (mut watermark, mut barriers) = (i64::MIN, 0);
            let mut last = vec![-1; trial.sources.len()];
            for got in &mine {
                match got {
                    Got::Record(source, time) => {
                        // Nothing lost, twice or out of order: to all, each one follows the one before.
                        let before = std::mem::replace(&mut last[*source as usize], *time);
                        let follows = if trial.to_all { *time == before + 1 } else { *time > before };
                        prop_assert!(follows, "{} after {}", time, before);
                        // (Of one that was idle the others did not wait.)
                        prop_assert!(trial.idle || *time >= watermark, "{} after watermark {}", time, watermark);
                        records += 1;
                    }
                    Got::Watermark(time) => {
                        prop_assert!(*time > watermark, "{} after {}", time, watermark);
                        watermark = *time;
                    }
                    Got::Barrier => {
                        barriers += 1;
                        // What was before it has come, what is after it has not.
                        if trial.to_all {
                            prop_assert!(last.iter().all(|last| *last + 1 >= trial.records / 2));
                        }
                    }
                }
            }
            prop_assert_eq!((barriers, watermark), (1, i64::MAX));
            prop_assert_eq!(mine.last(), Some(&&Got::Watermark(i64::MAX)), "it is the last thing to come");
        }
        let times = if trial.to_all { trial.targets.len() } else { 1 };
        prop_assert_eq!(records, trial.records as usize * trial.sources.len() * times);
    }
}

/// Without an end, and without anything more: what has been inserted comes.
#[test]
fn a_record_comes_though_no_other_does() {
    World::local(2, |mut world| {
        // (The batch is far from full, and would have to wait longer than the test may take.)
        let flow = Dataflow::new(&world)?.streaming(Streaming { latency: Duration::from_secs(3600) });
        let plan = LogicalPlan::each_rank(&world).targets_on(&[1, 0])?;
        let got = RefCell::new(Vec::new());
        let mut op =
            Direct::new(&flow, &plan, taking(|_, batch: Batch<u64>| got.borrow_mut().extend(batch)))?;
        let back = world.open_edge()?;
        for n in 0..3 {
            op.insert_all(world.rank(), [n])?;
            // Rank 0 waits in a call of the operator; rank 1 elsewhere, and says before that it will.
            if world.rank() == 0 {
                drive(&mut op, |_| Ok((got.borrow().len() > n as usize).then_some(())))?;
                world.send(back, 1, n, aeolian_net::Buf::empty())?;
            } else {
                op.hurry()?;
                world.recv(back)?;
            }
        }
        op.finish(world.rank())?;
        op.complete()?;
        assert_eq!(*got.borrow(), [0, 1, 2]);
        drop(op);
        world.finish()
    })
    .unwrap();
}

/// With an idle source there is a watermark of the others; none if all are, until one is not.
#[test]
fn idle_sources_hold_nobody_up() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap().streaming(Streaming::default());
    let plan = LogicalPlan::new(&world, 3, 1);
    let log = Log::default();
    let moody = Moody { log: log.clone(), refuse: 0, random: Random(1) };
    let mut op = Partition::new(&flow, &plan, ByHash, moody).unwrap();
    let told = |op: &mut Partition<_, _, _>| {
        while op.progress().unwrap() | op.hurry().unwrap() {}
        log.take().into_iter().map(|(_, got)| got).collect::<Vec<_>>()
    };
    op.watermark(0, 10).unwrap();
    op.watermark(1, 20).unwrap();
    assert_eq!(told(&mut op), []);
    op.idle(2).unwrap();
    assert_eq!(told(&mut op), [Got::Watermark(10)]);
    op.watermark(0, 30).unwrap();
    assert_eq!(told(&mut op), [Got::Watermark(20)]);
    // One that comes back with an earlier time: it is late, and the watermark does not go back.
    op.watermark(2, 5).unwrap();
    op.insert(2, (2, 5)).unwrap();
    assert_eq!(told(&mut op), [Got::Record(2, 5)]);
    op.watermark(2, 40).unwrap();
    op.idle(0).unwrap();
    op.idle(1).unwrap();
    assert_eq!(told(&mut op), [Got::Watermark(40)]);
    op.idle(2).unwrap();
    // Those that have finished do not speak for those that are idle.
    op.finish(0).unwrap();
    op.finish(1).unwrap();
    assert_eq!(told(&mut op), []);
    op.watermark(2, 50).unwrap();
    assert_eq!(told(&mut op), [Got::Watermark(50)]);
    op.finish(2).unwrap();
    op.complete().unwrap();
    assert_eq!(told(&mut op), [Got::Watermark(i64::MAX)]);
}

/// What a source says at a barrier is for after it.
#[test]
fn a_watermark_does_not_overtake_a_barrier() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap().streaming(Streaming::default());
    let log = Log::default();
    let moody = Moody { log: log.clone(), refuse: 0, random: Random(1) };
    let mut op = Partition::new(&flow, &LogicalPlan::new(&world, 2, 1), ByHash, moody).unwrap();
    op.barrier(0, Vec::new()).unwrap();
    op.watermark(0, 10).unwrap();
    op.watermark(1, 10).unwrap();
    while op.progress().unwrap() | op.hurry().unwrap() {}
    assert_eq!(log.take(), []);
    op.barrier(1, Vec::new()).unwrap();
    while op.progress().unwrap() | op.hurry().unwrap() {}
    assert_eq!(log.take(), [(0, Got::Barrier), (0, Got::Watermark(10))]);
}

/// What a receiver does not take stays with the source, which hears of it.
#[test]
fn a_slow_receiver_slows_the_source() {
    World::local(2, |world| {
        let options = Options { batch: 1 << 10, ..Options::detect(world.layout(), world.rank())? };
        world.set_window(4 << 10);
        let flow = Dataflow::with(&world, options).streaming(Streaming::default());
        let plan = LogicalPlan::new(&world, 0, 0).sources_on(&[0])?.targets_on(&[1])?;
        let taken = RefCell::new(0u64);
        let may_take = std::cell::Cell::new(false);
        let mut op = Direct::new(&flow, &plan, |_, batch: Batch<u64>| {
            if !may_take.get() {
                return Err(Full(batch));
            }
            *taken.borrow_mut() += batch.count() as u64;
            Ok(())
        })?;
        let full = world.open_edge()?;
        if world.rank() == 0 {
            // It takes what a window and a few batches hold, and no more for as long as it is asked.
            let (mut inserted, begin) = (0u64, Instant::now());
            let mut last = begin;
            while last.elapsed() < Duration::from_millis(200) && inserted * 8 < 64 << 10 {
                match op.insert(0, inserted) {
                    Ok(()) => (inserted, last) = (inserted + 1, Instant::now()),
                    Err(InsertError::Full(_)) => drop(op.progress()?),
                    Err(InsertError::Failed(e)) => return Err(e.into()),
                }
            }
            assert!(inserted * 8 < 32 << 10, "{inserted} records of 8 bytes with 4 KiB of room");
            world.handle().send(full, 1, inserted, aeolian_net::Buf::empty())?;
            op.finish(0)?;
            op.complete()?;
        } else {
            let mut inserted = None;
            drive(&mut op, |_| {
                inserted = inserted.take().or(world.try_recv(full)?.map(|m| m.tag));
                Ok(inserted.map(drop))
            })?;
            may_take.set(true);
            op.complete()?;
            assert_eq!(Some(*taken.borrow()), inserted);
            assert_eq!(flow.spill().report().bytes_written, 0, "nothing of a stream goes to a disk");
        }
        drop(op);
        world.finish()
    })
    .unwrap();
}

#[test]
fn what_is_not_for_streams_says_so() {
    let world = World::alone();
    let flow = Dataflow::new(&world).unwrap();
    let plan = LogicalPlan::each_rank(&world);
    let mut op = Direct::new(&flow, &plan, taking(|_, _: Batch<u8>| {})).unwrap();
    let error = op.watermark(0, 1).unwrap_err().to_string();
    assert!(
        error.contains("direct #1 on rank 0: it is not a stream's, which Dataflow::streaming makes"),
        "{error}"
    );
    assert!(op.idle(0).is_err());
    let streams = flow.streaming(Streaming::default());
    let sort = Sort::<u8, _, _>::new(&streams, &plan, aeolian_ops::Ascending, taking(|_, _: Batch<u8>| {}));
    let error = sort.err().unwrap().to_string();
    assert!(
        error.contains("sort gives nothing before all sources have finished: it is not for streams"),
        "{error}"
    );
    let sums =
        KeyedReduce::new(&streams, &plan, |a: &mut u64, b| *a += b, taking(|_, _: Batch<(u8, u64)>| {}));
    assert!(sums.is_err());
    let mut op = Direct::new(&streams, &plan, taking(|_, _: Batch<u8>| {})).unwrap();
    op.finish(0).unwrap();
    let error = op.watermark(0, 1).unwrap_err().to_string();
    assert!(error.contains("source 0 cannot have a watermark: it has finished"), "{error}");
}
