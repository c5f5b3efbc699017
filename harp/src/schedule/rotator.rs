//! The rotator: slices of a model that go round the ranks while others are computed on.

use super::random::Random;
use crate::call::Pending;
use crate::collective::rotate::{Rotation, irotate};
use crate::collective::split::split;
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::table::Table;
use aeolian_net::World;

/// In which order slices visit the ranks. In an epoch, that is as many rotations as there are ranks, each visits every rank
/// once and comes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RingOrder {
    /// From each rank to the next one.
    #[default]
    Ranks,
    /// Round a ring of the ranks in a random order, another one in each epoch, so that a slice does not always come from the same
    /// rank. The seed must be the same on all ranks.
    Random {
        /// Decides the orders.
        seed: u64,
    },
}

impl RingOrder {
    /// The ring of an epoch: place -> rank.
    fn ring(self, epoch: u64, size: u32) -> Vec<u32> {
        match self {
            RingOrder::Ranks => (0..size).collect(),
            RingOrder::Random { seed } => {
                Random::new(seed, epoch).permutation(size as usize).into_iter().map(|r| r as u32).collect()
            }
        }
    }

    /// Where all go in the rotations of an epoch.
    fn rotation(self, epoch: u64, size: u32) -> Rotation {
        if self == RingOrder::Ranks {
            return Rotation::Ring;
        }
        let ring = self.ring(epoch, size);
        let mut to = vec![0; size as usize];
        for (&from, &next) in ring.iter().zip(ring.iter().cycle().skip(1)) {
            to[from as usize] = next;
        }
        Rotation::To(to)
    }

    /// The rank whose slice is at rank `rank` after so many rotations.
    fn home(self, rank: u32, rotations: u64, size: u32) -> u32 {
        let (epoch, turn) = (rotations / u64::from(size), (rotations % u64::from(size)) as usize);
        let ring = self.ring(epoch, size);
        let here = ring.iter().position(|&r| r == rank).unwrap_or(0);
        ring[(here + ring.len() - turn) % ring.len()]
    }
}

enum Slot<D: Data, C> {
    Here(Table<D, C>),
    /// The program has it.
    Out,
    Moving(Pending<Table<D, C>>),
}

struct Slice<D: Data, C> {
    /// Its own stream of messages: ranks may rotate slices in different orders.
    world: World,
    slot: Slot<D, C>,
    rotations: u64,
}

/// Passes slices of a model round the ranks in the background of computing on other slices (Harp's dymoro).
///
/// A rank cuts its share of the model into a few [`Table`]s, the slices. [`get`](Self::get) gives a slice out once it is here, and
/// [`rotate`](Self::rotate) starts sending it on and returns at once; meanwhile the next slice is computed on, inside
/// [`overlap`](crate::schedule::overlap), so that messages move. After as many rotations as there are ranks, every rank has had
/// every slice, and has its own again.
///
/// All ranks must have the same number of slices and rotate each as often; the order among different slices is up to each rank.
/// Slice `i` of a rank visits the place of slice `i` on the others. Keep one rotator for the whole job: it makes a world for each
/// slice, of which a job has at most 65536.
///
/// # Memory
/// The rank's slices, and one incoming table for each slice under way while the outgoing one is not taken yet: at most twice the
/// slices that are under way plus those that are not. With two slices of equal size that is 1.5 times the share of the model, with
/// `k` slices of which one moves at a time `1 + 1/k` times. A rank that is behind holds besides what others have sent it already, at
/// most the wire's [`WINDOW`](aeolian_net::WINDOW) of each sender or one message that is larger.
///
/// ```
/// use aeolian_harp::{Sum, Table};
/// use aeolian_harp::schedule::{BlockScheduler, RingOrder, Rotator, Until, overlap};
/// // Three ranks with two slices each. Every rank adds 1 to every element of the whole model.
/// aeolian_net::World::local(3, |mut world| {
///     let slice = |s: u64| {
///         let mut table = Table::<f64, Sum>::new(Sum);
///         table.add(u64::from(world.rank()) * 2 + s, vec![0.0; 100])?;
///         Ok::<_, aeolian_harp::HarpError>(table)
///     };
///     let slices = vec![slice(0)?, slice(1)?];
///     let mut rotator = Rotator::new(&mut world, slices, RingOrder::Random { seed: 1 })?;
///     let mut scheduler = BlockScheduler::new(2, 1);
///     for _ in 0..world.size() {
///         for s in 0..rotator.slices() {
///             let mut table = rotator.get(s)?; // waits; the other slice is on its way
///             let mut rows = [(); 4];
///             let mut cols: Vec<&mut [f64]> = table.iter_mut().flat_map(|(_, p)| p.chunks_mut(25)).collect();
///             overlap(&mut world, || {
///                 scheduler.run(&mut rows, &mut cols, Until::Epochs(1), |_, _, _, col| {
///                     col.iter_mut().for_each(|x| *x += 0.25);
///                     Ok(())
///                 })?;
///                 Ok(())
///             })?;
///             rotator.rotate(s, table)?; // returns at once
///         }
///     }
///     for (s, table) in rotator.stop()?.into_iter().enumerate() {
///         let mine = table.get(u64::from(world.rank()) * 2 + s as u64).unwrap(); // home again
///         assert_eq!(mine[..], [3.0; 100]);
///     }
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub struct Rotator<D: Data, C> {
    slices: Vec<Slice<D, C>>,
    order: RingOrder,
}

