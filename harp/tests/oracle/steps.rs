//! A collective call as data: made at random, called in its blocking form, started in the other.

use crate::kinds::{Kind, Model, Rng, TableOf, model, table};
use crate::reference::Output;
use aeolian_harp::*;
use aeolian_net::World;
use std::collections::BTreeMap;

/// A partitioner.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Modulo,
    Hashed,
    Ranges(Vec<u64>),
    Explicit(Vec<(u64, u32)>),
    /// By the low bits, from the last rank down.
    Function,
}

impl Place {
    fn random(rng: &mut Rng, n: usize) -> Place {
        match rng.below(5) {
            0 => Place::Modulo,
            1 => Place::Hashed,
            2 => Place::Ranges((1..n).map(|_| rng.next() % 20).collect()),
            3 => Place::Explicit((0..rng.next() % 6).map(|id| (id, rng.below(n) as u32)).collect()),
            _ => Place::Function,
        }
    }

    /// As one would work it out by hand.
    pub(crate) fn rank(&self, id: u64, n: usize) -> usize {
        match self {
            Place::Modulo => (id % n as u64) as usize,
            Place::Hashed => Hashed.rank_of(id, n as u32) as usize,
            Place::Ranges(ends) => ends.iter().filter(|end| **end <= id).count(),
            Place::Explicit(list) => match list.iter().find(|(i, _)| *i == id) {
                Some((_, rank)) => *rank as usize,
                None => (id % n as u64) as usize,
            },
            Place::Function => n - 1 - (id & 0xff) as usize % n,
        }
    }
}

impl Partitioner for Place {
    fn rank_of(&self, id: u64, size: u32) -> u32 {
        match self {
            Place::Modulo => Modulo.rank_of(id, size),
            Place::Hashed => Hashed.rank_of(id, size),
            Place::Ranges(ends) => Ranges::new(ends.clone()).rank_of(id, size),
            Place::Explicit(list) => Explicit::new(list.iter().copied()).rank_of(id, size),
            Place::Function => {
                ById::new("from the end", |id, n| n - 1 - (id & 0xff) as u32 % n).rank_of(id, size)
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Place::Modulo => Modulo.name(),
            Place::Hashed => Hashed.name(),
            Place::Ranges(_) => "ranges",
            Place::Explicit(_) => "explicit",
            Place::Function => "from the end",
        }
    }
}

/// A call.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Barrier,
    Broadcast(usize),
    Reduce(usize),
    Allreduce,
    Gather(usize),
    Allgather,
    Scatter(usize, Place),
    Alltoall,
    Regroup(Place),
    Aggregate(Place),
    Push(Place),
    Pull,
    Join(Place),
    Rotate(Rotation),
    Scan,
    Exscan,
}

/// How many kinds of calls there are.
pub(crate) const KINDS: usize = 16;

impl Step {
    /// The `which`th kind of call, with random arguments.
    pub(crate) fn random(rng: &mut Rng, which: usize, n: usize) -> Step {
        let root = rng.below(n);
        let place = Place::random(rng, n);
        match which {
            0 => Step::Barrier,
            1 => Step::Broadcast(root),
            2 => Step::Reduce(root),
            3 => Step::Allreduce,
            4 => Step::Gather(root),
            5 => Step::Allgather,
            6 => Step::Scatter(root, place),
            7 => Step::Alltoall,
            8 => Step::Regroup(place),
            9 => Step::Aggregate(place),
            10 => Step::Push(place),
            11 => Step::Pull,
            12 => Step::Join(place),
            13 if rng.below(2) == 0 => Step::Rotate(Rotation::Ring),
            13 => Step::Rotate(Rotation::To(rng.shuffled(n))),
            14 => Step::Scan,
            _ => Step::Exscan,
        }
    }

    /// How many tables a rank gives.
    fn tables(&self, n: usize) -> usize {
        match self {
            Step::Barrier => 0,
            Step::Alltoall => n,
            Step::Push(_) | Step::Pull | Step::Join(_) => 2,
            _ => 1,
        }
    }
}

/// How long partitions may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    /// From nothing to a bit more than what travels in the head of a message.
    Any,
    /// Some MiB.
    Large,
}

/// Random tables for a call of `n` ranks. The length of a partition follows from its id.
pub(crate) fn given<K: Kind>(rng: &mut Rng, step: &Step, n: usize, size: Size) -> Vec<Vec<Model<K>>> {
    const APART: usize = 32 << 10;
    let few = matches!(step, Step::Alltoall) || matches!(size, Size::Large);
    let mut ids = BTreeMap::new();
    for at in 0..if few { 3 } else { 8 } {
        let id = match at {
            0 => u64::MAX,
            1 => 1 << 40,
            _ => rng.next() % 24,
        };
        let bytes = match size {
            Size::Large if at == 2 => (1 << 20) + rng.below(4 << 20),
            _ if rng.below(4) == 0 => APART - K::WIDTH + rng.below(3) * K::WIDTH,
            _ => rng.pick(&[0, 1, 2, 7, 64, 131, 1009]) * K::WIDTH,
        };
        ids.insert(id, bytes / K::WIDTH);
    }
    let mut table = || {
        // Of a quarter of the tables nothing, of others much.
        let share = rng.below(4);
        let there = ids.iter().filter(|_| rng.below(4) < share).map(|(&id, &len)| (id, len));
        there.collect::<Vec<_>>().into_iter().map(|(id, len)| (id, K::part(rng, len))).collect()
    };
    (0..n).map(|_| (0..step.tables(n)).map(|_| table()).collect()).collect()
}

