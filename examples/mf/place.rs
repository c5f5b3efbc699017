//! Ratings to the owners of their users, and where the rows of users and items are.
//!
//! A rank owns the users and items whose names' hashes say so. It cuts its users into splits, and its items into the slices that will
//! rotate, each of some splits. Ratings move once, to the owner of their user.

use aeolian::World;
use aeolian::harp::{Array, Sum, allreduce_slice};
use aeolian_examples::agree::agree;
use aeolian_examples::intern::{Interned, intern};
use aeolian_examples::names::Names;
use aeolian_examples::wires::{exchange, take};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Result};

use crate::blocks::{Blocks, Entry, Grid};
use crate::cut::{Cut, cut};
use crate::model::Shape;
use crate::ratings::{Part, Rating};

/// Slices into which a rank cuts its items: one is computed on while the other one is on its way.
pub(crate) const SLICES: usize = 2;

/// The users or items that a rank owns.
pub(crate) struct Owned {
    pub(crate) names: Names,
    /// Ratings of each to train on.
    pub(crate) ratings: Vec<u32>,
    /// Where their rows are; of items, the splits of all slices are counted through.
    pub(crate) cut: Cut,
}

/// Counts of all ranks together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) users: u64,
    pub(crate) items: u64,
    /// Ratings to train on.
    pub(crate) ratings: u64,
    pub(crate) held_out: u64,
    /// Those held out whose user or item has no rating to train on.
    pub(crate) cold: u64,
    /// Mean of the ratings to train on, or 0 if it is not wanted.
    pub(crate) mean: f64,
    /// The same, also if it is not wanted.
    pub(crate) true_mean: f64,
}

/// A rank's part of the problem.
pub(crate) struct Placed {
    pub(crate) users: Owned,
    pub(crate) items: Owned,
    pub(crate) grid: Grid,
    pub(crate) train: Blocks,
    pub(crate) test: Blocks,
    pub(crate) totals: Totals,
}

/// A rating at the owner of its user: the user's place among those of this rank, the item's number, and the rating's bits.
type Routed = [u32; 3];

/// Brings everything to its place. Collective.
pub(crate) fn place(
    world: &mut World,
    workers: &Workers,
    part: Part,
    shape: Shape,
    biased: bool,
    seed: u64,
) -> Result<Placed> {
    let ranks = world.size() as usize;
    let users = intern(world, &part.users, "users")?;
    let items = intern(world, &part.items, "items")?;
    let [train, test] = route(world, &users, &items, &part.ratings)?;
    drop(part);
    let fits = match u32::try_from(train.len().max(test.len())) {
        Ok(_) => Ok(()),
        Err(_) => {
            let what = format!("a rank has {} ratings, but they are numbered with 32 bits", train.len());
            Err(Error::data("the input", what, "use more ranks"))
        }
    };
    agree(world, fits)?;

    let value = |r: &Routed| f64::from(f32::from_bits(r[2]));
    let mut sums = [train.iter().map(value).sum(), train.len() as f64, test.len() as f64];
    allreduce_slice(world, &mut sums, Sum)?;
    let true_mean = if sums[1] > 0.0 { sums[0] / sums[1] } else { 0.0 };
    let mean = if biased { true_mean } else { 0.0 };
    let (n_users, n_items) = (users.first[ranks], items.first[ranks]);
    let row = (shape.width as u64 + 1) * 4;
    let grid = Grid::new(sums[1] as u64, [n_users, n_items], row, ranks as u64, SLICES as u64);

    let mut of_user = vec![0; users.owned.len()];
    train.iter().for_each(|r| of_user[r[0] as usize] += 1);
    let users = Owned { names: users.owned, cut: cut(&of_user, grid.rows), ratings: of_user };
    let (items, places) = place_items(world, items, grid, &train, &test)?;

    let entry = |r: &Routed| {
        let [split, item, _] = places[r[1] as usize];
        let user = r[0] as usize;
        let value = (value(r) - mean) as f32;
        (users.cut.split[user], split, Entry { user: users.cut.place[user], item, value })
    };
    let cold = |r: &&Routed| users.ratings[r[0] as usize] == 0 || places[r[1] as usize][2] == 0;
    let mut cold = [test.iter().filter(cold).count() as u64];
    allreduce_slice(world, &mut cold, Sum)?;
    let totals = Totals {
        users: n_users,
        items: n_items,
        ratings: sums[1] as u64,
        held_out: sums[2] as u64,
        cold: cold[0],
        mean,
        true_mean,
    };
    let [train, test] = [train, test].map(|ratings| Blocks::new(workers, grid, seed, &ratings, entry));
    Ok(Placed { users, items, grid, train, test, totals })
}

