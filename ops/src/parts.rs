//! [`Parts`]: the pairs of all targets of a rank, in parts, one pair a key.

use crate::batch::Batch;
use crate::common::Common;
use crate::dataflow::Dataflow;
use crate::error::{Result, Whose};
use crate::filling::Filling;
use crate::key::Key;
use crate::memory::Reservation;
use crate::record::Record;
use crate::spill::{Run, RunWriter};
use crate::table::{Table, TakenPairs};
use aeolian_net::Buf;

/// Bytes of batches that wait until their part has enough of them.
const HEAP: u64 = 16 << 20;
/// A part that was spilled is cut into so many, and each of them again if need be,
const CUTS: usize = 16;
/// so often at most: who is still too large then has keys whose hashes were made to be the same, and goes beyond the budget.
const DEPTH: u32 = 8;
/// Bytes of a batch that is read from the disk and cut.
const CUT: usize = 32 << 10;
/// A spilled part of which so little is left need not be cut: its table is no longer than a few blocks.
const SMALL: u64 = 4 << 20;
/// A part with less than this, or than its share of a quarter of the budget, is not worth a block of its own.
const LEAST: u64 = 128 << 10;

struct Part<K, V> {
    table: Table<K, V>,
    /// Batches that are not in the table yet.
    heap: Vec<Buf>,
    bytes: u64,
    /// Where the pairs are, once the part was spilled: its table stays empty from then on.
    run: Option<RunWriter>,
}

/// The parts of a rank's targets.
///
/// A batch touches other lines of its part's table with each record. So batches wait until there are many of one part: then its table
/// comes into the cache once for all of them.
///
/// When the budget is used up, the largest part goes to disk, with all that comes for it later (*hybrid hashing*: DeWitt et al.,
/// *Implementation techniques for main memory database systems*, 1984). At the end it comes back, and if it is too large still, is cut by
/// other bits of the hash.
pub(crate) struct Parts<K, V> {
    common: Common,
    /// How often what is here was cut after it had been spilled.
    depth: u32,
    /// place -> its part
    parts: Vec<Part<K, V>>,
    /// Bytes of all heaps, and how many there may be.
    heaped: u64,
    most: u64,
    room: Reservation,
}

impl<K: Key, V: Record> Parts<K, V> {
    /// So many parts of an operator.
    pub(crate) fn new(flow: &Dataflow, whose: Whose, parts: usize) -> Parts<K, V> {
        let common = Common::new(flow, whose);
        Parts::of(common, 0, parts)
    }

    /// The same, which never go to disk: whoever has them sees to it that they do not take too much.
    pub(crate) fn in_memory(flow: &Dataflow, whose: Whose, parts: usize) -> Parts<K, V> {
        Parts::of(Common::new(flow, whose), DEPTH, parts)
    }

    fn of(common: Common, depth: u32, parts: usize) -> Parts<K, V> {
        let part = |_| Part { table: Table::new(&common.memory), heap: Vec::new(), bytes: 0, run: None };
        Parts {
            parts: (0..parts).map(part).collect(),
            heaped: 0,
            most: HEAP.min(common.memory.limit() / 8),
            room: common.memory.reserve(),
            common,
            depth,
        }
    }

