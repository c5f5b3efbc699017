//! Several collectives under way at a time: of random kinds, in the world and in parts of it, between blocking ones, waited for in
//! another order on every rank or not at all.

use crate::each::{RANKS, layout};
use crate::kinds::{Affines, Digests, Kind, Model, Rng, Texts};
use crate::reference::{Output, expected};
use crate::steps::{Flying, KINDS, Size, Step, call, given, start};
use aeolian_harp::*;
use aeolian_net::{Buf, World, exit};
use proptest::prelude::*;

/// A collective with what it is given and what should come of it, of a type of table that is forgotten.
trait Planned: Sync {
    fn call(&self, world: &mut World) -> Result<()>;
    fn start(&self, world: &World) -> Result<Box<dyn Started + '_>>;
}

/// One under way.
trait Started {
    fn test(&self) -> Result<bool>;
    fn check(self: Box<Self>) -> Result<()>;
}

struct Plan<K: Kind> {
    step: Step,
    given: Vec<Vec<Model<K>>>,
    want: Vec<Output<K>>,
}

struct UnderWay<'a, K: Kind> {
    flying: Flying<K>,
    want: &'a Output<K>,
    what: String,
}

impl<K: Kind> Plan<K> {
    fn random(rng: &mut Rng, n: usize, size: Size) -> Box<dyn Planned> {
        let which = rng.below(KINDS);
        let step = Step::random(rng, which, n);
        let given = given::<K>(rng, &step, n, size);
        let want = expected::<K>(&step, &given);
        Box::new(Plan { step, given, want })
    }

    fn what(&self, world: &World) -> String {
        format!("rank {} of {}, {:?}", world.rank(), world.size(), self.step)
    }
}

impl<K: Kind> Planned for Plan<K> {
    fn call(&self, world: &mut World) -> Result<()> {
        let (me, what) = (world.rank() as usize, self.what(world));
        self.want[me].check(&call::<K>(&self.step, world, &self.given[me])?, &(what + ", blocking"));
        Ok(())
    }

    fn start(&self, world: &World) -> Result<Box<dyn Started + '_>> {
        let me = world.rank() as usize;
        let flying = start::<K>(&self.step, world, &self.given[me])?;
        Ok(Box::new(UnderWay { flying, want: &self.want[me], what: self.what(world) }))
    }
}

impl<K: Kind> Started for UnderWay<'_, K> {
    fn test(&self) -> Result<bool> {
        self.flying.test()
    }

    fn check(self: Box<Self>) -> Result<()> {
        self.want.check(&self.flying.wait()?, &self.what);
        Ok(())
    }
}

/// One collective of any kind on tables of any kind.
fn any(rng: &mut Rng, n: usize, size: Size) -> Box<dyn Planned> {
    match rng.below(3) {
        0 => Plan::<Affines>::random(rng, n, size),
        1 => Plan::<Digests>::random(rng, n, size),
        _ => Plan::<Texts>::random(rng, n, size),
    }
}

/// Where a collective is called.
#[derive(Clone, Copy)]
enum Scope {
    World,
    /// In each of these parts at the same time.
    Parts(usize),
}

/// One collective, or one for each part; blocking or not.
type Planning = (Scope, bool, Vec<Box<dyn Planned>>);