/// Sends each rating to the owner of its user. Returns those to train on and those held out that came here.
fn route(
    world: &mut World,
    users: &Interned,
    items: &Interned,
    ratings: &[Rating],
) -> Result<[Vec<Routed>; 2]> {
    let size = world.size() as usize;
    let mut outgoing = vec![[Vec::new(), Vec::new()]; size];
    for r in ratings {
        let user = users.numbers[r.user as usize];
        let owner = users.first[1..size].partition_point(|f| *f <= u64::from(user));
        let routed = [user - users.first[owner] as u32, items.numbers[r.item as usize], r.value.to_bits()];
        outgoing[owner][usize::from(r.held_out)].push(routed);
    }
    let arrays = |lists: [Vec<Routed>; 2]| lists.map(|l| Array::from(l.as_flattened())).into();
    let came = exchange::<u32>(world, outgoing.into_iter().map(arrays).collect())?;
    let mut all = [Vec::new(), Vec::new()];
    for arrays in came {
        let lists: [Array<u32>; 2] = take(arrays);
        for (all, list) in all.iter_mut().zip(lists) {
            all.extend_from_slice(list.as_chunks::<3>().0);
        }
    }
    Ok(all)
}

/// Split and place of an item's row, and how many ratings of it there are to train on.
type Place = [u32; 3];

/// Cuts this rank's items into splits, by how many ratings of each all ranks have; and learns the places of all items that ratings here
/// are of (of others, nothing).
fn place_items(
    world: &mut World,
    items: Interned,
    grid: Grid,
    train: &[Routed],
    test: &[Routed],
) -> Result<(Owned, Vec<Place>)> {
    let size = world.size() as usize;
    let mut counts = vec![None; items.first[size] as usize];
    test.iter().for_each(|r| counts[r[1] as usize] = Some(0u32));
    train.iter().for_each(|r| *counts[r[1] as usize].get_or_insert(0) += 1);
    let asked = |owner: usize| {
        let own = items.first[owner] as usize..items.first[owner + 1] as usize;
        let seen = counts[own].iter().zip(0u32..).filter_map(|(n, i)| n.map(|n| [i, n]));
        vec![Array::from(seen.collect::<Vec<[u32; 2]>>().as_flattened())]
    };
    let came = exchange(world, (0..size).map(asked).collect())?;
    let came: Vec<[Array<u32>; 1]> = came.into_iter().map(take).collect();
    let mut ratings = vec![0u32; items.owned.len()];
    for [asked] in &came {
        // More than fits stays as it is: it only decides which split is less busy.
        asked.as_chunks().0.iter().for_each(|[item, n]| {
            ratings[*item as usize] = ratings[*item as usize].saturating_add(*n);
        });
    }
    let mut cut = cut(&ratings, SLICES * grid.cols);
    let first_split = world.rank() * (SLICES * grid.cols) as u32;
    cut.split.iter_mut().for_each(|s| *s += first_split);
    let answer = |[asked]: &[Array<u32>; 1]| {
        let place = |[item, _]: &[u32; 2]| {
            let item = *item as usize;
            [cut.split[item], cut.place[item], ratings[item]]
        };
        vec![Array::from(asked.as_chunks().0.iter().map(place).collect::<Vec<Place>>().as_flattened())]
    };
    let answers = exchange(world, came.iter().map(answer).collect())?;
    let mut places = vec![[0; 3]; counts.len()];
    for (owner, arrays) in answers.into_iter().enumerate() {
        let [answer] = take::<u32, 1>(arrays);
        let own = items.first[owner] as usize..items.first[owner + 1] as usize;
        let seen = own.filter(|i| counts[*i].is_some());
        seen.zip(answer.as_chunks::<3>().0).for_each(|(i, place)| places[i] = *place);
    }
    Ok((Owned { names: items.owned, ratings, cut }, places))
}
