//! Collectives of plain slices, and tables of one small partition whose ranks differ, against answers made one after the other.

use aeolian_harp::*;
use aeolian_net::World;
use bytemuck::{Pod, Zeroable};

/// Lengths around what lies in a ticket's line, on a board, in a share, and beyond.
const LENS: [usize; 9] = [0, 1, 2, 7, 64, 511, 513, 5000, 70_001];

fn everywhere(check: impl Fn(&mut World) + Sync) {
    for n in [1, 2, 3, 5, 7, 8, 16] {
        for shared in [true, false] {
            World::local(n, |mut world| {
                world.use_shared_memory(shared);
                check(&mut world);
                world.finish()
            })
            .unwrap();
        }
    }
}

fn value(rank: u32, i: usize) -> f64 {
    (f64::from(rank) * 31.7 + i as f64).sin() * 10f64.powi(i as i32 % 30 - 15)
}

fn mine(rank: u32, len: usize) -> Vec<f64> {
    (0..len).map(|i| value(rank, i)).collect()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn reductions_in_rank_order() {
    // Not commutative, and each bit counts: `a . b` keeps the exponent of the lower rank.
    let law = || {
        Custom::new("minus and half", |a: &mut [f64], b: &[f64]| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a -= b * 0.5);
        })
    };
    everywhere(|world| {
        let (me, size) = (world.rank(), world.size());
        for len in LENS {
            let fold = |each: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
                (0..len).map(|i| (1..size).fold(value(0, i), |a, r| each(a, value(r, i)))).collect()
            };
            let (sum, chain) = (fold(&|a, b| a + b), fold(&|a, b| a - b * 0.5));
            let root = len as u32 % size;
            let mut values = mine(me, len);
            allreduce_slice(world, &mut values, law().elementwise().in_sequence()).unwrap();
            assert_eq!(bits(&values), bits(&chain), "allreduce of {len} in sequence, {size} ranks");
            let mut values = mine(me, len);
            reduce_slice(world, &mut values, law().in_sequence(), root).unwrap();
            let want = if me == root { chain } else { mine(me, len) };
            assert_eq!(bits(&values), bits(&want), "reduce of {len} in sequence, {size} ranks");
            // The sum is taken in rank order where memory is shared; over messages by recursive doubling, the same on all ranks.
            let mut values = mine(me, len);
            allreduce_slice(world, &mut values, Sum).unwrap();
            let near = |a: &f64, b: &f64| (a - b).abs() <= 1e-9 * b.abs().max(1e-12);
            assert!(values.iter().zip(&sum).all(|(a, b)| near(a, b)), "allreduce of {len}, {size} ranks");
            let mut values = mine(me, len);
            reduce_slice(world, &mut values, Sum, root).unwrap();
            let want = if me == root { &sum[..] } else { &mine(me, len)[..] };
            assert!(values.iter().zip(want).all(|(a, b)| near(a, b)), "reduce of {len}, {size} ranks");
        }
    });
}

#[test]
fn copies_of_slices() {
    everywhere(|world| {
        let (me, size) = (world.rank(), world.size());
        for len in LENS {
            let root = (len as u32 + 1) % size;
            let mut values = mine(me, len);
            broadcast_slice(world, &mut values, root).unwrap();
            assert_eq!(bits(&values), bits(&mine(root, len)), "broadcast of {len}, {size} ranks");
            let mut all = vec![0.0; len * size as usize];
            allgather_slice(world, &mine(me, len), &mut all).unwrap();
            let want: Vec<f64> = (0..size).flat_map(|r| mine(r, len)).collect();
            assert_eq!(bits(&all), bits(&want), "allgather of {len}, {size} ranks");
        }
    });
}