/// 2 to 8 collectives, started in the same order on all ranks.
fn fly(n: usize, seed: u64, size: Size) {
    let mut rng = Rng(seed);
    let count = 2 + rng.below(7);
    // Rank -> its color, for two ways to part the world.
    let colors = [2, 3].map(|parts| (0..n).map(|_| rng.below(parts) as u32).collect::<Vec<u32>>());
    let plan: Vec<Planning> = (0..count)
        .map(|_| {
            let blocking = rng.below(4) == 0;
            let which = rng.below(4);
            if which >= 2 {
                return (Scope::World, blocking, vec![any(&mut rng, n, size)]);
            }
            let members = |color: u32| colors[which].iter().filter(|c| **c == color).count();
            let parts = (0..3).map(|color| any(&mut rng, members(color).max(1), size)).collect();
            (Scope::Parts(which), blocking, parts)
        })
        .collect();
    // A third of them on several nodes, a third by messages only.
    let nodes = match seed % 3 {
        0 => vec![0; n],
        _ => layout(&mut rng, n, seed.is_multiple_of(2)),
    };
    World::local_nodes(&nodes, |mut world| {
        world.use_shared_memory(!(seed + 2).is_multiple_of(3));
        let me = world.rank() as usize;
        let mut parts = Vec::new();
        for colors in &colors {
            parts.push(split(&mut world, Some(colors[me]), 0)?.unwrap());
        }
        let mut under_way = Vec::new();
        for (scope, blocking, planned) in &plan {
            let (there, planned) = match *scope {
                Scope::World => (&mut world, &planned[0]),
                Scope::Parts(which) => (&mut parts[which], &planned[colors[which][me] as usize]),
            };
            match blocking {
                true => planned.call(there)?,
                false => under_way.push(planned.start(there)?),
            }
        }
        let mut rng = Rng(seed ^ (me as u64 + 1));
        while !under_way.is_empty() {
            let one = under_way.swap_remove(rng.below(under_way.len()));
            match rng.below(4) {
                0 => drop(one),
                1 => {
                    while !one.test()? {
                        std::thread::yield_now();
                    }
                    one.check()?;
                }
                _ => one.check()?,
            }
        }
        // In any order, also before the world that they are parts of.
        drop(parts);
        world.finish()
    })
    .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn any_number_in_any_order(n in prop::sample::select(RANKS.to_vec()), seed: u64) {
        fly(n, seed, Size::Any);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn with_tables_beyond_the_window(n in prop::sample::select(vec![2usize, 3, 5, 8]), seed: u64) {
        fly(n, seed, Size::Large);
    }
}

fn ones(len: usize) -> Table<u64, Sum> {
    let mut table = Table::new(Sum);
    table.insert(3, vec![1; len]);
    table
}

#[test]
fn one_that_is_not_waited_for_ends_all_the_same() {
    World::local(5, |mut world| {
        // 8 MiB, twice the window: it cannot be gone when it is dropped.
        let first = iallreduce(&world, ones(1 << 20))?;
        let second = iallgather(&world, ones(10))?;
        if world.rank() % 2 == 0 {
            drop(first);
        } else {
            assert_eq!(first.wait()?.get(3).unwrap()[(1 << 20) - 1], 5);
        }
        drop(second);
        barrier(&mut world)?;
        world.finish()
    })
    .unwrap();
}

#[test]
fn one_dropped_at_once_by_all_is_ended_by_finish() {
    World::local(4, |world| {
        drop(iallreduce(&world, ones(1 << 20))?);
        drop(ibarrier(&world)?);
        world.finish()
    })
    .unwrap();
}

#[test]
fn the_results_may_be_looked_at_after_finish() {
    let sums = World::local(3, |world| {
        let pending = iallreduce(&world, ones(2))?;
        let unfinished = iallgather(&world, ones(2))?;
        world.finish()?;
        assert!(unfinished.is_done(), "finish has ended it");
        Ok(pending.wait()?.get(3).unwrap().to_vec())
    })
    .unwrap();
    assert_eq!(sums, [[3, 3]; 3]);
}

#[test]
fn a_barrier_under_way_is_not_over_before_all_have_come() {
    for n in [2, 3, 5, 8] {
        World::local(n, |mut world| {
            let late = n - 1;
            if world.rank() == late {
                // All others have begun, and looked.
                for _ in 0..late {
                    wait_event(&mut world)?;
                }
                ibarrier(&world)?.wait()?;
            } else {
                let begun = ibarrier(&world)?;
                for _ in 0..100 {
                    assert!(!begun.test()?, "a barrier is over that the last rank has not come to");
                }
                send_event(&mut world, To::Rank(late), 0, Buf::empty())?;
                begun.wait()?;
            }
            world.finish()
        })
        .unwrap();
    }
}

/// Rank 1's partition has another length: an error on the ranks that combine it.
fn uneven(world: &World) -> Table<f64, Sum> {
    let mut table = Table::new(Sum);
    table.insert(7, vec![0.0; 5 + usize::from(world.rank() == 1)]);
    table
}

#[test]
fn an_error_that_nobody_waited_for_comes_out_at_finish() {
    for held in [false, true] {
        let errors = std::sync::Mutex::new(Vec::new());
        let job = World::local(3, |world| {
            let pending = igather(&world, uneven(&world), 0)?;
            if held {
                while !pending.test()? {
                    std::thread::yield_now();
                }
            }
            drop(pending);
            let outcome = world.finish();
            if let Err(e) = &outcome {
                errors.lock().unwrap().push(e.to_string());
            }
            outcome
        })
        .unwrap_err();
        assert!(job.to_string().contains("partition 7 has 5 elements here and 6"), "{job}");
        assert_eq!(job.exit_code(), exit::MISMATCH, "{job}");
        let errors = errors.into_inner().unwrap();
        assert!(
            errors.iter().all(|e| e.contains("partition 7 has 5")),
            "all ranks hear the cause: {errors:?}"
        );
    }
}
