//! All collectives of Harp, each in a form that does the same on every rank and needs no more than a world: for tests that are
//! not about what comes of them.

use aeolian::World;
use aeolian::harp::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes the next combination in this process panic.
pub static PANIC: AtomicBool = AtomicBool::new(false);

/// What a call is made with.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// Elements of a partition, and keys of a key-value table.
    pub len: usize,
    /// The root, if there is one.
    pub root: u32,
    /// Started and waited for, instead of blocking.
    pub started: bool,
}

/// A collective.
pub struct Call {
    /// As errors name it.
    pub name: &'static str,
    /// Whether a combiner works in it.
    pub combines: bool,
    /// Calls it once.
    pub run: fn(&mut World, Given) -> Result<()>,
}

const fn call(name: &'static str, combines: bool, run: fn(&mut World, Given) -> Result<()>) -> Call {
    Call { name, combines, run }
}

/// A sum that can be made to panic.
#[derive(Clone)]
pub struct Armed;

impl Combiner<[f64]> for Armed {
    fn combine(&self, into: &mut [f64], other: &[f64]) {
        if PANIC.swap(false, Ordering::Relaxed) {
            panic!("in the combiner");
        }
        Sum.combine(into, other);
    }

    fn law(&self) -> Law {
        Combiner::<[f64]>::law(&Sum)
    }

    fn name(&self) -> &'static str {
        "armed sum"
    }
}

type Floats = Table<f64, Armed>;
type Keys = KvTable<u64, f64, Armed>;

/// A partition that all ranks have, one that is this rank's, and one for each rank.
fn floats(world: &World, len: usize) -> Result<Floats> {
    let me = f64::from(world.rank());
    let mut table = Table::new(Armed);
    table.add(1 << 32, vec![me; len])?;
    table.add((2 << 32) + u64::from(world.rank()), vec![me; len / 2])?;
    for rank in 0..world.size() {
        table.add(u64::from(rank), vec![me; len / 4])?;
    }
    Ok(table)
}

/// The same on all ranks, which those that share memory combine where it lies.
fn same(world: &World, len: usize) -> Result<Floats> {
    let mut table = Table::new(Armed);
    table.add(0, vec![f64::from(world.rank()); len])?;
    table.add(1, vec![1.0; len / 2])?;
    Ok(table)
}

/// Half of the keys are every rank's.
fn keys(world: &World, len: usize) -> Keys {
    let mut table = KvTable::new(Armed);
    for i in 0..len as u64 {
        table.add(if i % 2 == 0 { i } else { i << 16 | u64::from(world.rank()) }, 1.0);
    }
    table
}

/// Nothing on ranks that are not the root.
fn at_root(world: &World, g: Given) -> Result<Floats> {
    if world.rank() == g.root { floats(world, g.len) } else { Ok(Table::new(Armed)) }
}