impl<D: Data, C: Combiner<D::Unit> + 'static> Rotator<D, C> {
    /// With this rank's slices. All ranks must call this, with as many slices and the same order.
    pub fn new(world: &mut World, slices: Vec<Table<D, C>>, order: RingOrder) -> Result<Rotator<D, C>> {
        let mut all = Vec::with_capacity(slices.len());
        for table in slices {
            let Some(world) = split(world, Some(0), 0)? else {
                return Err(HarpError::Usage("a slice without a world".into()));
            };
            all.push(Slice { world, slot: Slot::Here(table), rotations: 0 });
        }
        Ok(Rotator { slices: all, order })
    }

    /// How many slices a rank has.
    pub fn slices(&self) -> usize {
        self.slices.len()
    }

    /// Gives a slice out, once it has arrived here.
    ///
    /// # Errors
    /// [`HarpError::Usage`] if there is no such slice, or it is out already; otherwise what went wrong between ranks.
    pub fn get(&mut self, slice: usize) -> Result<Table<D, C>> {
        match std::mem::replace(&mut self.of(slice)?.slot, Slot::Out) {
            Slot::Here(table) => Ok(table),
            Slot::Moving(pending) => pending.wait(),
            Slot::Out => Err(HarpError::Usage(format!("slice {slice} was given out, and not rotated since"))),
        }
    }

    /// Whether [`get`](Self::get) would return the slice at once. Moves messages.
    ///
    /// # Errors
    /// As [`get`](Self::get), but for a slice that is out: that is just not here.
    pub fn has(&mut self, slice: usize) -> Result<bool> {
        match &self.of(slice)?.slot {
            Slot::Here(_) => Ok(true),
            Slot::Moving(pending) => Ok(pending.test()?),
            Slot::Out => Ok(false),
        }
    }

    /// Starts sending a slice on to the next rank of the ring, and returns at once. Any table may be given back, say the one that
    /// [`get`](Self::get) gave out, changed.
    ///
    /// # Errors
    /// [`HarpError::Usage`] if there is no such slice, or it is not out.
    pub fn rotate(&mut self, slice: usize, table: Table<D, C>) -> Result<()> {
        let order = self.order;
        let it = self.of(slice)?;
        if !matches!(it.slot, Slot::Out) {
            return Err(HarpError::Usage(format!("slice {slice} is rotated, but was not taken out")));
        }
        let size = it.world.size();
        let rotation = order.rotation(it.rotations / u64::from(size), size);
        it.slot = Slot::Moving(irotate(&it.world, table, rotation)?);
        it.rotations += 1;
        Ok(())
    }

    /// How many times a slice was rotated.
    ///
    /// # Errors
    /// There is no such slice.
    pub fn rotations(&self, slice: usize) -> Result<u64> {
        Ok(self.peek(slice)?.rotations)
    }

    /// The rank whose slice is here, or on its way here, as slice number `slice`: the one that had it at the beginning.
    ///
    /// # Errors
    /// There is no such slice.
    pub fn home(&self, slice: usize) -> Result<u32> {
        let it = self.peek(slice)?;
        Ok(self.order.home(it.world.rank(), it.rotations, it.world.size()))
    }

    /// Waits for all slices and gives them out: those that are here, wherever their home is.
    ///
    /// # Errors
    /// [`HarpError::Usage`] if one is out; otherwise what went wrong between ranks.
    pub fn stop(mut self) -> Result<Vec<Table<D, C>>> {
        (0..self.slices.len()).map(|slice| self.get(slice)).collect()
    }
}

impl<D: Data, C> Rotator<D, C> {
    fn of(&mut self, slice: usize) -> Result<&mut Slice<D, C>> {
        let slices = self.slices.len();
        self.slices.get_mut(slice).ok_or_else(|| unknown(slice, slices))
    }

    fn peek(&self, slice: usize) -> Result<&Slice<D, C>> {
        self.slices.get(slice).ok_or_else(|| unknown(slice, self.slices.len()))
    }
}

fn unknown(slice: usize, slices: usize) -> HarpError {
    HarpError::Usage(format!("slice {slice} of a rotator of {slices} slices"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_an_epoch_each_visits_every_rank_once() {
        for order in [RingOrder::Ranks, RingOrder::Random { seed: 3 }] {
            for size in [1u32, 2, 3, 8] {
                // home() against following the rotations one by one
                let mut at: Vec<u32> = (0..size).collect();
                for rotations in 0..u64::from(3 * size) {
                    for (home, &rank) in (0..).zip(&at) {
                        assert_eq!(order.home(rank, rotations, size), home);
                    }
                    let to = match order.rotation(rotations / u64::from(size), size) {
                        Rotation::Ring => (1..size).chain([0]).collect(),
                        Rotation::To(to) => to,
                    };
                    at = at.iter().map(|&rank| to[rank as usize]).collect();
                }
                assert_eq!(at, (0..size).collect::<Vec<_>>());
            }
        }
        let random = RingOrder::Random { seed: 3 };
        assert_ne!(random.ring(0, 20), random.ring(1, 20));
    }
}
