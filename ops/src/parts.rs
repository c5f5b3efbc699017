//! [`Parts`]: the pairs of all targets of a rank, in parts, one pair a key.

use crate::batch::Batch;
use crate::common::Common;
use crate::dataflow::Dataflow;
use crate::error::{Result, Whose};
use crate::filling::Filling;
use crate::key::Key;
use crate::memory::Reservation;
use crate::record::Record;
use crate::sorting::by::Together;
use crate::sorting::reduced::Reduced;
use crate::sorting::sorter::{Sorter, run_block};
use crate::spill::{Run, RunWriter};
use crate::table::{SEED, Table, TakenPairs};
use aeolian_net::Buf;

/// Bytes of batches that wait until their part has enough of them.
const HEAP: u64 = 16 << 20;
/// A part that was spilled is cut into so many, and each of them again if need be,
const CUTS: usize = 16;
/// so often at most: what is still too large then has keys whose hashes were made to be the same, and is sorted.
const DEPTH: u32 = 8;
/// Bytes of a batch that is read from the disk and cut.
const CUT: usize = 32 << 10;
/// A spilled part of which so little is left need not be cut: its table is no longer than a few blocks.
const SMALL: u64 = 4 << 20;
/// A part with less than this, or than its share of a quarter of the budget, is not worth a block of its own.
const LEAST: u64 = 128 << 10;

/// Where the pairs of a part are.
enum Held<K: Key, V: Record> {
    Table(Table<K, V>),
    /// On disk, once the part was spilled, with all that comes for it later.
    Run(RunWriter),
    /// Where they are sorted, once there were too many keys with the same hash for a table.
    Sorter(Sorter<Together<K, V>>),
}

struct Part<K: Key, V: Record> {
    held: Held<K, V>,
    /// Batches that are not there yet.
    heap: Vec<Buf>,
    bytes: u64,
}

impl<K: Key, V: Record> Part<K, V> {
    /// Bytes that it takes in memory.
    fn holds(&self) -> u64 {
        let held = match &self.held {
            Held::Table(table) => table.bytes(),
            Held::Run(_) => 0,
            Held::Sorter(sorter) => sorter.held(),
        };
        self.bytes + held
    }
}

