//! Collectives between nodes: the algorithms for long tables of one shape, and what goes over the wires, counted.
//!
//! Threads pretend to be on several nodes. Inside a node ranks share memory and send nothing, so every byte that is counted goes between nodes.
#![allow(clippy::unwrap_used, clippy::panic)]

use aeolian_harp::*;
use aeolian_net::{NetError, World};

/// Rank -> node, of `nodes` nodes of `each` ranks.
fn nodes(nodes: u32, each: u32) -> Vec<u32> {
    (0..nodes * each).map(|rank| rank / each).collect()
}

/// The composition of `x -> a * x + b`, which is not commutative.
fn compose() -> impl Combiner<[[u64; 2]]> + Copy {
    Custom::new("compose", |into: &mut [[u64; 2]], other: &[[u64; 2]]| {
        for (f, g) in into.iter_mut().zip(other) {
            *f = [f[0].wrapping_mul(g[0]), f[1].wrapping_mul(g[0]).wrapping_add(g[1])];
        }
    })
    .elementwise()
}

fn values(rank: u32, id: u64, len: usize) -> Vec<[u64; 2]> {
    let word = |i: usize, k: u64| {
        (u64::from(rank) * 1_000_003 + id * 97 + i as u64 * 31 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    };
    (0..len).map(|i| [word(i, 0), word(i, 1)]).collect()
}

/// The lengths of the partitions by their ids, from a few bytes to some hundred KiB.
const SHAPES: [&[usize]; 6] = [&[1], &[3, 0, 5], &[700], &[5000, 1, 3000], &[1], &[40_009, 17]];

fn all_shapes<C: Combiner<[[u64; 2]]> + Copy + Sync + 'static>(layout: &[u32], share: bool, combiner: C) {
    let n = layout.len() as u32;
    World::local_nodes(layout, |mut world| {
        world.use_shared_memory(share);
        for lens in SHAPES {
            let table = |rank: u32| {
                let mut table = Table::<[u64; 2], C>::new(combiner);
                for (id, len) in (0..).zip(lens) {
                    table.insert(id, values(rank, id, *len));
                }
                table
            };
            let mut want = table(0);
            for rank in 1..n {
                for (id, part) in table(rank).iter() {
                    want.add(id, &part[..])?;
                }
            }
            let mut got = table(world.rank());
            allreduce(&mut world, &mut got)?;
            assert!(got == want, "rank {} on {layout:?}: {lens:?}", world.rank());
            let got = iallreduce(&world, table(world.rank()))?.wait()?;
            assert!(got == want, "rank {} on {layout:?}: {lens:?}, started", world.rank());
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn long_tables_of_one_shape_are_combined_in_the_order_of_the_ranks() {
    for n in [2, 3, 4, 5, 7, 8] {
        all_shapes(&vec![0; n], false, compose());
    }
    for layout in [&[0, 0, 1][..], &[0, 1, 1, 2], &[0, 0, 1, 1, 2, 2], &[0, 1, 0, 1], &[0, 1, 2, 3, 4]] {
        all_shapes(layout, true, compose());
    }
}

/// Element-wise exclusive or: any order will do.
#[test]
fn long_tables_go_around_a_ring_where_the_order_does_not_matter() {
    let xor = Custom::new("xor", |into: &mut [[u64; 2]], other: &[[u64; 2]]| {
        into.iter_mut().zip(other).for_each(|(a, b)| *a = [a[0] ^ b[0], a[1] ^ b[1]]);
    });
    for n in [3, 5, 6, 7] {
        all_shapes(&vec![0; n], false, xor.elementwise().commutative());
    }
    for layout in [&[0, 1, 0, 1, 2][..], &[2, 1, 0, 0]] {
        all_shapes(layout, true, xor.elementwise().commutative());
    }
}

/// Whatever the bounds between the algorithms are.
#[test]
fn any_bounds_give_the_same_tables() {
    let bounds = |eager: u64, ring_share: u64, piece: u64, sparse: u64| {
        let values = [("eager", eager), ("ring_share", ring_share), ("piece", piece), ("sparse", sparse)];
        values.map(|(name, value)| (name.to_owned(), value)).into()
    };
    let all =
        [(0, 0, 0, 0), (u64::MAX, 0, 1 << 10, 2), (0, u64::MAX, u64::MAX, u64::MAX), (1 << 16, 1, 5000, 3)];
    for layout in [&[0, 0][..], &[0, 0, 0], &[0, 1, 1, 2], &[0, 1, 2, 3, 4], &[0, 0, 1, 1, 2, 2]] {
        World::local_nodes(layout, |mut world| {
            let (n, me) = (u64::from(world.size()), u64::from(world.rank()));
            for share in [true, false] {
                world.use_shared_memory(share);
                for (eager, ring_share, piece, sparse) in all {
                    world.set_tuned(bounds(eager, ring_share, piece, sparse));
                    for len in [1, 1000, 5000, 100_001] {
                        let mine = || {
                            let mut table = Table::<u64, Sum>::new(Sum);
                            for id in 0..=n {
                                table.insert(id, vec![me + id; len]);
                            }
                            table
                        };
                        let sum = |id: u64| vec![n * (n - 1) / 2 + n * id; len];
                        let mut table = mine();
                        allreduce(&mut world, &mut table)?;
                        assert!(table.len() as u64 == n + 1 && table.iter().all(|(id, p)| p[..] == sum(id)));
                        let mut table = mine();
                        allgather(&mut world, &mut table)?;
                        assert!(table.len() as u64 == n + 1 && table.iter().all(|(id, p)| p[..] == sum(id)));
                        let mut table = if me == n - 1 { mine() } else { Table::new(Sum) };
                        broadcast(&mut world, &mut table, n as u32 - 1)?;
                        assert!(
                            table.len() as u64 == n + 1
                                && table.iter().all(|(id, p)| p.iter().all(|x| *x == n - 1 + id))
                        );
                        let mut table = mine();
                        regroup(&mut world, &mut table, &Modulo)?;
                        assert!(table.iter().all(|(id, p)| id % n == me && p[..] == sum(id)));
                        assert_eq!(table.len(), if me == 0 { 2 } else { 1 });
                    }
                }
            }
            world.finish()
        })
        .unwrap();
    }
}

/// One of the ranks has another partition, or a long one where others have short ones: no shortcut, but the same answer.
#[test]
fn tables_of_different_shapes_are_combined_all_the_same() {
    for n in [2, 3, 5, 8] {
        for (odd, len) in [(0, 1), (n - 1, 1), (1, 50_000), (n / 2, 3000)] {
            World::local(n, |mut world| {
                world.use_shared_memory(false);
                let mut table = Table::<u64, Sum>::new(Sum);
                table.insert(5, vec![1; 2000]);
                if world.rank() == odd {
                    table.insert(9, vec![7; len as usize]);
                }
                allreduce(&mut world, &mut table)?;
                assert_eq!(table.get(5).unwrap()[..], vec![u64::from(n); 2000]);
                assert_eq!(table.get(9).unwrap()[..], vec![7; len as usize]);
                world.finish()
            })
            .unwrap();
        }
    }
}

#[test]
fn sums_of_long_tables_have_the_same_bits_everywhere() {
    for layout in [vec![0; 5], vec![0; 8], nodes(3, 2), vec![0, 1, 0, 1, 2]] {
        for share in [true, false] {
            let bits = World::local_nodes(&layout, |mut world| {
                world.use_shared_memory(share);
                let me = f64::from(world.rank());
                let mut sums: Vec<f64> =
                    (0..60_000).map(|i| (me + f64::from(i)).sin() * 10f64.powi(i % 30 - 15)).collect();
                allreduce_slice(&mut world, &mut sums, Sum)?;
                world.finish()?;
                Ok(sums.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            })
            .unwrap();
            assert!(bits.windows(2).all(|two| two[0] == two[1]), "{layout:?}");
        }
    }
}

const MIB: u64 = 1 << 20;

fn long() -> Table<u64, Sum> {
    let mut table = Table::<u64, Sum>::new(Sum);
    for id in 0..64 {
        table.insert(id, vec![1; 65_536 / 8]);
    }
    table
}

/// Messages and bytes that the ranks of each node send to other nodes in one call.
fn sent(layout: &[u32], share: bool, call: impl Fn(&mut World) -> Result<()> + Sync) -> Vec<(u64, u64)> {
    let ranks = World::local_nodes(layout, |mut world| {
        world.use_shared_memory(share);
        // The first call brings the boards together.
        call(&mut world)?;
        barrier(&mut world)?;
        let before = world.traffic();
        call(&mut world)?;
        let after = world.traffic();
        world.finish()?;
        Ok::<_, NetError>((after.messages_sent - before.messages_sent, after.bytes_sent - before.bytes_sent))
    })
    .unwrap();
    let count = layout.iter().max().unwrap() + 1;
    (0..count)
        .map(|node| {
            let here = ranks.iter().zip(layout).filter(|(_, n)| **n == node).map(|(r, _)| r);
            here.fold((0, 0), |sum, r| (sum.0 + r.0, sum.1 + r.1))
        })
        .collect()
}

fn nearly(bytes: u64, least: u64) -> bool {
    bytes >= least && bytes <= least + least / 50 + 8192
}

#[test]
fn between_two_nodes_each_byte_goes_once() {
    let layout = nodes(2, 2);
    let of = |call: fn(&mut World) -> Result<()>| {
        sent(&layout, true, call).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    // Four MiB on every rank.
    let bytes = of(|w| allreduce(w, &mut long()));
    assert!(bytes.iter().all(|b| nearly(*b, 4 * MIB)), "allreduce, each way: {bytes:?}");
    let bytes = of(|w| {
        let mut table = if w.rank() == 1 { long() } else { Table::new(Sum) };
        broadcast(w, &mut table, 1)
    });
    assert!(nearly(bytes[0], 4 * MIB) && bytes[1] < 8192, "broadcast from node 0: {bytes:?}");
    let bytes = of(|w| reduce(w, &mut long(), 3));
    assert!(nearly(bytes[0], 4 * MIB) && bytes[1] < 8192, "reduce to node 1: {bytes:?}");
    // Half of each table is for the other node, and comes together before it goes there.
    let bytes = of(|w| regroup(w, &mut long(), &Modulo));
    assert!(bytes.iter().all(|b| nearly(*b, 2 * MIB)), "regroup, each way: {bytes:?}");
    // Different partitions on every rank: two tables of one MiB go each way.
    let own = |w: &World| {
        let mut table = Table::<u64, Sum>::new(Sum);
        table.insert(u64::from(w.rank()), vec![1; MIB as usize / 8]);
        table
    };
    let bytes = sent(&layout, true, |w| {
        let mut table = own(w);
        allgather(w, &mut table)
    });
    assert!(bytes.iter().all(|(_, b)| nearly(*b, 2 * MIB)), "allgather, each way: {bytes:?}");
    let bytes = sent(&layout, true, |w| {
        let mut table = own(w);
        gather(w, &mut table, 0)
    });
    assert!(nearly(bytes[1].1, 2 * MIB) && bytes[0].1 < 8192, "gather to node 0: {bytes:?}");
}

#[test]
fn a_rank_sends_two_tables_in_a_long_allreduce_however_many_there_are() {
    for n in [2, 4, 8, 3, 5, 7] {
        let apart: Vec<u32> = (0..n).collect();
        for (_, bytes) in sent(&apart, true, |w| allreduce(w, &mut long())) {
            assert!(bytes <= 8 * MIB + 8192, "{bytes} bytes from one of {n} ranks");
        }
    }
}

#[test]
fn small_messages_to_a_node_go_as_one() {
    let everybody = |w: &mut World| {
        let tables = (0..w.size()).map(|to| {
            let mut table = Table::<u32, Sum>::new(Sum);
            table.insert(0, vec![w.rank(), to]);
            table
        });
        let came = alltoall(w, tables.collect())?;
        for (table, from) in came.iter().zip(0..) {
            assert_eq!(table.get(0).unwrap()[..], [from, w.rank()]);
        }
        Ok(())
    };
    for (messages, _) in sent(&nodes(4, 4), true, everybody) {
        assert_eq!(messages, 3, "one for each other node");
    }
    let ring = |w: &mut World| barrier(w);
    for (messages, _) in sent(&nodes(4, 4), true, ring) {
        assert_eq!(messages, 2, "log2 of the nodes");
    }
}

#[test]
fn ranks_with_nothing_to_say_send_nothing() {
    // Each of 64 ranks has something for two others.
    let few = |w: &mut World| {
        let (me, n) = (u64::from(w.rank()), u64::from(w.size()));
        let mut table = Table::<u64, Sum>::new(Sum);
        for to in [(me + 5) % n, (me + 40) % n] {
            table.add(to, vec![1, me])?;
        }
        regroup(w, &mut table, &Modulo)?;
        let want = vec![2, (me + n - 5) % n + (me + n - 40) % n];
        assert_eq!(table.iter().map(|(id, p)| (id, p.to_vec())).collect::<Vec<_>>(), [(me, want)]);
        Ok(())
    };
    let apart: Vec<u32> = (0..64).collect();
    for (messages, _) in sent(&apart, true, few) {
        assert_eq!(messages, 6 + 2, "log2 of 64 words, two tables");
    }
}

#[test]
fn long_and_short_partitions_cross_nodes_of_any_size() {
    for layout in [&[0, 0, 0, 1][..], &[0, 1, 1, 2, 2, 2], &[0, 1, 0, 2, 1, 0], &[3, 3, 1, 1]] {
        for len in [1, 5000, 600_000] {
            World::local_nodes(layout, |mut world| {
                let me = world.rank();
                let tables = (0..world.size()).map(|to| {
                    let mut table = Table::<u32, Sum>::new(Sum);
                    // To some nothing, to some both.
                    if (me + to) % 3 > 0 {
                        table.insert(u64::MAX, vec![me; 3]);
                    }
                    if (me + to) % 3 > 1 {
                        table.insert(4, vec![to; len]);
                    }
                    table
                });
                let came = alltoall(&mut world, tables.collect())?;
                for (table, from) in came.iter().zip(0..) {
                    let kind = (me + from) % 3;
                    let short = (kind > 0).then(|| vec![from; 3]);
                    let tall = (kind > 1).then(|| vec![me; len]);
                    assert_eq!(table.get(u64::MAX).map(|p| p.to_vec()), short);
                    assert_eq!(table.get(4).map(|p| p.to_vec()), tall);
                }
                world.finish()
            })
            .unwrap();
        }
    }
}

#[test]
fn a_length_error_inside_another_node_names_a_rank_of_the_job() {
    let error = World::local_nodes(&[0, 0, 1, 1], |mut world| {
        let mut table = Table::<u8, Sum>::new(Sum);
        table.insert(1, vec![0; if world.rank() == 3 { 7 } else { 5 }]);
        reduce(&mut world, &mut table, 2)?;
        world.finish()
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("partition 1 has 5 elements here and 7 in the one that came from rank 3"),
        "{error}"
    );
}