/// All at once, ended in another order, with nobody to hear of one; and ranks of both forms in one call.
#[test]
fn slices_under_way() {
    everywhere(|world| {
        let (me, size) = (world.rank(), world.size());
        let whole =
            |rank: u32, len: usize| (0..len).map(|i| f64::from(rank) + i as f64).collect::<Vec<f64>>();
        for len in LENS {
            let root = (len as u32 + 1) % size;
            let sum: Vec<f64> =
                (0..len).map(|i| f64::from(size * (size - 1) / 2) + f64::from(size) * i as f64).collect();
            let all = iallreduce_slice(world, whole(me, len), Sum).unwrap();
            let forgotten = iallreduce_slice(world, whole(me, len), Max).unwrap();
            let one = ireduce_slice(world, whole(me, len), Sum, root).unwrap();
            drop(forgotten);
            let copy = ibroadcast_slice(world, whole(me, len), root).unwrap();
            let each = iallgather_slice(world, whole(me, len)).unwrap();
            let want: Vec<f64> = (0..size).flat_map(|r| whole(r, len)).collect();
            assert_eq!(each.wait().unwrap(), want, "allgather of {len}, {size} ranks");
            assert_eq!(copy.wait().unwrap(), whole(root, len), "broadcast of {len}, {size} ranks");
            let want = if me == root { sum.clone() } else { whole(me, len) };
            assert_eq!(one.wait().unwrap(), want, "reduce of {len}, {size} ranks");
            assert_eq!(all.wait().unwrap(), sum, "allreduce of {len}, {size} ranks");
            let mut values = whole(me, len);
            if me % 2 == 0 {
                allreduce_slice(world, &mut values, Sum).unwrap();
            } else {
                values = iallreduce_slice(world, values, Sum).unwrap().wait().unwrap();
            }
            assert_eq!(values, sum, "allreduce of {len} in both forms, {size} ranks");
        }
    });
}

/// Elements that want 16 bytes' alignment, and such as no alignment fits.
#[test]
fn elements_of_all_shapes() {
    #[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
    #[repr(C)]
    struct Odd([u8; 3]);
    everywhere(|world| {
        let (me, size) = (world.rank(), world.size());
        for len in LENS {
            let mut wide: Vec<u128> = (0..len as u128).map(|i| i << 64 | u128::from(me)).collect();
            allreduce_slice(world, &mut wide, Sum).unwrap();
            let low = u128::from(size) * u128::from(size - 1) / 2;
            assert!(wide.iter().zip(0u128..).all(|(x, i)| *x == ((i * u128::from(size)) << 64) + low));
            let add = Custom::new("add", |a: &mut [Odd], b: &[Odd]| {
                for (Odd(a), Odd(b)) in a.iter_mut().zip(b) {
                    a.iter_mut().zip(b).for_each(|(a, b)| *a = a.wrapping_add(*b));
                }
            });
            let mut odd: Vec<Odd> = (0..len).map(|i| Odd([i as u8, me as u8, 1])).collect();
            allreduce_slice(world, &mut odd, add.elementwise()).unwrap();
            let want = |i: usize| Odd([(i as u8).wrapping_mul(size as u8), low as u8, size as u8]);
            assert!(odd.iter().zip(0..).all(|(x, i)| *x == want(i)), "{len} on {size} ranks");
        }
    });
}

#[test]
fn slices_of_different_lengths_are_told() {
    for (one, other) in [(1, 2), (100, 5000), (5000, 100), (5000, 5008)] {
        for shared in [true, false] {
            let outcome = World::local(3, |mut world| {
                world.use_shared_memory(shared);
                let len = if world.rank() == 1 { other } else { one };
                let told = allreduce_slice(&mut world, &mut vec![1.0f64; len], Sum);
                assert!(matches!(told, Err(HarpError::Lengths { .. } | HarpError::Net(_))), "{told:?}");
                let told = told.unwrap_err().to_string();
                Ok(told)
            });
            // Somebody says it first; it ends the job.
            let told = format!("{outcome:?}");
            assert!(told.contains("elements") || told.contains("FINISHED"), "{told}");
        }
    }
}