/// Calls it and waits.
pub(crate) fn call<K: Kind>(step: &Step, world: &mut World, given: &[Model<K>]) -> Result<Output<K>> {
    let mut tables: Vec<TableOf<K>> = given.iter().map(table::<K>).collect();
    let mut missing = Vec::new();
    match step {
        Step::Barrier => barrier(world)?,
        Step::Broadcast(root) => broadcast(world, &mut tables[0], *root as u32)?,
        Step::Reduce(root) => reduce(world, &mut tables[0], *root as u32)?,
        Step::Allreduce => allreduce(world, &mut tables[0])?,
        Step::Gather(root) => gather(world, &mut tables[0], *root as u32)?,
        Step::Allgather => allgather(world, &mut tables[0])?,
        Step::Scatter(root, place) => scatter(world, &mut tables[0], *root as u32, place)?,
        Step::Alltoall => tables = alltoall(world, tables)?,
        Step::Regroup(place) => regroup(world, &mut tables[0], place)?,
        Step::Aggregate(place) => aggregate(world, &mut tables[0], place, K::touch)?,
        Step::Push(place) => {
            let local = tables.remove(0);
            push(world, &local, &mut tables[0], place)?;
            assert!(model::<K>(&local) == given[0], "push leaves the local table as it is");
        }
        Step::Pull => {
            let global = tables.remove(1);
            missing = pull(world, &mut tables[0], &global)?;
            tables.push(global);
        }
        Step::Join(place) => {
            let fixed = tables.remove(1);
            join(world, &mut tables[0], &fixed, place)?;
            assert!(model::<K>(&fixed) == given[1], "join leaves the other table as it is");
        }
        Step::Rotate(rotation) => rotate(world, &mut tables[0], rotation)?,
        Step::Scan => scan(world, &mut tables[0])?,
        Step::Exscan => exscan(world, &mut tables[0])?,
    }
    Ok(Output { tables: tables.iter().map(model::<K>).collect(), missing })
}

/// A call under way.
pub(crate) enum Flying<K: Kind> {
    Nothing(Pending<()>),
    Table(Pending<TableOf<K>>),
    Tables(Pending<Vec<TableOf<K>>>),
    Pulled(Pending<(TableOf<K>, TableOf<K>, Vec<u64>)>),
}

/// Starts it.
pub(crate) fn start<K: Kind>(step: &Step, world: &World, given: &[Model<K>]) -> Result<Flying<K>> {
    let mut tables: Vec<TableOf<K>> = given.iter().map(table::<K>).collect();
    let (second, first) = match step {
        Step::Alltoall => return ialltoall(world, tables).map(Flying::Tables),
        Step::Barrier => return ibarrier(world).map(Flying::Nothing),
        Step::Push(_) | Step::Pull | Step::Join(_) => (tables.pop(), tables.pop().unwrap()),
        _ => (None, tables.pop().unwrap()),
    };
    let pending = match step {
        Step::Broadcast(root) => ibroadcast(world, first, *root as u32),
        Step::Reduce(root) => ireduce(world, first, *root as u32),
        Step::Allreduce => iallreduce(world, first),
        Step::Gather(root) => igather(world, first, *root as u32),
        Step::Allgather => iallgather(world, first),
        Step::Scatter(root, place) => iscatter(world, first, *root as u32, place.clone()),
        Step::Regroup(place) => iregroup(world, first, place.clone()),
        Step::Aggregate(place) => iaggregate(world, first, place.clone(), K::touch),
        Step::Push(place) => ipush(world, first, second.unwrap(), place.clone()),
        Step::Pull => return ipull(world, first, second.unwrap()).map(Flying::Pulled),
        Step::Join(place) => ijoin(world, first, second.unwrap().ids(), place.clone()),
        Step::Rotate(rotation) => irotate(world, first, rotation.clone()),
        Step::Scan => iscan(world, first),
        Step::Exscan => iexscan(world, first),
        Step::Barrier | Step::Alltoall => unreachable!(),
    };
    pending.map(Flying::Table)
}

impl<K: Kind> Flying<K> {
    pub(crate) fn test(&self) -> Result<bool> {
        match self {
            Flying::Nothing(pending) => Ok(pending.test()?),
            Flying::Table(pending) => Ok(pending.test()?),
            Flying::Tables(pending) => Ok(pending.test()?),
            Flying::Pulled(pending) => Ok(pending.test()?),
        }
    }

    pub(crate) fn wait(self) -> Result<Output<K>> {
        let all = |tables: &[TableOf<K>]| tables.iter().map(model::<K>).collect();
        Ok(match self {
            Flying::Nothing(pending) => {
                pending.wait()?;
                Output::of(vec![])
            }
            Flying::Table(pending) => Output::of(vec![model::<K>(&pending.wait()?)]),
            Flying::Tables(pending) => Output::of(all(&pending.wait()?)),
            Flying::Pulled(pending) => {
                let (local, global, missing) = pending.wait()?;
                Output { tables: all(&[local, global]), missing }
            }
        })
    }
}
