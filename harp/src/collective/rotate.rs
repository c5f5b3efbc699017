//! Rotate.

use crate::brief::{self, Plan, only};
use crate::call::{Call, Op, Pending, agree, starting};
use crate::combiner::Combiner;
use crate::data::Data;
use crate::error::{HarpError, Result};
use crate::join::both;
use crate::node;
use crate::table::Table;
use aeolian_net::World;
use aeolian_net::shared::{Glance, View};
use smallvec::SmallVec;

/// Where the tables go in a [`rotate`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rotation {
    /// To the next rank, from the last to the first.
    #[default]
    Ring,
    /// That of rank `r` to rank `to[r]`: a permutation of the ranks, the same list on all of them.
    To(Vec<u32>),
}

impl Rotation {
    /// To and from which rank `rank` sends and receives.
    fn ends(&self, rank: u32, size: u32) -> Result<(u32, u32)> {
        let to = match self {
            Rotation::Ring => return Ok(((rank + 1) % size, (rank + size - 1) % size)),
            Rotation::To(to) => to,
        };
        let from = self.sources(size)?;
        Ok((to[rank as usize], from[rank as usize]))
    }

    /// From which rank each rank receives.
    fn sources(&self, size: u32) -> Result<SmallVec<[u32; 8]>> {
        let to = match self {
            Rotation::Ring => return Ok((0..size).map(|rank| (rank + size - 1) % size).collect()),
            Rotation::To(to) => to,
        };
        let mut from = vec![None; size as usize];
        for (&t, r) in to.iter().zip(0..) {
            if let Some(slot) = from.get_mut(t as usize) {
                *slot = Some(r);
            }
        }
        match (to.len() == size as usize, from.into_iter().collect()) {
            (true, Some(from)) => Ok(from),
            _ => Err(HarpError::Usage(format!("{to:?} is not a permutation of {size} ranks"))),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Rotation::Ring => Vec::new(),
            Rotation::To(to) => to.iter().flat_map(|r| r.to_le_bytes()).collect(),
        }
    }
}

/// Every table moves as a whole to another rank: the next one, or as a permutation says.
///
/// If the ranks share memory each copies what it gets from where it lies; large tables of the same lengths change places there. Else one message (and one for each
/// long partition) a rank; each rank sends and receives at the same time.
///
/// # Errors
/// [`HarpError::Usage`] for a list that is no permutation.
///
/// ```
/// use aeolian_harp::{Rotation, Sum, Table, rotate};
/// aeolian_net::World::local(3, |mut world| {
///     let mut slice = Table::<u32, Sum>::new(Sum);
///     slice.add(u64::from(world.rank()), vec![world.rank()])?;
///     for _ in 0..world.size() {
///         rotate(&mut world, &mut slice, &Rotation::Ring)?;
///     }
///     assert_eq!(slice.get(u64::from(world.rank())).unwrap()[0], world.rank()); // once around
///     world.finish()
/// })?;
/// # Ok::<(), aeolian_net::NetError>(())
/// ```
pub fn rotate<D: Data, C: Combiner<D::Unit>>(
    world: &mut World,
    table: &mut Table<D, C>,
    rotation: &Rotation,
) -> Result<()> {
    let agree = agree(table, &rotation.bytes());
    let ends = rotation.ends(world.rank(), world.size());
    let plan = brief::plan::<Table<D, C>, _>(|_, table| {
        let &(to, from) = ends.as_ref().ok()?;
        Some(Plan::one(only(table, to)?, from..from + 1))
    });
    let take = |view: &View<'_>, _: &World, table: &mut Table<D, C>| {
        let &Ok((_, from)) = &ends else { return Ok(false) };
        let Glance::One(shown) = view.of(from) else { return Ok(false) };
        table.become_bytes(std::iter::once((shown.id, shown.bytes)), from)?;
        Ok(true)
    };
    brief::blocking(world, Op::Rotate, agree, table, plan, take, async |call, table| {
        body(call, table, rotation).await
    })
}

/// Starts a [`rotate`]; the table that has come comes back.
pub fn irotate<D: Data, C: Combiner<D::Unit> + 'static>(
    world: &World,
    mut table: Table<D, C>,
    rotation: Rotation,
) -> Result<Pending<Table<D, C>>> {
    let agree = agree(&table, &rotation.bytes());
    starting(world, Op::Rotate, agree, async move |call| {
        body(call, &mut table, &rotation).await?;
        Ok(table)
    })
}

async fn body<D: Data, C: Combiner<D::Unit>>(
    call: &Call,
    table: &mut Table<D, C>,
    rotation: &Rotation,
) -> Result<()> {
    if call.near() {
        return node::rotated(call, table, &rotation.sources(call.size())?).await;
    }
    let (to, from) = rotation.ends(call.rank(), call.size())?;
    if to == call.rank() {
        return Ok(());
    }
    let ((), came) = both(call.send_parts::<D>(to, table.take()), call.recv_parts::<D>(from)).await?;
    table.combine_above(came, from)
}