/// All of them, in the order of their operation's number.
pub const CALLS: [Call; 26] = [
    call("barrier", false, |w, g| if g.started { ibarrier(w)?.wait() } else { barrier(w) }),
    call("broadcast", false, |w, g| {
        let mut t = at_root(w, g)?;
        if g.started { ibroadcast(w, t, g.root)?.wait().map(drop) } else { broadcast(w, &mut t, g.root) }
    }),
    call("reduce", true, |w, g| {
        let mut t = same(w, g.len)?;
        if g.started { ireduce(w, t, g.root)?.wait().map(drop) } else { reduce(w, &mut t, g.root) }
    }),
    call("allreduce", true, |w, g| {
        let mut t = same(w, g.len)?;
        if g.started { iallreduce(w, t)?.wait().map(drop) } else { allreduce(w, &mut t) }
    }),
    call("gather", true, |w, g| {
        let mut t = floats(w, g.len)?;
        if g.started { igather(w, t, g.root)?.wait().map(drop) } else { gather(w, &mut t, g.root) }
    }),
    call("allgather", true, |w, g| {
        let mut t = floats(w, g.len)?;
        if g.started { iallgather(w, t)?.wait().map(drop) } else { allgather(w, &mut t) }
    }),
    call("scatter", false, |w, g| {
        let mut t = at_root(w, g)?;
        if g.started {
            iscatter(w, t, g.root, Hashed)?.wait().map(drop)
        } else {
            scatter(w, &mut t, g.root, &Hashed)
        }
    }),
    call("alltoall", false, |w, g| {
        let tables = (0..w.size()).map(|_| same(w, g.len)).collect::<Result<Vec<_>>>()?;
        if g.started { ialltoall(w, tables)?.wait().map(drop) } else { alltoall(w, tables).map(drop) }
    }),
    call("regroup", true, |w, g| {
        let mut t = floats(w, g.len)?;
        if g.started { iregroup(w, t, Modulo)?.wait().map(drop) } else { regroup(w, &mut t, &Modulo) }
    }),
    call("aggregate", true, |w, g| {
        let mut t = floats(w, g.len)?;
        let halve = |_: u64, data: &mut [f64]| data.iter_mut().for_each(|x| *x /= 2.0);
        if g.started {
            iaggregate(w, t, Modulo, halve)?.wait().map(drop)
        } else {
            aggregate(w, &mut t, &Modulo, halve)
        }
    }),
    call("push", true, |w, g| {
        let (local, mut global) = (floats(w, g.len)?, Floats::new(Armed));
        global.add(u64::from(w.rank()), vec![0.0; g.len / 4])?;
        if g.started {
            ipush(w, local, global, Modulo)?.wait().map(drop)
        } else {
            push(w, &local, &mut global, &Modulo)
        }
    }),
    call("pull", false, |w, g| {
        let mut local = Floats::new(Armed);
        for rank in 0..w.size() {
            local.add(u64::from(rank), vec![1.0; g.len])?;
        }
        let mut global = Floats::new(Armed);
        global.add(u64::from(w.rank()), vec![2.0; g.len])?;
        if g.started {
            ipull(w, local, global)?.wait().map(drop)
        } else {
            pull(w, &mut local, &global).map(drop)
        }
    }),
    call("rotate", false, |w, g| {
        let mut t = floats(w, g.len)?;
        if g.started {
            irotate(w, t, Rotation::Ring)?.wait().map(drop)
        } else {
            rotate(w, &mut t, &Rotation::Ring)
        }
    }),
    call("join", true, |w, g| {
        let mut t = floats(w, g.len)?;
        let mut fixed = Table::<u8, Max>::new(Max);
        fixed.add(u64::from(w.size() - 1 - w.rank()), vec![0])?;
        if g.started {
            ijoin(w, t, fixed.ids(), Modulo)?.wait().map(drop)
        } else {
            join(w, &mut t, &fixed, &Modulo)
        }
    }),
    call("scan", true, |w, g| {
        let mut t = floats(w, g.len)?;
        if g.started { iscan(w, t)?.wait().map(drop) } else { scan(w, &mut t) }
    }),
    call("exscan", true, |w, g| {
        let mut t = floats(w, g.len)?;
        if g.started { iexscan(w, t)?.wait().map(drop) } else { exscan(w, &mut t) }
    }),
    // It has no started form.
    call("split", false, |w, _| split(w, Some(w.rank() % 2), 0).map(drop)),
    call("regroup_kv", true, |w, g| {
        let mut t = keys(w, g.len);
        if g.started { iregroup_kv(w, t)?.wait().map(drop) } else { regroup_kv(w, &mut t) }
    }),
    call("allreduce_kv", true, |w, g| {
        let mut t = keys(w, g.len);
        if g.started { iallreduce_kv(w, t)?.wait().map(drop) } else { allreduce_kv(w, &mut t) }
    }),
    call("reduce_kv", true, |w, g| {
        let mut t = keys(w, g.len);
        if g.started { ireduce_kv(w, t, g.root)?.wait().map(drop) } else { reduce_kv(w, &mut t, g.root) }
    }),
    call("broadcast_kv", false, |w, g| {
        let mut t = if w.rank() == g.root { keys(w, g.len) } else { KvTable::new(Armed) };
        if g.started {
            ibroadcast_kv(w, t, g.root)?.wait().map(drop)
        } else {
            broadcast_kv(w, &mut t, g.root)
        }
    }),
    call("group_by_key", false, |w, g| {
        let (keys, values): (Vec<u64>, Vec<f64>) = (0..g.len as u64).map(|i| (i % 100, 1.0)).unzip();
        if g.started {
            igroup_by_key::<u64, f64>(w, keys, values)?.wait().map(drop)
        } else {
            group_by_key::<u64, f64>(w, keys, values).map(drop)
        }
    }),
    call("allreduce_slice", true, |w, g| {
        let mut v = slice(g);
        if g.started {
            iallreduce_slice(w, v, Armed)?.wait().map(drop)
        } else {
            allreduce_slice(w, &mut v, Armed)
        }
    }),
    call("reduce_slice", true, |w, g| {
        let mut v = slice(g);
        if g.started {
            ireduce_slice(w, v, Armed, g.root)?.wait().map(drop)
        } else {
            reduce_slice(w, &mut v, Armed, g.root)
        }
    }),
    call("broadcast_slice", false, |w, g| {
        let mut v = slice(g);
        if g.started {
            ibroadcast_slice(w, v, g.root)?.wait().map(drop)
        } else {
            broadcast_slice(w, &mut v, g.root)
        }
    }),
    call("allgather_slice", false, |w, g| {
        let mine = slice(g);
        if g.started {
            return iallgather_slice(w, mine)?.wait().map(drop);
        }
        allgather_slice(w, &mine, &mut vec![0.0; mine.len() * w.size() as usize])
    }),
];

/// A long one is so long that ranks of one node read it where it lies.
fn slice(g: Given) -> Vec<f64> {
    vec![1.0; if g.len > 1000 { g.len * 5 } else { g.len }]
}

/// The list above is Harp's own.
pub fn assert_all_are_here() {
    let source = include_str!("../../harp/src/call.rs");
    let table = source.split("\nops! {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let names: Vec<&str> = table.split('"').skip(1).step_by(2).collect();
    assert_eq!(names, CALLS.iter().map(|c| c.name).collect::<Vec<_>>(), "harp/src/call.rs");
}