#[test]
fn roots_and_rooms_that_do_not_exist() {
    World::local(3, |mut world| {
        let mut values = [1u8; 4];
        assert!(matches!(
            reduce_slice(&mut world, &mut values, Sum, 3),
            Err(HarpError::Root { root: 3, size: 3 })
        ));
        assert!(matches!(broadcast_slice(&mut world, &mut values, 9), Err(HarpError::Root { root: 9, .. })));
        let few = allgather_slice(&mut world, &[1u8; 4], &mut [0; 11]).unwrap_err();
        assert!(few.to_string().contains("give room for 12"), "{few}");
        world.finish()
    })
    .unwrap();
}

/// Ranks that choose the short way and ranks that cannot, in one call: one has more partitions, a longer one, none.
#[test]
fn the_short_way_meets_the_long_one() {
    let lens = |rank: u32, case: u32| -> Vec<(u64, usize)> {
        match (rank + case) % 5 {
            0 => vec![(3, 2)],
            1 => vec![(3, 2), (4, 600)],
            2 => vec![(9, 20_000)],
            3 => vec![],
            _ => vec![(u64::from(rank) + 10, 1)],
        }
    };
    everywhere(|world| {
        let (me, size) = (world.rank(), world.size());
        for case in 0..5 {
            let table = |rank: u32| -> Table<f64, Sum> {
                let mut table = Table::new(Sum);
                lens(rank, case)
                    .into_iter()
                    .for_each(|(id, len)| drop(table.insert(id, vec![f64::from(rank + 1); len])));
                table
            };
            let union = |ranks: &mut dyn Iterator<Item = u32>| -> Table<f64, Sum> {
                let mut all = Table::new(Sum);
                for rank in ranks {
                    for (id, part) in table(rank).iter() {
                        all.add(id, part.to_vec()).unwrap();
                    }
                }
                all
            };
            let all = union(&mut (0..size));
            let root = case % size;
            let only_at_root = |got: &Table<f64, Sum>| if me == root { *got == all } else { got.is_empty() };
            let mut got = table(me);
            allreduce(world, &mut got).unwrap();
            assert!(got == all, "allreduce, case {case}, {size} ranks");
            let mut got = table(me);
            reduce(world, &mut got, root).unwrap();
            assert!(only_at_root(&got), "reduce, case {case}, {size} ranks");
            let mut got = table(me);
            gather(world, &mut got, root).unwrap();
            assert!(only_at_root(&got), "gather, case {case}, {size} ranks");
            let mut got = table(me);
            allgather(world, &mut got).unwrap();
            assert!(got == all, "allgather, case {case}, {size} ranks");
            let mut got = table(me);
            rotate(world, &mut got, &Rotation::Ring).unwrap();
            assert!(got == table((me + size - 1) % size), "rotate, case {case}, {size} ranks");
            let mut got = if me == root { table(root) } else { Table::new(Sum) };
            broadcast(world, &mut got, root).unwrap();
            assert!(got == table(root), "broadcast, case {case}, {size} ranks");
            let mut got = table(me);
            regroup(world, &mut got, &Modulo).unwrap();
            let mut here = all;
            let gone: Vec<u64> = here.ids().filter(|id| id % u64::from(size) != u64::from(me)).collect();
            gone.into_iter().for_each(|id| drop(here.remove(id)));
            assert!(got == here, "regroup, case {case}, {size} ranks");
            let mut got = table(me);
            scatter(world, &mut got, root, &Modulo).unwrap();
            let mine = |id: u64| id % u64::from(size) == u64::from(me);
            let mut here = if me == root { Table::new(Sum) } else { table(me) };
            for (id, part) in table(root).iter().filter(|&(id, _)| mine(id)) {
                here.add(id, part.to_vec()).unwrap();
            }
            assert!(got == here, "scatter, case {case}, {size} ranks");
            // Between two ranks as much goes one way as the other, under other ids.
            let between = |from: u32, to: u32| -> Table<f64, Sum> {
                let mut table = Table::new(Sum);
                for (id, len) in lens(from + to, case) {
                    let (from, to) = (f64::from(from), f64::from(to));
                    table.insert(
                        id + 100 * from as u64,
                        (0..len).map(|i| from + 0.1 * to + i as f64).collect::<Vec<_>>(),
                    );
                }
                table
            };
            let got = alltoall(world, (0..size).map(|to| between(me, to)).collect()).unwrap();
            assert!(
                got == (0..size).map(|from| between(from, me)).collect::<Vec<_>>(),
                "alltoall, case {case}, {size} ranks"
            );
            barrier(world).unwrap();
        }
    });
}

