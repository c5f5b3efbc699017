//! [`Early`]: sources reduce what they can before it goes anywhere.

use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::key::Key;
use crate::memory::Reservation;
use crate::operator::InsertError;
use crate::record::Record;
use crate::table::elsewhere;

/// Places: with small pairs they stay in the first-level cache or close to it. Of large pairs there are fewer,
const PLACES: usize = 1 << 11;
/// and none if not as many as this fit.
const FEWEST: usize = 1 << 6;
/// So many inserts are looked at to decide.
const WINDOW: u32 = 1 << 14;
/// Early reduction pays where at least one in so many pairs finds its key there.
const PAYS: u32 = 4;
/// Where it does not, it is tried again after so many windows.
const REST: u32 = 64;

/// A small table in front of an exchange: each key has one place, from which another one pushes it out. (Where keys hardly come again, as
/// measured with a million of them, this costs more than it saves: then it is left out, and tried again later.)
pub(crate) struct Early<K, V> {
    places: Vec<Option<(K, V)>>,
    /// How many there are, once there are any: a power of two, or 0.
    many: usize,
    /// Inserts since the decision, and how many found their key.
    seen: u32,
    found: u32,
    /// Inserts until it is tried again.
    rest: u32,
    /// Places are empty from here on.
    emptied: usize,
    room: Reservation,
    /// Values that have bytes elsewhere may take so many together.
    most: u64,
    held: u64,
    /// What was reserved for that.
    held_room: Reservation,
}

/// So much is reserved at a time.
const STEP: u64 = 4 << 10;

impl<K: Key, V: Record> Early<K, V> {
    pub(crate) fn new(flow: &Dataflow) -> Early<K, V> {
        let most = flow.memory().limit() / 16;
        let fit = most / size_of::<Option<(K, V)>>() as u64;
        let fit = PLACES.min(usize::try_from(fit).unwrap_or(usize::MAX));
        Early {
            places: Vec::new(),
            many: if fit < FEWEST { 0 } else { 1 << fit.ilog2() },
            seen: 0,
            found: 0,
            rest: 0,
            emptied: 0,
            room: flow.memory().reserve(),
            most,
            held: 0,
            held_room: flow.memory().reserve(),
        }
    }

    /// Whether pairs may have bytes elsewhere.
    const HOLDS: bool = !lies_in_place::<K>() || !lies_in_place::<V>();

    /// Whether pairs go by for now; one is about to.
    #[inline]
    pub(crate) fn rests(&mut self) -> bool {
        let rests = self.rest > 1;
        self.rest -= u32::from(rests);
        rests || self.many == 0
    }

    /// Takes a pair; what it pushes out, or it itself, goes to `put`. If that has no room, the pair comes back.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        pair: (K, V),
        combine: &mut impl FnMut(&mut V, V),
        mut put: impl FnMut(u64, &(K, V)) -> Result<bool>,
    ) -> Result<(), InsertError<(K, V)>> {
        if self.rest > 0 || self.many == 0 {
            if !put(hash, &pair)? {
                return Err(InsertError::Full(pair));
            }
            self.rest = self.rest.saturating_sub(1);
            return Ok(());
        }
        if self.places.is_empty() {
            self.places.resize_with(self.many, || None);
            self.room.take((self.many * size_of::<Option<(K, V)>>()) as u64);
        }
        self.emptied = self.many;
        let place = &mut self.places[hash as usize & (self.many - 1)];
        match place {
            Some(there) if there.0.same(&pair.0) => {
                let before = elsewhere(&there.1);
                combine(&mut there.1, pair.1);
                self.held = (self.held + elsewhere(&there.1)).saturating_sub(before);
                self.found += 1;
            }
            _ => {
                if let Some(there) = place {
                    // (The hash of what is there has the same lower bits only.)
                    if !put(crate::grouping::Grouping::hash(&there.0), there)? {
                        return Err(InsertError::Full(pair));
                    }
                    self.held = self.held.saturating_sub(elsewhere(&there.0) + elsewhere(&there.1));
                }
                self.held += elsewhere(&pair.0) + elsewhere(&pair.1);
                *place = Some(pair);
            }
        }
        if Self::HOLDS && self.held > self.held_room.bytes() {
            self.hold();
        }
        self.seen += 1;
        if self.seen == WINDOW || self.held > self.most {
            if self.found < self.seen / PAYS || self.held > self.most {
                self.rest = WINDOW * REST;
            }
            (self.seen, self.found) = (0, 0);
        }
        Ok(())
    }

    /// Reserves for what is held.
    #[cold]
    fn hold(&mut self) {
        let more = self.held - self.held_room.bytes();
        self.held_room.take(more.next_multiple_of(STEP));
    }

    /// Hands all to `put`; false if that has no room, to be called again.
    pub(crate) fn empty(&mut self, mut put: impl FnMut(&(K, V)) -> Result<bool>) -> Result<bool> {
        while self.emptied > 0 {
            let place = &mut self.places[self.emptied - 1];
            if let Some(pair) = place {
                if !put(pair)? {
                    return Ok(false);
                }
                *place = None;
            }
            self.emptied -= 1;
        }
        self.held = 0;
        self.held_room.shrink(u64::MAX);
        Ok(true)
    }
}