    /// Bytes that all take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.heaped + self.parts.iter().map(|part| part.table.bytes()).sum::<u64>()
    }

    /// A batch of a part.
    pub(crate) fn add(
        &mut self,
        place: usize,
        bytes: Buf,
        combine: &mut impl FnMut(&mut V, V),
    ) -> Result<()> {
        let more = bytes.len() as u64;
        let part = &mut self.parts[place];
        part.heap.push(bytes);
        part.bytes += more;
        self.heaped += more;
        self.room.take(more);
        if self.heaped > self.most {
            // Those with the most have been waiting the longest: about half of all.
            let least = self.heaped / self.parts.iter().filter(|p| p.bytes > 0).count().max(1) as u64;
            for place in 0..self.parts.len() {
                if self.parts[place].bytes >= least {
                    self.work_off(place, combine)?;
                }
            }
        }
        while self.common.memory.is_over() && self.depth < DEPTH && self.spill_largest(combine)? {}
        Ok(())
    }

    /// Puts a part's heap into its table, or to its run.
    fn work_off(&mut self, place: usize, combine: &mut impl FnMut(&mut V, V)) -> Result<()> {
        let part = &mut self.parts[place];
        match &mut part.run {
            Some(run) => run.write_together(part.heap.drain(..), self.common.block_bytes)?,
            None => {
                for bytes in part.heap.drain(..) {
                    part.table.add_all(&Batch::new(bytes, self.common.damaged.clone()), combine);
                }
                self.common.check::<(K, V)>()?;
            }
        }
        self.heaped -= part.bytes;
        self.room.shrink(part.bytes);
        part.bytes = 0;
        Ok(())
    }

    /// Writes the part that takes the most memory to disk; false if that is too little to help.
    fn spill_largest(&mut self, combine: &mut impl FnMut(&mut V, V)) -> Result<bool> {
        let least = LEAST.min(self.common.memory.limit() / 4 / self.parts.len() as u64);
        let holds = |part: &Part<K, V>| part.bytes + part.table.bytes();
        let largest = (0..self.parts.len()).max_by_key(|place| holds(&self.parts[*place]));
        let Some(place) = largest.filter(|place| holds(&self.parts[*place]) > least) else {
            return Ok(false);
        };
        let part = &mut self.parts[place];
        let run = part.run.get_or_insert_with(|| self.common.spill.run());
        let mut out = Filling::new(self.common.block_bytes);
        for pair in part.table.take() {
            if let Some(full) = self.common.put(&mut out, &pair)? {
                run.write(full)?;
            }
        }
        if let Some(rest) = out.finish() {
            run.write(rest)?;
        }
        self.work_off(place, combine)?;
        Ok(true)
    }

    /// Whether a part was spilled: those are best taken last, when the memory of others is free.
    pub(crate) fn is_spilled(&self, place: usize) -> bool {
        self.parts[place].run.is_some()
    }

    /// All pairs of a part; none are left there.
    pub(crate) fn take(&mut self, place: usize, combine: &mut impl FnMut(&mut V, V)) -> Result<Pairs<K, V>> {
        self.work_off(place, combine)?;
        let part = &mut self.parts[place];
        match part.run.take() {
            None => Ok(Pairs::Table(part.table.take())),
            Some(run) => self.bring_back(run.finish()?, combine),
        }
    }

    /// The pairs of a spilled part: through a table if that has room, else cut once more.
    fn bring_back(&self, run: Run, combine: &mut impl FnMut(&mut V, V)) -> Result<Pairs<K, V>> {
        let common = self.common.of_disk();
        let Common { memory, damaged, .. } = &common;
        let depth = self.depth + 1;
        let free = memory.limit().saturating_sub(memory.used());
        let cuts = if run.bytes() <= SMALL.max(free / 4) || depth == DEPTH { 1 } else { CUTS };
        let mut parts = Parts::of(common.clone(), depth, cuts);
        let mut filling: Vec<Filling> = (0..cuts).map(|_| Filling::new(CUT)).collect();
        let mut blocks = run.read();
        while let Some(block) = blocks.next()? {
            if cuts == 1 {
                parts.add(0, block, combine)?;
                continue;
            }
            for pair in Batch::<(K, V)>::new(block, damaged.clone()) {
                let place = pair.0.hash(u64::from(depth) << 32 | 0xc075) as usize % CUTS;
                if let Some(full) = common.put(&mut filling[place], &pair)? {
                    parts.add(place, full, combine)?;
                }
            }
        }
        common.check::<(K, V)>()?;
        for (place, filling) in filling.iter_mut().enumerate() {
            if let Some(rest) = filling.finish() {
                parts.add(place, rest, combine)?;
            }
        }
        let mut left: Vec<usize> = (0..cuts).collect();
        left.sort_by_key(|place| !parts.is_spilled(*place));
        Ok(Pairs::Cut { parts: Box::new(parts), left, now: None })
    }
}

/// Pairs that were taken out of a part.
pub(crate) enum Pairs<K, V> {
    Table(TakenPairs<K, V>),
    /// Of a part that had been spilled and was cut: parts that are left, and those of the one before.
    Cut {
        parts: Box<Parts<K, V>>,
        left: Vec<usize>,
        now: Option<Box<Pairs<K, V>>>,
    },
}

