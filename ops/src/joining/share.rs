//! [`Sharing`]: what one rank has too much of, because most rows have few keys, is shared with others.
//!
//! When all rows are at the targets of their keys, ranks tell one of them how much they have. If one has half as much again as the mean,
//! the left rows of its largest parts are dealt to ranks that have less, batch by batch, and the right rows of those parts are copied there. That
//! is right wherever what is given goes by left rows: inner, left, semi and anti joins. It costs nothing (but three short messages a
//! rank) where keys are even, and needs no sample beforehand; what is moved twice is only what there is too much of. (Others find heavy keys in
//! a sample before they move rows: DeWitt et al., *Practical skew handling in parallel joins*, 1992.)

use crate::batch::Batch;
use crate::carrier::{Incoming, Route};
use crate::dataflow::Dataflow;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::key::Key;
use crate::plan::LogicalPlan;
use crate::record::Record;
use crate::stores::{Reading, Stores};
use aeolian_net::{Buf, OpName};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Parts that are shared at most.
pub(crate) const SHARES: u32 = 8;
/// A rank with less than this has not too much.
const LEAST: u64 = 256 << 10;
/// Messages that are taken in one call of `progress`.
const AT_ONCE: usize = 64;

/// A rank's bytes, and its largest parts: (slot, left bytes, right bytes).
type Load = (u32, u64, Vec<(u32, u64, u64)>);
/// A slot, and the ranks that share it; the first is its own.
type Share = (u32, Vec<u32>);

/// Which parts are shared by whom.
fn decide(mut loads: Vec<Load>) -> Vec<Share> {
    let all: u64 = loads.iter().map(|load| load.1).sum();
    let ranks = loads.len();
    let mean = (all / ranks.max(1) as u64).max(1);
    loads.sort_by_key(|load| (u64::MAX - load.1, load.0));
    let mut shares = Vec::new();
    let mut parts: Vec<(u32, (u32, u64, u64))> =
        loads.iter().flat_map(|load| load.2.iter().map(|part| (load.0, *part))).collect();
    parts.sort_by_key(|(_, (slot, left, _))| (u64::MAX - left, *slot));
    for (owner, (slot, left, right)) in parts {
        let of = |rank: u32, loads: &[Load]| loads.iter().position(|load| load.0 == rank).unwrap_or(0);
        let here = of(owner, &loads);
        let too_much = loads[here].1 > LEAST && loads[here].1 / 3 > mean / 2;
        if !too_much || right > left || shares.len() == SHARES as usize {
            continue;
        }
        let pieces = (left.div_ceil((mean / 2).max(1)) as usize).clamp(2, ranks.max(2));
        loads[here].1 -= left - left / pieces as u64;
        let mut sharers = vec![owner];
        for _ in 1..pieces {
            let free = (0..ranks).filter(|at| !sharers.contains(&loads[*at].0)).min_by_key(|at| loads[*at].1);
            let Some(free) = free else { break };
            loads[free].1 += left / pieces as u64 + right;
            sharers.push(loads[free].0);
        }
        shares.push((slot, sharers));
    }
    shares
}

/// A part on its way to those who share it.
struct Moving {
    left: Reading,
    right: Reading,
    share: u32,
    place: usize,
    sharers: Vec<u32>,
    /// Batches that are to go: (whether a right one, the number of the sharer, batch)
    going: VecDeque<(bool, usize, Buf)>,
    /// Left batches so far.
    dealt: usize,
}

pub(crate) struct Sharing<K, L, R> {
    loads: Exchange<Load>,
    shares: Exchange<Share>,
    left: Exchange<(K, L)>,
    right: Exchange<(K, R)>,
    /// The number of this rank among those with targets, if it is one.
    number: Option<u32>,
    ranks: Vec<u32>,
    is_root: bool,
    came: Vec<Load>,
    made: Option<VecDeque<Share>>,
    /// Shares of parts of this rank; and the numbers of those that it gets some of.
    told: Vec<(u32, Share)>,
    moving: Option<Box<Moving>>,
    has_told: bool,
    has_sent: bool,
    /// Parts of others of which this rank has got some; parts of its own that it has shared.
    pub(crate) got: u64,
    pub(crate) shared: u64,
    damaged: Rc<Cell<bool>>,
}