/// Whether records of this type have no bytes elsewhere than in their place.
const fn lies_in_place<T: Record>() -> bool {
    match T::SIZE {
        Some(size) => size <= size_of::<T>(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::Options;
    use crate::grouping::Grouping;
    use aeolian_net::World;
    use std::collections::HashMap;

    /// Inserts `n` keys, refuses one of seven puts; checks the sums, and returns how many pairs were put.
    fn put(n: u64, key: impl Fn(u64) -> u64) -> usize {
        let flow = Dataflow::new(&World::alone()).unwrap();
        let mut early = Early::new(&flow);
        let mut sums: HashMap<u64, u64> = HashMap::new();
        let (mut asked, mut puts) = (0, 0);
        let mut put = |pair: &(u64, u64)| {
            asked += 1;
            if asked % 7 == 0 {
                return Ok(false);
            }
            puts += 1;
            *sums.entry(pair.0).or_default() += pair.1;
            Ok(true)
        };
        for i in 0..n {
            let mut pair = (key(i), 1);
            loop {
                let combine = &mut |a: &mut u64, b: u64| *a += b;
                let outcome = early.insert(Grouping::hash(&pair.0), pair, combine, |hash, pair| {
                    assert_eq!(hash, Grouping::hash(&pair.0));
                    put(pair)
                });
                match outcome {
                    Ok(()) => break,
                    Err(InsertError::Full(back)) => pair = back,
                    Err(InsertError::Failed(e)) => panic!("{e}"),
                }
            }
        }
        while !early.empty(&mut put).unwrap() {}
        let mut want: HashMap<u64, u64> = HashMap::new();
        (0..n).for_each(|i| *want.entry(key(i)).or_default() += 1);
        assert_eq!(sums, want);
        puts
    }

    /// Words of so many bytes: what is held of them is reserved, and given back.
    #[test]
    fn what_is_elsewhere_is_reserved() {
        let world = World::alone();
        let options = Options { memory: 64 << 20, ..Options::detect(world.layout(), 0).unwrap() };
        let flow = Dataflow::with(&world, options);
        let mut early = Early::new(&flow);
        let hash = |key: &String| Grouping::hash(key);
        let insert = |early: &mut Early<String, u64>, i: u64| {
            let pair = (format!("{i:0>1000}"), 1);
            early.insert(hash(&pair.0), pair, &mut |a: &mut u64, b| *a += b, |_, _| Ok(true)).unwrap();
        };
        insert(&mut early, 0);
        let places = flow.memory().used();
        (0..500).for_each(|i| insert(&mut early, i));
        let held: u64 = early.places.iter().flatten().map(|pair| pair.0.len() as u64).sum();
        assert!(held > 300_000 && flow.memory().used() >= places + held - 2 * STEP, "{held}");
        assert!(early.empty(|_| Ok(true)).unwrap());
        let of_places = early.places.len() * size_of::<Option<(String, u64)>>();
        assert_eq!(flow.memory().used(), of_places as u64);
    }

    #[test]
    fn few_keys_are_reduced_and_many_are_not_held_up() {
        assert_eq!(put(100_000, |i| i % 10), 10);
        // No key comes again: all go, and after the first window without a look.
        assert_eq!(put(100_000, |i| i), 100_000);
        // It is tried again: from the second million on there are few keys.
        let puts = put(3 << 20, |i| if i < 1 << 20 { i } else { i % 10 });
        assert!(puts < (1 << 20) + (1 << 20) / 4, "{puts}");
        assert_eq!(put(3, |i| i), 3);
        assert_eq!(put(0, |i| i), 0);
    }
}