impl<K: Key, V: Record> Pairs<K, V> {
    /// The next one. (`combine` by a pointer: cuts of cuts would else want functions without end.)
    pub(crate) fn next(&mut self, mut combine: &mut dyn FnMut(&mut V, V)) -> Result<Option<(K, V)>> {
        match self {
            Pairs::Table(pairs) => Ok(pairs.next()),
            Pairs::Cut { parts, left, now } => loop {
                if let Some(pairs) = now
                    && let Some(pair) = pairs.next(combine)?
                {
                    return Ok(Some(pair));
                }
                // Before the next ones are made, the memory of these is given back.
                *now = None;
                let Some(place) = left.pop() else { return Ok(None) };
                *now = Some(Box::new(parts.take(place, &mut combine)?));
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::Options;
    use crate::record::{Reader, Writer};
    use aeolian_net::World;
    use std::cmp::Ordering;
    use std::collections::HashMap;

    /// A key whose hashes are all the same.
    #[derive(Debug, Clone, Copy, PartialEq)]
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
            self.0.cmp(&other.0)
        }
    }

    /// Adds `n` pairs of the keys that `key` makes of 0..n, with this budget; checks the sums, and returns the bytes written to disk and
    /// the most memory that was in use.
    fn sums<K: Key + Clone>(
        n: u64,
        memory: u64,
        key: impl Fn(u64) -> K,
        number: impl Fn(&K) -> u64,
    ) -> (u64, u64) {
        let world = World::alone();
        let options = Options { memory, ..Options::detect(world.layout(), 0).unwrap() };
        let flow = Dataflow::with(&world, options);
        let mut combine = |a: &mut u64, b: u64| *a += b;
        let mut parts = Parts::<K, u64>::new(&flow, Whose { operator: "test".into(), rank: 0 }, 4);
        let mut want: HashMap<u64, u64> = HashMap::new();
        let mut filling: Vec<Filling> = (0..4).map(|_| Filling::new(5000)).collect();
        for i in 0..n {
            let key = key(i);
            *want.entry(number(&key)).or_default() += i;
            let place = number(&key) as usize % 4;
            if let Some(batch) = filling[place].put(&(key, i)).unwrap() {
                parts.add(place, batch, &mut combine).unwrap();
            }
        }
        for (place, rest) in filling.iter_mut().enumerate() {
            rest.finish().into_iter().for_each(|rest| parts.add(place, rest, &mut combine).unwrap());
        }
        let mut places: Vec<usize> = (0..4).collect();
        places.sort_by_key(|place| parts.is_spilled(*place));
        let mut got = HashMap::new();
        for place in places {
            let mut pairs = parts.take(place, &mut combine).unwrap();
            while let Some((key, sum)) = pairs.next(&mut combine).unwrap() {
                assert_eq!(number(&key) as usize % 4, place);
                assert_eq!(got.insert(number(&key), sum), None, "a key comes once");
            }
        }
        assert!(got == want);
        drop(parts);
        assert_eq!(flow.memory().used(), 0);
        (flow.spill().report().bytes_written, flow.memory().peak())
    }

    #[test]
    fn in_memory_as_long_as_there_is_room() {
        let (written, _) = sums(50_000, 1 << 30, |i| i % 777, |key| *key);
        assert_eq!(written, 0);
    }

    #[test]
    fn on_disk_beyond_and_within_the_budget() {
        // A hundred thousand keys are 3 MB of tables.
        let (written, peak) = sums(300_000, 1 << 20, |i| i * 7919 % 100_003, |key| *key);
        assert!(written > 1 << 20, "{written}");
        // What is read back is at most a quarter of what is free, or 4 MiB, and its table a multiple of that.
        assert!(peak < 16 << 20, "{peak}");
        sums(60_000, 1 << 18, |i| format!("{:0>20}", i * 7919 % 30_011), |key| key.parse().unwrap());
    }

    #[test]
    fn cut_again_and_again() {
        // 16 million bytes of a part are more than 4 MiB, and than a quarter of the budget.
        let wide = |i: u64| (i * 7919 % 200_003, [i as u8; 0], "x".repeat(90));
        let (written, _) = sums(400_000, 1 << 20, wide, |key| key.0);
        assert!(written > 70 << 20, "what is cut is written once more: {written}");
    }

    #[test]
    fn keys_of_one_hash_and_one_key() {
        sums(3000, 1 << 12, |i| Same(i % 1000), |key| key.0);
        sums(100_000, 1 << 12, |_| 5u64, |key| *key);
    }

    /// A value that cannot be read once it is two.
    struct One(u8);

    impl Record for One {
        const SIZE: Option<usize> = Some(1);

        fn size(&self) -> usize {
            1
        }

        fn put(&self, out: &mut Writer<'_>) -> Option<()> {
            self.0.put(out)
        }

        fn get(input: &mut Reader<'_>) -> Option<One> {
            (u8::get(input)? == 1).then_some(One(1))
        }
    }

    #[test]
    fn what_cannot_be_read_back_is_from_disk() {
        let world = World::alone();
        let options = Options { memory: 0, ..Options::detect(world.layout(), 0).unwrap() };
        let flow = Dataflow::with(&world, options);
        let mut combine = |a: &mut One, b: One| a.0 += b.0;
        let mut parts = Parts::<u64, One>::new(&flow, Whose { operator: "test".into(), rank: 0 }, 1);
        let mut filling = Filling::new(1000);
        for _ in 0..2 {
            assert!(filling.put(&(5u64, One(1))).unwrap().is_none());
        }
        parts.add(0, filling.finish().unwrap(), &mut combine).unwrap();
        assert!(parts.is_spilled(0));
        let taken = parts.take(0, &mut combine).and_then(|mut pairs| pairs.next(&mut combine));
        let error = taken.map(drop).unwrap_err().to_string();
        assert!(error.contains("a spilled run has records that cannot be read"), "{error}");
    }
}
