//! The collectives as one process would do them.

use crate::kinds::{Kind, Model, Part};
use crate::steps::{Place, Step};
use aeolian_harp::{Data, Rotation};

/// What a collective gives on a rank.
pub(crate) struct Output<K: Kind> {
    pub(crate) tables: Vec<Model<K>>,
    /// Of a pull: what nobody has.
    pub(crate) missing: Vec<u64>,
}

impl<K: Kind> Output<K> {
    pub(crate) fn of(tables: Vec<Model<K>>) -> Output<K> {
        Output { tables, missing: Vec::new() }
    }

    /// Panics with the place where `got` is something else.
    pub(crate) fn check(&self, got: &Output<K>, what: &str) {
        assert_eq!(self.missing, got.missing, "{what}: ids that nobody has");
        assert_eq!(self.tables.len(), got.tables.len(), "{what}: number of tables");
        for (at, (want, got)) in self.tables.iter().zip(&got.tables).enumerate() {
            let ids = |m: &Model<K>| m.keys().copied().collect::<Vec<_>>();
            assert_eq!(ids(want), ids(got), "{what}: ids of table {at}");
            for (id, part) in want {
                if *part != got[id] {
                    let len = |p: &Part<K>| K::D::len(p);
                    panic!(
                        "{what}: partition {id} of table {at} of {} elements, wanted {}: {}",
                        len(&got[id]),
                        len(part),
                        K::D::difference(part, &got[id], &[]).unwrap_or_default()
                    );
                }
            }
        }
    }
}

/// All of them, one by one.
fn combined<'a, K: Kind>(tables: impl IntoIterator<Item = &'a Model<K>>) -> Model<K> {
    let mut all = Model::<K>::new();
    for (id, part) in tables.into_iter().flatten() {
        match all.get_mut(id) {
            Some(have) => K::fold(have, part),
            None => drop(all.insert(*id, part.clone())),
        }
    }
    all
}

/// The partitions whose ids are wanted.
fn only<K: Kind>(table: &Model<K>, wanted: impl Fn(u64) -> bool) -> Model<K> {
    table.iter().filter(|(id, _)| wanted(**id)).map(|(id, part)| (*id, part.clone())).collect()
}

/// The lowest rank that has an id in its second table, or where it is to go.
fn owner<K: Kind>(given: &[Vec<Model<K>>], id: u64) -> Option<usize> {
    given.iter().position(|tables| tables[1].contains_key(&id))
}

/// What every rank gets of what all have given: one table each, or two (`push`, `pull`, `join`), or one for each rank (`alltoall`).
pub(crate) fn expected<K: Kind>(step: &Step, given: &[Vec<Model<K>>]) -> Vec<Output<K>> {
    let n = given.len();
    let first = || given.iter().map(|tables| &tables[0]);
    let at_rank = |place: &Place, id: u64| place.rank(id, n);
    let one = |rank_table: &dyn Fn(usize) -> Model<K>| {
        (0..n).map(|rank| Output::of(vec![rank_table(rank)])).collect()
    };
    match step {
        Step::Barrier => (0..n).map(|_| Output::of(vec![])).collect(),
        Step::Broadcast(root) => one(&|rank| match rank == *root {
            true => given[rank][0].clone(),
            false => combined::<K>([&given[rank][0], &given[*root][0]]),
        }),
        Step::Reduce(root) | Step::Gather(root) => one(&|rank| match rank == *root {
            true => combined::<K>(first()),
            false => Model::<K>::new(),
        }),
        Step::Allreduce | Step::Allgather => one(&|_| combined::<K>(first())),
        Step::Scatter(root, place) => one(&|rank| {
            let mine = only::<K>(&given[*root][0], |id| at_rank(place, id) == rank);
            if rank == *root { mine } else { combined::<K>([&given[rank][0], &mine]) }
        }),
        Step::Alltoall => {
            (0..n).map(|to| Output::of(given.iter().map(|from| from[to].clone()).collect())).collect()
        }
        Step::Regroup(place) => {
            one(&|rank| only::<K>(&combined::<K>(first()), |id| at_rank(place, id) == rank))
        }
        Step::Aggregate(_) => one(&|_| {
            let mut all = combined::<K>(first());
            all.iter_mut().for_each(|(id, part)| K::touch(*id, K::D::unit_mut(part)));
            all
        }),
        Step::Push(place) => one(&|rank| {
            let mine = |id| owner::<K>(given, id).unwrap_or_else(|| at_rank(place, id)) == rank;
            let pushed: Vec<_> = first().map(|local| only::<K>(local, mine)).collect();
            combined::<K>(std::iter::once(&given[rank][1]).chain(&pushed))
        }),
        Step::Pull => (0..n)
            .map(|rank| {
                let (mut local, mut missing) = (given[rank][0].clone(), Vec::new());
                for (id, part) in &mut local {
                    match owner::<K>(given, *id) {
                        Some(owner) => *part = given[owner][1][id].clone(),
                        None => missing.push(*id),
                    }
                }
                Output { tables: vec![local, given[rank][1].clone()], missing }
            })
            .collect(),
        Step::Join(place) => one(&|rank| {
            only::<K>(&combined::<K>(first()), |id| {
                owner::<K>(given, id).unwrap_or_else(|| at_rank(place, id)) == rank
            })
        }),
        Step::Rotate(rotation) => one(&|rank| {
            let from = match rotation {
                Rotation::Ring => (rank + n - 1) % n,
                Rotation::To(to) => to.iter().position(|&t| t as usize == rank).unwrap(),
            };
            given[from][0].clone()
        }),
        Step::Scan => one(&|rank| combined::<K>(first().take(rank + 1))),
        Step::Exscan => one(&|rank| combined::<K>(first().take(rank))),
    }
}
