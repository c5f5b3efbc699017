//! A trial: ranks, a plan, what sources insert, and receivers that refuse at random.

use aeolian_net::{NetError, WINDOW, World};
use aeolian_ops::{
    Batch, Dataflow, Full, Group, Insert, InsertError, Key, LogicalPlan, OpsError, Options, Receiver, Record,
    Streaming, Ways, drive,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The plan, and how everything goes.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    /// rank -> its node
    pub(crate) nodes: Vec<u32>,
    pub(crate) ways: Ways,
    /// The rank of each.
    pub(crate) sources: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    /// Bytes of a batch.
    pub(crate) batch: usize,
    /// The budget.
    pub(crate) memory: u64,
    /// Of each edge to one rank.
    pub(crate) window: u64,
    /// Records of source 0; those of others are about as many.
    pub(crate) records: usize,
    pub(crate) rounds: u32,
    /// Barriers in a round.
    pub(crate) barriers: u32,
    /// Receivers refuse one time in so many; 0: never.
    pub(crate) refuse: u64,
    pub(crate) seed: u64,
}

/// Trials with at least one source and target.
pub(crate) fn trials() -> impl Strategy<Value = Trial> {
    let ranks = prop::sample::select(vec![1u32, 2, 3, 5, 7, 8]);
    let shape = ranks.prop_flat_map(|ranks| {
        let tasks = || prop::collection::vec(0..ranks, 1..6);
        (prop::collection::vec(0u32..3, ranks as usize), tasks(), tasks())
    });
    let ways = prop::sample::select(vec![Ways::Direct, Ways::ByNode, Ways::Suitable]);
    let sizes = (
        prop::sample::select(vec![1usize, 40, 1000, 64 << 10]),
        prop::sample::select(vec![0u64, 5000, 1 << 30]),
        prop::sample::select(vec![1u64, 500, WINDOW, WINDOW]),
    );
    (
        (shape, ways),
        sizes,
        0usize..400,
        1u32..4,
        0u32..3,
        prop::sample::select(vec![0u64, 2, 5]),
        any::<u64>(),
    )
        .prop_map(
            |(
                ((nodes, sources, targets), ways),
                (batch, memory, window),
                records,
                rounds,
                barriers,
                refuse,
                seed,
            )| {
                Trial {
                    nodes,
                    ways,
                    sources,
                    targets,
                    batch,
                    memory,
                    window,
                    records,
                    rounds,
                    barriers,
                    refuse,
                    seed,
                }
            },
        )
}

/// splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % n.max(1)
    }
}

/// What a target got in a round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got<T> {
    Record(T),
    Barrier(Vec<(u32, Vec<u8>)>),
}

/// (target, what it got), of one rank in one round.
pub(crate) type Log<T> = Vec<(u32, Got<T>)>;

/// Takes records at random, gives the rest back.
pub(crate) struct Moody<T> {
    pub(crate) log: Rc<RefCell<Log<T>>>,
    refuse: u64,
    random: Random,
}

impl<T: Record> Receiver<Batch<T>> for Moody<T> {
    fn receive(&mut self, target: u32, mut batch: Batch<T>) -> Result<(), Full<Batch<T>>> {
        let few = if self.refuse > 0 && self.random.below(self.refuse) == 0 {
            self.random.below(5) as usize
        } else {
            usize::MAX
        };
        self.log.borrow_mut().extend(batch.by_ref().take(few).map(|record| (target, Got::Record(record))));
        if batch.is_empty() { Ok(()) } else { Err(Full(batch)) }
    }

    fn barrier(&mut self, target: u32, marks: &[(u32, Vec<u8>)]) {
        self.log.borrow_mut().push((target, Got::Barrier(marks.to_vec())));
    }
}

impl<K: Key, V: Record> Receiver<Group<K, V>> for Moody<(K, Vec<V>, bool)> {
    fn receive(&mut self, target: u32, group: Group<K, V>) -> Result<(), Full<Group<K, V>>> {
        if self.refuse > 0 && self.random.below(self.refuse) == 0 {
            return Err(Full(group));
        }
        let item = (group.key, group.values.collect(), group.is_last);
        self.log.borrow_mut().push((target, Got::Record(item)));
        Ok(())
    }

    fn barrier(&mut self, target: u32, marks: &[(u32, Vec<u8>)]) {
        self.log.borrow_mut().push((target, Got::Barrier(marks.to_vec())));
    }
}

impl<T: Record> Receiver<T> for Moody<T> {
    fn receive(&mut self, target: u32, item: T) -> Result<(), Full<T>> {
        if self.refuse > 0 && self.random.below(self.refuse) == 0 {
            return Err(Full(item));
        }
        self.log.borrow_mut().push((target, Got::Record(item)));
        Ok(())
    }

    fn barrier(&mut self, target: u32, marks: &[(u32, Vec<u8>)]) {
        self.log.borrow_mut().push((target, Got::Barrier(marks.to_vec())));
    }
}

impl Trial {
    /// How many records a source inserts in a round, between which come the barriers.
    pub(crate) fn records_of(&self, source: u32, round: u32) -> usize {
        (self.records * (1 + source as usize * 7 % 3) / 2).saturating_sub(round as usize)
    }