/// The parts of a rank's targets.
///
/// A batch touches other lines of its part's table with each record. So batches wait until there are many of one part: then its table
/// comes into the cache once for all of them.
///
/// When the budget is used up, the largest part goes to disk, with all that comes for it later (*hybrid hashing*: DeWitt et al.,
/// *Implementation techniques for main memory database systems*, 1984). At the end it comes back, and if it is too large still, is cut by
/// other bits of the hash. What that does not make smaller is sorted, and so are parts with too many keys of the same hash: keys that were
/// chosen to be alike cost no more than that, and stay in the budget.
pub(crate) struct Parts<K: Key, V: Record> {
    common: Common,
    may_spill: bool,
    /// Of the tables.
    seed: u64,
    /// How often what is here was cut after it had been spilled, and the bytes that it had before the last time.
    depth: u32,
    whole: u64,
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
        Parts::of(Common::new(flow, whose), parts, SEED)
    }

    /// The same for sources, which never go to disk: whoever has them sees to it that they do not take too much.
    pub(crate) fn in_memory(flow: &Dataflow, whose: Whose, parts: usize) -> Parts<K, V> {
        Parts { may_spill: false, ..Parts::of(Common::new(flow, whose), parts, SEED ^ 1 << 32) }
    }

    fn of(common: Common, parts: usize, seed: u64) -> Parts<K, V> {
        let part =
            |_| Part { held: Held::Table(Table::new(&common.memory, seed)), heap: Vec::new(), bytes: 0 };
        Parts {
            parts: (0..parts).map(part).collect(),
            heaped: 0,
            most: HEAP.min(common.memory.limit() / 8),
            room: common.memory.reserve(),
            common,
            may_spill: true,
            seed,
            depth: 0,
            whole: u64::MAX,
        }
    }

    /// Bytes that all take in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::holds).sum()
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
        while self.may_spill && self.common.memory.is_over() && self.spill_largest(combine)? {}
        Ok(())
    }

    /// Puts a part's heap where its pairs are.
    fn work_off(&mut self, place: usize, combine: &mut impl FnMut(&mut V, V)) -> Result<()> {
        let Part { held, heap, bytes } = &mut self.parts[place];
        let mut heap = heap.drain(..);
        if let Held::Table(table) = held {
            for bytes in &mut heap {
                let batch = Batch::new(bytes, self.common.damaged.clone());
                if let Some(left) = table.add_all(&batch, combine) {
                    let pairs = table.take().chain(left);
                    *held = Held::Sorter(sorter_of(&self.common, self.may_spill, pairs)?);
                    break;
                }
            }
            self.common.check::<(K, V)>()?;
        }
        self.heaped -= *bytes;
        self.room.shrink(std::mem::take(bytes));
        match held {
            Held::Table(_) => {}
            Held::Run(run) => run.write_together(heap, run_block(&self.common))?,
            Held::Sorter(sorter) => heap.try_for_each(|batch| sorter.add(0, batch))?,
        }
        Ok(())
    }

    /// Writes the part that takes the most memory to disk; false if that is too little to help.
    fn spill_largest(&mut self, combine: &mut impl FnMut(&mut V, V)) -> Result<bool> {
        let least = LEAST.min(self.common.memory.limit() / 4 / self.parts.len() as u64);
        let largest = (0..self.parts.len()).max_by_key(|place| self.parts[*place].holds());
        let Some(place) = largest.filter(|place| self.parts[*place].holds() > least) else {
            return Ok(false);
        };
        let held = &mut self.parts[place].held;
        if let Held::Table(table) = held {
            let mut run = self.common.spill.run();
            let mut out = Filling::new(run_block(&self.common));
            for pair in table.take() {
                if let Some(full) = self.common.put(&mut out, &pair)? {
                    run.write(full)?;
                }
            }
            if let Some(rest) = out.finish() {
                run.write(rest)?;
            }
            *held = Held::Run(run);
        }
        self.work_off(place, combine)?;
        if let Held::Sorter(sorter) = &mut self.parts[place].held {
            sorter.spill()?;
        }
        Ok(true)
    }

    /// Whether a part was spilled or is sorted: those are best taken last, when the memory of others is free.
    pub(crate) fn is_spilled(&self, place: usize) -> bool {
        !matches!(self.parts[place].held, Held::Table(_))
    }

    /// All pairs of a part; none are left there.
    pub(crate) fn take(&mut self, place: usize, combine: &mut impl FnMut(&mut V, V)) -> Result<Pairs<K, V>> {
        self.work_off(place, combine)?;
        let none = Held::Table(Table::new(&self.common.memory, self.seed));
        match std::mem::replace(&mut self.parts[place].held, none) {
            Held::Table(mut table) => Ok(Pairs::Table(table.take())),
            Held::Run(run) => self.bring_back(run.finish()?, combine),
            Held::Sorter(sorter) => self.sorted(sorter),
        }
    }

    fn sorted(&self, sorter: Sorter<Together<K, V>>) -> Result<Pairs<K, V>> {
        Ok(Pairs::Sorted(Box::new(Reduced::new(sorter.finish()?, self.common.whose.clone()))))
    }

    /// The pairs of a spilled part: through a table if that has room, else cut once more, or sorted where that does not help.
    fn bring_back(&self, run: Run, combine: &mut impl FnMut(&mut V, V)) -> Result<Pairs<K, V>> {
        let common = self.common.of_disk();
        let Common { memory, damaged, .. } = &common;
        let depth = self.depth + 1;
        let whole = run.bytes();
        if depth == DEPTH || whole > self.whole / 2 {
            let mut sorter = Sorter::new(common.clone());
            let mut blocks = run.read();
            while let Some(block) = blocks.next()? {
                sorter.add(0, block)?;
            }
            return self.sorted(sorter);
        }
        let free = memory.limit().saturating_sub(memory.used());
        let cuts = if whole <= SMALL.max(free / 4) { 1 } else { CUTS };
        let mut parts = Parts { depth, whole, ..Parts::of(common.clone(), cuts, SEED ^ u64::from(depth)) };
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

/// A sorter with these pairs.
fn sorter_of<K: Key, V: Record>(
    common: &Common,
    may_spill: bool,
    pairs: impl Iterator<Item = (K, V)>,
) -> Result<Sorter<Together<K, V>>> {
    let mut sorter = match may_spill {
        true => Sorter::new(common.clone()),
        false => Sorter::in_memory(common.clone()),
    };
    let mut out = Filling::new(run_block(common));
    for pair in pairs {
        if let Some(full) = common.put(&mut out, &pair)? {
            sorter.add(0, full)?;
        }
    }
    if let Some(rest) = out.finish() {
        sorter.add(0, rest)?;
    }
    Ok(sorter)
}

/// Pairs that were taken out of a part.
pub(crate) enum Pairs<K: Key, V: Record> {
    Table(TakenPairs<K, V>),
    Sorted(Box<Reduced<K, V>>),
    /// Of a part that had been spilled and was cut: parts that are left, and those of the one before.
    Cut {
        parts: Box<Parts<K, V>>,
        left: Vec<usize>,
        now: Option<Box<Pairs<K, V>>>,
    },
}

impl<K: Key, V: Record> Pairs<K, V> {
    /// The next one. (`combine` by a pointer: cuts of cuts would else want functions without end.)
    #[inline]
    pub(crate) fn next(&mut self, combine: &mut dyn FnMut(&mut V, V)) -> Result<Option<(K, V)>> {
        match self {
            Pairs::Table(pairs) => Ok(pairs.next()),
            others => others.next_of_spilled(combine),
        }
    }

    /// The same where there is no table. (Apart, so that the loops over a table have only that in them.)
    fn next_of_spilled(&mut self, mut combine: &mut dyn FnMut(&mut V, V)) -> Result<Option<(K, V)>> {
        match self {
            Pairs::Table(pairs) => Ok(pairs.next()),
            Pairs::Sorted(pairs) => pairs.next(combine),
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
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::collections::HashMap;

    thread_local! {
        /// How often two [`Same`] were compared.
        static COMPARED: Cell<u64> = const { Cell::new(0) };
    }

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
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    /// A key whose hashes are good below a million, and all the same beyond.
    #[derive(Debug, Clone, Copy)]
    struct Mixed(u64);

    impl Record for Mixed {
        const SIZE: Option<usize> = None;

        fn size(&self) -> usize {
            self.0.to_string().size()
        }

        fn put(&self, out: &mut Writer<'_>) -> Option<()> {
            self.0.to_string().put(out)
        }

        fn get(input: &mut Reader<'_>) -> Option<Mixed> {
            String::get(input)?.parse().ok().map(Mixed)
        }
    }

    impl Key for Mixed {
        fn hash(&self, seed: u64) -> u64 {
            if self.0 < 1_000_000 { self.0.hash(seed) } else { 7 }
        }

        fn order(&self, other: &Mixed) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
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
        sums(100_000, 1 << 12, |_| Same(5), |key| key.0);
    }

    /// How often keys were compared by this.
    fn counting<T>(run: impl FnOnce() -> T) -> (u64, T) {
        COMPARED.set(0);
        let outcome = run();
        (COMPARED.get(), outcome)
    }

    #[test]
    fn many_keys_of_one_hash_are_sorted() {
        // All of a part with all would be 200 million.
        let (compared, (written, _)) = counting(|| sums(40_000, 1 << 30, Same, |key| key.0));
        assert!(compared < 4_000_000, "{compared}");
        assert_eq!(written, 0, "there is memory for all");
        let (compared, (written, peak)) =
            counting(|| sums(80_000, 1 << 18, |i| Same(i % 40_000), |key| key.0));
        assert!(compared < 8_000_000, "{compared}");
        assert!(written > 1 << 19 && peak < 1 << 19, "{written} {peak}");
    }

    #[test]
    fn keys_of_one_hash_that_come_late() {
        let late = |i| Mixed(if i < 50_000 { i } else { i % 20_000 + 1_000_000 });
        for memory in [1 << 30, 1 << 18] {
            let (compared, (_, peak)) = counting(|| sums(100_000, memory, late, |key| key.0));
            assert!(compared < 8_000_000, "{compared}");
            assert!(memory > 1 << 18 || peak < 1 << 19, "{peak}");
        }
    }

    #[test]
    fn they_are_sorted_in_memory_where_nothing_may_go_to_disk() {
        let world = World::alone();
        let options = Options { memory: 1 << 16, ..Options::detect(world.layout(), 0).unwrap() };
        let flow = Dataflow::with(&world, options);
        let mut parts = Parts::<Same, u64>::in_memory(&flow, Whose { operator: "test".into(), rank: 0 }, 2);
        let mut combine = |a: &mut u64, b: u64| *a += b;
        // Twice, as what is given is followed by more.
        for _ in 0..2 {
            for _ in 0..3 {
                let batch: Batch<(Same, u64)> = (0..10_000).map(|i| (Same(i), i)).collect();
                parts.add(1, batch.into_bytes(), &mut combine).unwrap();
            }
            assert!(parts.bytes() > 3 * 160_000);
            let mut pairs = parts.take(1, &mut combine).unwrap();
            let mut got = Vec::new();
            while let Some((key, sum)) = pairs.next(&mut combine).unwrap() {
                assert_eq!(sum, 3 * key.0);
                got.push(key.0);
            }
            got.sort();
            assert!(got.into_iter().eq(0..10_000));
            assert!(parts.take(0, &mut combine).unwrap().next(&mut combine).unwrap().is_none());
        }
        drop(parts);
        assert_eq!((flow.memory().used(), flow.spill().report().bytes_written), (0, 0));
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