#[test]
fn large_tables_rotate_where_they_lie() {
    let lens = [20_000usize, 0, 700, 4099];
    everywhere(|world| {
        let (me, size) = (world.rank(), world.size());
        let table = |rank: u32, same_ids: bool| -> Table<u16, Sum> {
            let mut table = Table::new(Sum);
            for (len, id) in lens.iter().zip(0..) {
                let id = if same_ids { id } else { u64::from(100 - rank) * 10 + 2 * id };
                table.insert(
                    id,
                    (0..*len).map(|i| (i as u16).wrapping_mul(7) ^ rank as u16).collect::<Vec<_>>(),
                );
            }
            table
        };
        // All in turn; the other way around; two by two; three in a cycle, the others stay; nobody moves.
        let to = [
            (0..size).map(|r| (r + 1) % size).collect::<Vec<u32>>(),
            (0..size).map(|r| size - 1 - r).collect(),
            (0..size).map(|r| if r ^ 1 < size { r ^ 1 } else { r }).collect(),
            (0..size).map(|r| if size < 3 || r > 2 { r } else { (r + 1) % 3 }).collect(),
            (0..size).collect(),
        ];
        for (to, same_ids) in to.iter().flat_map(|to| [(to, true), (to, false)]) {
            let mut got = table(me, same_ids);
            rotate(world, &mut got, &Rotation::To(to.clone())).unwrap();
            let from = to.iter().position(|&t| t == me).unwrap() as u32;
            assert!(got == table(from, same_ids), "{to:?}, the same ids: {same_ids}");
            // What came is this rank's own now.
            got.apply(|_, values| values.iter_mut().for_each(|v| *v = v.wrapping_add(1)));
            barrier(world).unwrap();
        }
    });
}

/// One rank comes late, so that the others find no free place on their boards where it does, and take another way.
fn late(world: &mut World, which: u32, pause: &dyn Fn()) {
    let (me, size) = (world.rank(), world.size());
    for call in 0..60u32 {
        if me == which {
            pause();
        }
        for root in [0, size - 1] {
            for _ in 0..5 {
                let mut values = [f64::from(me + call)];
                reduce_slice(world, &mut values, Sum, root).unwrap();
                let sum = f64::from(size * call + size * (size - 1) / 2);
                assert_eq!(values, [if me == root { sum } else { f64::from(me + call) }], "call {call}");
                let mut values = [if me == root { call } else { 0 }; 3];
                broadcast_slice(world, &mut values, root).unwrap();
                assert_eq!(values, [call; 3]);
            }
            let mut values = [1u64, u64::from(me)];
            allreduce_slice(world, &mut values, Sum).unwrap();
            assert_eq!(values, [u64::from(size), u64::from(size * (size - 1) / 2)], "call {call}");
        }
    }
}

#[test]
fn a_late_rank_finds_the_others_on_another_way() {
    for n in [2, 3, 5] {
        for which in [0, n - 1] {
            World::local(n, |mut world| {
                late(&mut world, which, &|| std::thread::sleep(std::time::Duration::from_micros(200)));
                world.finish()
            })
            .unwrap();
        }
    }
}