impl<K: Key, L: Record, R: Record> Sharing<K, L, R> {
    pub(crate) fn new(
        flow: &Dataflow,
        name: &'static OpName,
        number: u64,
        plan: &LogicalPlan,
    ) -> Result<Sharing<K, L, R>> {
        let world = flow.world();
        let ranks = plan.target_ranks();
        let roots: Vec<u32> = ranks.first().copied().into_iter().collect();
        let none = LogicalPlan::new(world, 0, 0);
        let among = none.clone().sources_on(&ranks)?.targets_on(&ranks)?;
        let to_root = none.clone().sources_on(&ranks)?.targets_on(&roots)?;
        let from_root = none.sources_on(&roots)?.targets_on(&ranks)?;
        let route = Route::ToOne { parts: SHARES };
        Ok(Sharing {
            loads: Exchange::numbered(flow, name, number, "loads", &to_root, Route::ToOne { parts: 1 })?,
            shares: Exchange::numbered(flow, name, number, "shares", &from_root, Route::ToAll)?,
            left: Exchange::numbered(flow, name, number, "shared left side", &among, route)?,
            right: Exchange::numbered(flow, name, number, "shared right side", &among, route)?,
            number: ranks.iter().position(|rank| *rank == world.rank()).map(|at| at as u32),
            is_root: roots.contains(&world.rank()),
            ranks,
            came: Vec::new(),
            made: None,
            told: Vec::new(),
            moving: None,
            has_told: false,
            has_sent: false,
            got: 0,
            shared: 0,
            damaged: Rc::default(),
        })
    }

    pub(crate) fn another_round(&mut self) {
        self.loads.another_round();
        self.shares.another_round();
        self.left.another_round();
        self.right.another_round();
        (self.has_told, self.has_sent, self.got, self.shared) = (false, false, 0, 0);
        self.made = None;
    }

    /// Moves on. `stores` has the rows of this rank's slots, `slots`; what comes from others goes to `shared`.
    pub(crate) fn progress(
        &mut self,
        slots: &[u32],
        stores: &mut Stores,
        shared: &mut Stores,
    ) -> Result<bool> {
        let Some(number) = self.number else { return Ok(false) };
        let mut moved = false;
        if !self.has_told {
            let of = |slot: u32| (slot, stores.bytes(2 * slot as usize), stores.bytes(2 * slot as usize + 1));
            let mut parts: Vec<_> = slots.iter().map(|slot| of(*slot)).collect();
            let all = parts.iter().map(|part| part.1 + part.2).sum();
            parts.sort_by_key(|part| (u64::MAX - part.1, part.0));
            parts.truncate(SHARES as usize);
            let load = (self.ranks[number as usize], all, parts);
            if !self.loads.put(0, &load)? {
                return Ok(false);
            }
            self.loads.finish(number)?;
            (self.has_told, moved) = (true, true);
        }
        moved |= self.loads.progress()?;
        while let Some(incoming) = self.loads.receive()? {
            moved = true;
            if let Incoming::Batch { bytes, .. } = incoming {
                self.came.extend(Batch::new(bytes, self.damaged.clone()));
            }
        }
        if self.is_root && self.loads.has_ended() && !self.shares.have_finished() {
            let came = &mut self.came;
            let made = self.made.get_or_insert_with(|| decide(std::mem::take(came)).into());
            while let Some(share) = made.front() {
                if !self.shares.put(0, share)? {
                    return Ok(moved);
                }
                made.pop_front();
            }
            self.shares.finish(0)?;
            moved = true;
        }
        moved |= self.shares.progress()?;
        while let Some(incoming) = self.shares.receive()? {
            moved = true;
            if let Incoming::ForAll(bytes) = incoming {
                let me = self.ranks[number as usize];
                for share in Batch::<Share>::new(bytes, self.damaged.clone()) {
                    let share_number = (self.told.len() as u32) % SHARES;
                    self.got += u64::from(share.1.iter().skip(1).any(|rank| *rank == me));
                    self.told.push((share_number, share));
                }
            }
        }
        if self.damaged.get() {
            return Err(self.loads.whose().unreadable::<Load>("a batch"));
        }
        if self.shares.has_ended() && !self.has_sent && self.send(stores, self.ranks[number as usize])? {
            self.left.finish(number)?;
            self.right.finish(number)?;
            (self.has_sent, moved) = (true, true);
        }
        moved |= self.left.progress()?;
        moved |= self.right.progress()?;
        moved |= take(&mut self.left, 0, shared)?;
        moved |= take(&mut self.right, 1, shared)?;
        Ok(moved)
    }

