//! Every collective against the sequential answer: rank counts, roots, types, shapes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use aeolian_harp::*;
use aeolian_net::{NetError, World, exit};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// rank -> id -> data; lengths depend on the id only.
type Plan = Vec<BTreeMap<u64, Vec<i64>>>;

fn plans() -> impl Strategy<Value = Plan> {
    let ranks = prop::sample::select(vec![1usize, 2, 3, 5, 7, 8, 16]);
    (ranks, any::<u64>()).prop_map(|(n, seed)| {
        let mut x = seed | 1;
        let mut next = move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        (0..n)
            .map(|_| {
                (0..next() % 5)
                    .map(|_| {
                        let id = next() % 6;
                        let len = [0usize, 1, 7, 131, 1009, 3][id as usize];
                        (id, (0..len).map(|_| (next() % 1000) as i64 - 500).collect())
                    })
                    .collect()
            })
            .collect()
    })
}

fn union(plan: &Plan, combine: impl Fn(i64, i64) -> i64) -> BTreeMap<u64, Vec<i64>> {
    let mut all: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for (id, data) in plan.iter().flatten() {
        match all.get_mut(id) {
            None => drop(all.insert(*id, data.clone())),
            Some(have) => have.iter_mut().zip(data).for_each(|(a, b)| *a = combine(*a, *b)),
        }
    }
    all
}

fn run<C: Combiner<[i64]> + Sync>(
    plan: &Plan,
    combiner: C,
    f: impl Fn(&mut World, &mut Table<i64, C>) -> Result<()> + Sync,
) -> Plan {
    let by_memory = run_with(plan, combiner.clone(), true, &f);
    let by_messages = run_with(plan, combiner, false, &f);
    assert_eq!(by_memory, by_messages);
    by_memory
}

fn run_with<C: Combiner<[i64]> + Sync>(
    plan: &Plan,
    combiner: C,
    share: bool,
    f: &(impl Fn(&mut World, &mut Table<i64, C>) -> Result<()> + Sync),
) -> Plan {
    World::local(plan.len() as u32, |mut world| {
        world.use_shared_memory(share);
        let mut table = Table::new(combiner.clone());
        for (id, data) in &plan[world.rank() as usize] {
            table.add(*id, data.clone())?;
        }
        f(&mut world, &mut table)?;
        barrier(&mut world)?;
        world.finish()?;
        Ok(table.iter().map(|(id, p)| (id, p.to_vec())).collect())
    })
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn allreduce_and_allgather(plan in plans()) {
        let want = union(&plan, |a, b| a + b);
        prop_assert_eq!(run(&plan, Sum, allreduce), vec![want.clone(); plan.len()]);
        prop_assert_eq!(run(&plan, Sum, allgather), vec![want; plan.len()]);
        prop_assert_eq!(run(&plan, Min, allreduce), vec![union(&plan, i64::min); plan.len()]);
    }

    #[test]
    fn reduce_and_gather(plan in plans(), root: u32) {
        let root = root % plan.len() as u32;
        let mut want = vec![BTreeMap::new(); plan.len()];
        want[root as usize] = union(&plan, |a, b| a.wrapping_mul(31).wrapping_add(b));
        // Not commutative (and not associative: gather combines one by one, so it must be exactly this order).
        let order = Custom::new("order", |a: &mut [i64], b: &[i64]| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = a.wrapping_mul(31).wrapping_add(*b))
        }).in_sequence();
        prop_assert_eq!(run(&plan, order, |w, t| gather(w, t, root)), want.clone());
        want[root as usize] = union(&plan, i64::max);
        prop_assert_eq!(run(&plan, Max, |w, t| reduce(w, t, root)), want);
    }

    #[test]
    fn rank_order_is_kept_by_trees(plan in plans()) {
        // Keeps the first: associative, not commutative.
        let first = Custom::new("first", |_: &mut [i64], _: &[i64]| {});
        let want = union(&plan, |a, _| a);
        prop_assert_eq!(run(&plan, first, allreduce), vec![want.clone(); plan.len()]);
        let root = plan.len() as u32 - 1;
        prop_assert_eq!(&run(&plan, first, |w, t| reduce(w, t, root))[root as usize], &want);
    }

    #[test]
    fn broadcast_reaches_all(plan in plans(), root: u32) {
        let root = root % plan.len() as u32;
        let mut want = plan.clone();
        for (rank, table) in want.iter_mut().enumerate().filter(|(r, _)| *r != root as usize) {
            let _ = rank;
            for (id, data) in &plan[root as usize] {
                match table.get_mut(id) {
                    None => drop(table.insert(*id, data.clone())),
                    Some(have) => have.iter_mut().zip(data).for_each(|(a, b)| *a += b),
                }
            }
        }
        prop_assert_eq!(run(&plan, Sum, |w, t| broadcast(w, t, root)), want);
    }

    #[test]
    fn floating_point_has_the_same_bits_on_all_ranks(n in prop::sample::select(vec![2u32, 3, 5, 7, 8, 16]), seed: u32) {
        let all = World::local(n, |mut world| {
            let mut v: Vec<f64> =
                (0..100).map(|i| f64::from(seed ^ (world.rank() * 7919 + i)).sin() * 10f64.powi(i as i32 % 20)).collect();
            allreduce_slice(&mut world, &mut v, Sum)?;
            world.finish()?;
            Ok(v.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        }).unwrap();
        prop_assert!(all.windows(2).all(|w| w[0] == w[1]));
    }
}

fn fails(f: impl Fn(&mut World) -> Result<()> + Sync) -> NetError {
    World::local_with(3, Duration::from_millis(1500), |mut world| {
        f(&mut world)?;
        world.finish()
    })
    .unwrap_err()
}

#[test]
fn another_collective_type_combiner_or_root_is_named() {
    let table = || Table::<f64, Sum>::new(Sum);
    let err = fails(|w| if w.rank() == 1 { barrier(w) } else { allreduce(w, &mut table()) });
    assert_eq!(err.exit_code(), exit::MISMATCH, "{err}");
    assert!(err.to_string().contains("allreduce #1") && err.to_string().contains("barrier #1"), "{err}");

    let err = fails(|w| {
        if w.rank() == 1 {
            allreduce(w, &mut Table::<f32, Sum>::new(Sum))
        } else {
            allreduce(w, &mut table())
        }
    });
    assert!(err.to_string().contains("another element type"), "{err}");

    let err = fails(|w| {
        let root = u32::from(w.rank() == 1);
        broadcast(w, &mut table(), root)
    });
    assert_eq!(err.exit_code(), exit::MISMATCH, "{err}");
}

#[test]
fn different_lengths_and_wrong_roots_are_errors() {
    let err = fails(|w| {
        let mut t = Table::<f64, Sum>::new(Sum);
        t.add(3, vec![0.0; 5 + w.rank() as usize])?;
        allreduce(w, &mut t)
    });
    assert!(err.to_string().contains("partition 3 has"), "{err}");
    let err = fails(|w| reduce(w, &mut Table::<f64, Sum>::new(Sum), 9));
    assert!(err.to_string().contains("root 9 in a world of 3"), "{err}");
}