    /// Where in its records barrier `b` of a source is.
    pub(crate) fn place_of(&self, source: u32, round: u32, barrier: u32) -> usize {
        self.records_of(source, round) * (barrier as usize + 1 + source as usize % 2)
            / (self.barriers as usize + 2)
    }

    pub(crate) fn mark(&self, source: u32, round: u32, barrier: u32) -> Vec<u8> {
        vec![(source + round) as u8; barrier as usize]
    }

    /// For operators that may be a stream's, half of them are.
    pub(crate) fn maybe_streaming(&self, flow: &Dataflow) -> Dataflow {
        match self.seed % 2 {
            0 => flow.clone(),
            _ => flow.streaming(Streaming { latency: Duration::from_micros(self.seed % 300) }),
        }
    }

    /// Runs it: `make` makes the operator, `record` what source, round and place give. Returns the logs by round, then rank.
    pub(crate) fn run<I, T, O>(
        &self,
        make: impl Fn(&Dataflow, &LogicalPlan, Moody<T>) -> Result<O, OpsError> + Sync,
        record: impl Fn(u32, u32, usize) -> I + Sync,
    ) -> Vec<Vec<Log<T>>>
    where
        T: Record + Clone + Send,
        O: Insert<I>,
    {
        let by_rank = World::local_nodes(&self.nodes, |world| {
            let logs = self.on_rank(&world, &make, &record)?;
            world.finish()?;
            Ok(logs)
        })
        .unwrap_or_else(|e| panic!("{self:?}: {e}"));
        (0..self.rounds as usize)
            .map(|round| by_rank.iter().map(|logs| logs[round].clone()).collect())
            .collect()
    }

    fn on_rank<I, T: Record + Clone, O: Insert<I>>(
        &self,
        world: &World,
        make: impl Fn(&Dataflow, &LogicalPlan, Moody<T>) -> Result<O, OpsError>,
        record: impl Fn(u32, u32, usize) -> I,
    ) -> Result<Vec<Log<T>>, NetError> {
        let options = Options {
            memory: self.memory,
            batch: self.batch,
            ways: self.ways,
            ..Options::detect(world.layout(), world.rank())?
        };
        world.set_window(self.window);
        let flow = Dataflow::with(world, options);
        let plan = LogicalPlan::new(world, 0, 0).sources_on(&self.sources)?.targets_on(&self.targets)?;
        let log: Rc<RefCell<Log<T>>> = Rc::default();
        let mut random = Random(self.seed ^ u64::from(world.rank()) << 32);
        let moody = Moody { log: log.clone(), refuse: self.refuse, random: random.clone() };
        let mut op = make(&flow, &plan, moody)?;
        let mut logs = Vec::new();
        for round in 0..self.rounds {
            if round > 0 {
                op.reset()?;
            }
            // Sources of this rank take turns at random; (source, records inserted, barriers passed).
            let mut mine: Vec<_> = plan.sources_of(world.rank()).map(|s| (s, 0, 0)).collect();
            while !mine.is_empty() {
                let at = random.below(mine.len() as u64) as usize;
                let (source, place, barrier) = &mut mine[at];
                // Sometimes a few at once, for which there need not be room now.
                if random.below(4) == 0 && !op.is_at_barrier(*source) {
                    let stop = match *barrier < self.barriers {
                        true => self.place_of(*source, round, *barrier),
                        false => self.records_of(*source, round),
                    };
                    let next = (*place + random.below(60) as usize).min(stop).max(*place);
                    op.insert_all(*source, (*place..next).map(|place| record(*source, round, place)))?;
                    *place = next;
                }
                for _ in 0..=random.below(20) {
                    if *barrier < self.barriers && *place >= self.place_of(*source, round, *barrier) {
                        // At the last one it may still be.
                        if !op.is_at_barrier(*source) {
                            op.barrier(*source, self.mark(*source, round, *barrier))?;
                            *barrier += 1;
                        }
                        break;
                    }
                    if *place == self.records_of(*source, round) {
                        break;
                    }
                    match op.insert(*source, record(*source, round, *place)) {
                        Ok(()) => *place += 1,
                        Err(InsertError::Full(_)) => break,
                        Err(InsertError::Failed(e)) => return Err(e.into()),
                    }
                }
                if *place == self.records_of(*source, round) && *barrier == self.barriers {
                    op.finish(*source)?;
                    mine.swap_remove(at);
                }
                // Sometimes messages come between two calls of the operator, as they do where there are others.
                if random.below(3) == 0 {
                    world.handle().progress()?;
                }
                // Sometimes nobody comes by for a while.
                if random.below(3) == 0 {
                    let mut once = false;
                    drive(&mut op, |_| Ok(std::mem::replace(&mut once, true).then_some(())))?;
                }
            }
            op.complete()?;
            assert!(op.is_complete());
            logs.push(log.take());
        }
        drop(op);
        assert_eq!(flow.memory().used(), 0, "what was reserved is given back");
        Ok(logs)
    }
}