    /// Moves on what others are still to hear, or to get by this rank, when all that it was to get has come.
    pub(crate) fn wind_up(&mut self) -> Result<bool> {
        let mut moved = self.loads.progress()? | self.shares.progress()?;
        moved |= self.left.progress()? | self.right.progress()?;
        Ok(moved)
    }

    /// Sends what this rank shares; true if all is on its way.
    fn send(&mut self, stores: &mut Stores, me: u32) -> Result<bool> {
        loop {
            let Some(moving) = &mut self.moving else {
                let Some((share, (slot, sharers))) = self.told.pop() else { return Ok(true) };
                if sharers.first() == Some(&me) {
                    let place = 2 * slot as usize;
                    let (left, right) = (stores.take(place)?.read(), stores.take(place + 1)?.read());
                    let going = VecDeque::new();
                    self.shared += 1;
                    self.moving =
                        Some(Box::new(Moving { left, right, share, place, sharers, going, dealt: 0 }));
                }
                continue;
            };
            while let Some((is_right, sharer, batch)) = moving.going.pop_front() {
                let rank = moving.sharers[sharer];
                let target = self.ranks.binary_search(&rank).unwrap_or(0) as u32;
                let slot = target * SHARES + moving.share;
                let refused = match is_right {
                    true => self.right.put_batch(slot, batch)?,
                    false => self.left.put_batch(slot, batch)?,
                };
                if let Some(batch) = refused {
                    moving.going.push_front((is_right, sharer, batch));
                    return Ok(false);
                }
            }
            if let Some((_, batch)) = moving.left.next()? {
                // (The first is this rank itself.)
                let sharer = moving.dealt % moving.sharers.len();
                moving.dealt += 1;
                match sharer {
                    0 => stores.add(moving.place, 0, batch)?,
                    _ => moving.going.push_back((false, sharer, batch)),
                }
            } else if let Some((_, batch)) = moving.right.next()? {
                moving.going.extend((1..moving.sharers.len()).map(|sharer| (true, sharer, batch.clone())));
                stores.add(moving.place + 1, 0, batch)?;
            } else {
                self.moving = None;
            }
        }
    }

    /// All that is shared is where it is to be.
    pub(crate) fn has_ended(&self) -> bool {
        self.number.is_none() || self.has_sent && self.left.has_ended() && self.right.has_ended()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.number.is_none()
            || self.loads.is_over() && self.shares.is_over() && self.left.is_over() && self.right.is_over()
    }
}

/// Takes what others share with this rank.
fn take<K: Key, V: Record>(
    exchange: &mut Exchange<(K, V)>,
    side: usize,
    shared: &mut Stores,
) -> Result<bool> {
    let mut moved = false;
    for _ in 0..AT_ONCE {
        let Some(incoming) = exchange.receive()? else { break };
        moved = true;
        if let Incoming::Batch { slot, bytes, .. } = incoming {
            shared.add(2 * (slot % SHARES) as usize + side, 0, bytes)?;
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn what_is_even_is_left_alone() {
        let load = |rank| (rank, 100 * MB, vec![(rank, 10 * MB, 10 * MB)]);
        assert!(decide((0..8).map(load).collect()).is_empty());
        assert!(decide(vec![(3, 900 * MB, vec![(7, 900 * MB, 0)])]).iter().all(|share| share.1 == [3]));
        // Little is not too much, and right rows are not copied where there are more of them.
        assert!(decide(vec![(0, 1000, vec![(0, 900, 0)]), (1, 0, vec![])]).is_empty());
        assert!(decide(vec![(0, 9 * MB, vec![(0, MB, 8 * MB)]), (1, 0, vec![])]).is_empty());
    }

    #[test]
    fn the_largest_parts_are_shared_by_those_with_the_least() {
        let mut loads: Vec<Load> = (0..4).map(|rank| (rank, 10 * MB, vec![(rank, MB, MB)])).collect();
        loads[2] = (2, 400 * MB, vec![(9, 380 * MB, 10 * MB), (8, 10 * MB, 0)]);
        let shares = decide(loads);
        assert_eq!(shares[0], (9, vec![2, 0, 1, 3]));
        assert!(shares.len() <= 2, "{shares:?}");
    }
}
