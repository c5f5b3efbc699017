//! Worlds of some of the ranks: who is in them, in what order, next to each other, one inside the other, one after the other.

use crate::kinds::{Affines, Kind, Rng, Texts};
use crate::reference::expected;
use crate::steps::{KINDS, Size, Step, call, given, start};
use aeolian_harp::*;
use aeolian_net::{Buf, NetError, World, exit};
use proptest::prelude::*;
use std::time::Duration;

/// The sum of the job's ranks over a world, by a collective in it.
fn ranks_in(world: &mut World, me: u32) -> Result<u32> {
    let mut sum = [me];
    allreduce_slice(world, &mut sum, Sum)?;
    Ok(sum[0])
}

/// Who is in a world, in its order.
fn members(world: &World) -> Vec<u32> {
    (0..world.size()).map(|rank| world.job_rank(rank).unwrap()).collect()
}

/// All collectives on a world, on random data. The ranks of it must give the same seed.
fn all_collectives<K: Kind>(world: &mut World, seed: u64) -> Result<()> {
    let (mut rng, n, me) = (Rng(seed), world.size() as usize, world.rank() as usize);
    // Else by messages, as between nodes.
    world.use_shared_memory(seed.is_multiple_of(2));
    for which in 0..KINDS {
        let step = Step::random(&mut rng, which, n);
        let given = given::<K>(&mut rng, &step, n, Size::Any);
        let want = expected::<K>(&step, &given);
        let what = format!("rank {me} of a part of {n}, {step:?}");
        want[me].check(&call::<K>(&step, world, &given[me])?, &what);
        want[me].check(&start::<K>(&step, world, &given[me])?.wait()?, &what);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn colors_choose_and_keys_order(n in prop::sample::select(crate::each::RANKS.to_vec()), seed: u64) {
        let mut rng = Rng(seed);
        let wishes: Vec<(Option<u32>, i64)> = (0..n)
            .map(|_| ((rng.below(4) > 0).then(|| rng.pick(&[0, 1, u32::MAX])), rng.below(5) as i64 - 2))
            .collect();
        let extremes = rng.below(2) == 0;
        let key = |rank: usize| match wishes[rank].1 {
            2 if extremes => i64::MAX,
            -2 if extremes => i64::MIN,
            key => key,
        };
        World::local(n as u32, |mut world| {
            let me = world.rank() as usize;
            let part = split(&mut world, wishes[me].0, key(me))?;
            let mut want: Vec<usize> = (0..n).filter(|r| wishes[*r].0 == wishes[me].0).collect();
            want.sort_by_key(|r| key(*r));
            match part {
                None => assert_eq!(wishes[me].0, None),
                Some(part) => {
                    assert!(wishes[me].0.is_some());
                    assert_eq!(members(&part), want.iter().map(|r| *r as u32).collect::<Vec<_>>());
                    assert_eq!(want[part.rank() as usize], me);
                }
            }
            world.finish()
        })
        .unwrap();
    }
}

#[test]
fn all_collectives_in_parts_of_different_sizes_at_the_same_time() {
    // All on one node, and on nodes of three.
    for (n, each) in [(2, 2), (3, 3), (5, 3), (8, 8), (8, 3), (16, 16), (16, 3)] {
        let nodes: Vec<u32> = (0..n).map(|rank| rank / each).collect();
        World::local_nodes(&nodes, |mut world| {
            let me = world.rank();
            // Of the colors 0, 1, 2 there are about 1 : 2 : 5, and keys turn the order around.
            let color = [2, 1, 2, 2, 0, 2, 1, 2][me as usize % 8];
            let mut part = split(&mut world, Some(color), -i64::from(me))?.unwrap();
            all_collectives::<Texts>(&mut part, 7 + u64::from(color))?;
            all_collectives::<Affines>(&mut world, 3)?;
            all_collectives::<Affines>(&mut part, 70 + u64::from(color))?;
            world.finish()
        })
        .unwrap();
    }
}

#[test]
fn splits_of_splits_down_to_single_ranks() {
    World::local(16, |mut world| {
        let me = world.rank();
        let mut worlds: Vec<World> = Vec::new();
        for level in 0..4 {
            let above = worlds.last_mut().unwrap_or(&mut world);
            let half = above.rank() % 2;
            let part = split(above, Some(half), 0)?.unwrap();
            assert_eq!(part.size(), 8 >> level);
            worlds.push(part);
        }
        assert_eq!(members(&worlds[3]), [me]);
        // The innermost first, then outwards: all still work, and know whom they have.
        for (level, part) in worlds.iter_mut().enumerate().rev() {
            let all: Vec<u32> = (0..16).filter(|r| r % (2 << level) == me % (2 << level)).collect();
            assert_eq!(members(part), all);
            assert_eq!(ranks_in(part, me)?, all.iter().sum::<u32>());
        }
        assert_eq!(ranks_in(&mut world, me)?, 120);
        world.finish()
    })
    .unwrap();
}

#[test]
fn ranks_without_a_color_go_on_in_the_world() {
    World::local(5, |mut world| {
        let me = world.rank();
        for round in 0..5 {
            // Each time another one stays out, so that the ranks have made different numbers of worlds.
            let part = split(&mut world, (me != round).then_some(0), 0)?;
            assert_eq!(part.is_none(), me == round);
            if let Some(mut part) = part {
                assert_eq!(ranks_in(&mut part, me)?, 10 - round);
            }
            assert_eq!(ranks_in(&mut world, me)?, 10);
        }
        assert!(split(&mut world, None, 0)?.is_none(), "nobody has a color");
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_world_is_used_after_another_was_dropped() {
    World::local(4, |mut world| {
        let me = world.rank();
        let first = split(&mut world, Some(me % 2), 0)?.unwrap();
        let mut second = split(&mut world, Some(me / 2), 0)?.unwrap();
        // One with something under way in it.
        let under_way = iallreduce(&first, {
            let mut t = Table::<u32, Sum>::new(Sum);
            t.insert(0, vec![me; 100_000]);
            t
        })?;
        drop(first);
        assert_eq!(ranks_in(&mut second, me)?, me / 2 * 4 + 1);
        let mut third = split(&mut second, Some(0), -i64::from(me))?.unwrap();
        drop(second);
        assert_eq!(ranks_in(&mut third, me)?, me / 2 * 4 + 1);
        assert_eq!(under_way.wait()?.get(0).unwrap()[99_999], 2 * (me % 2) + 2);
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_thousand_splits_one_after_the_other() {
    World::local(3, |mut world| {
        let me = world.rank();
        for round in 0..1000u32 {
            let mut part = split(&mut world, Some((me + round) % 2), 0)?.unwrap();
            if round % 50 == 0 {
                let mine = (0..3).filter(|r| (r + round) % 2 == (me + round) % 2).sum::<u32>();
                assert_eq!(ranks_in(&mut part, me)?, mine);
            }
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn overlapping_worlds_made_by_ranks_with_different_pasts() {
    World::local(6, |mut world| {
        let me = world.rank();
        // 0, 1 make worlds of their own first, so their count is ahead of the others'.
        let mut low = split(&mut world, Some(u32::from(me >= 2)), 0)?.unwrap();
        if me < 2 {
            for _ in 0..10 {
                split(&mut low, Some(0), 0)?;
            }
        }
        let mut middle = split(&mut world, ((1..5).contains(&me)).then_some(0), 0)?;
        let mut high = split(&mut world, (me >= 3).then_some(0), 0)?;
        // All three at once: messages of one must not come out in another.
        let table = |v: u32| {
            let mut t = Table::<u32, Sum>::new(Sum);
            t.insert(0, vec![v; 20_000]);
            t
        };
        let in_low = iallreduce(&low, table(1))?;
        let in_middle = middle.as_ref().map(|w| iallreduce(w, table(10))).transpose()?;
        let in_high = high.as_ref().map(|w| iallreduce(w, table(100))).transpose()?;
        if let Some(pending) = in_high {
            assert_eq!(pending.wait()?.get(0).unwrap()[0], 300);
        }
        if let Some(pending) = in_middle {
            assert_eq!(pending.wait()?.get(0).unwrap()[0], 40);
        }
        assert_eq!(in_low.wait()?.get(0).unwrap()[0], if me < 2 { 2 } else { 4 });
        for (part, want) in [(&mut middle, 10), (&mut high, 12)] {
            if let Some(part) = part {
                assert_eq!(ranks_in(part, me)?, want);
            }
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn all_ranks_of_a_node_and_events_between_them() {
    for n in [1, 2, 5] {
        World::local(n, |mut world| {
            let mut part = split_by_node(&mut world)?;
            assert_eq!((part.size(), part.rank()), (n, world.rank()));
            assert_eq!(part.layout(), world.layout());
            let mut turned = split(&mut part, Some(1), -i64::from(world.rank()))?.unwrap();
            // An event in one world is none in another.
            let next = (turned.rank() + 1) % n;
            send_event(&mut turned, To::Rank(next), 5, Buf::empty())?;
            assert!(poll_event(&mut world)?.is_none());
            let event = wait_event(&mut turned)?;
            assert_eq!((event.from, event.tag), ((turned.rank() + n - 1) % n, 5));
            barrier(&mut world)?;
            assert!(poll_event(&mut part)?.is_none() && poll_event(&mut turned)?.is_none());
            world.finish()
        })
        .unwrap();
    }
}

#[test]
fn a_part_for_each_node_shares_memory() {
    World::local_nodes(&[0, 1, 0, 2, 1, 0], |mut world| {
        let me = world.rank();
        assert!(!world.shares_memory());
        let mut part = split_by_node(&mut world)?;
        let want: &[u32] = match me {
            3 => &[3],
            1 | 4 => &[1, 4],
            _ => &[0, 2, 5],
        };
        assert_eq!(members(&part), want);
        assert_eq!(part.shares_memory(), want.len() > 1);
        assert_eq!(ranks_in(&mut part, me)?, want.iter().sum());
        assert_eq!(ranks_in(&mut world, me)?, 15);
        world.finish()
    })
    .unwrap();
}

#[test]
fn errors_in_a_part_name_the_ranks_of_the_job() {
    let error = World::local_with(5, Duration::from_millis(500), |mut world| {
        let me = world.rank();
        // Job ranks 4, 2 are ranks 0, 1 of this part.
        let part = split(&mut world, (me == 2 || me == 4).then_some(0), -i64::from(me))?;
        if let Some(mut part) = part {
            if part.rank() == 0 {
                barrier(&mut part)?
            } else {
                scan(&mut part, &mut Table::<u8, Sum>::new(Sum))?
            }
        }
        world.finish()
    })
    .unwrap_err();
    assert_eq!(error.exit_code(), exit::MISMATCH);
    let text = error.to_string();
    assert!(text.contains("rank 2") && text.contains("rank 4"), "{text}");
    assert!(text.contains("barrier #1") && text.contains("scan #1"), "{text}");
    assert!(!text.contains("rank 0") && !text.contains("rank 1"), "{text}");

    // One of a part waits in it, the other has gone on to the whole world.
    let error = World::local_with(3, Duration::from_millis(500), |mut world| {
        let color = u32::from(world.rank() > 0);
        let mut part = split(&mut world, Some(color), 0)?.unwrap();
        if world.rank() == 2 {
            barrier(&mut part)?
        } else {
            allgather(&mut world, &mut Table::<u8, Sum>::new(Sum))?
        }
        world.finish()
    })
    .unwrap_err();
    assert_eq!(error.exit_code(), exit::MISMATCH);
    let text = error.to_string();
    assert!(text.contains("rank 1 is in allgather #2") && text.contains("rank 2 is in barrier #1"), "{text}");
}

#[test]
fn a_length_error_in_a_part_names_the_rank_of_the_job() {
    let error = World::local(4, |mut world| {
        let me = world.rank();
        if let Some(mut part) = split(&mut world, (me >= 2).then_some(0), 0)? {
            let mut t = Table::<u8, Sum>::new(Sum);
            t.insert(1, vec![0; me as usize]);
            gather(&mut part, &mut t, 0)?;
        }
        world.finish()
    })
    .unwrap_err();
    assert!(error.to_string().contains("came from rank 3"), "{error}");
}

#[test]
fn only_the_whole_world_can_finish() {
    World::local(2, |mut world| {
        let part = split(&mut world, Some(0), 0)?.unwrap();
        assert!(matches!(part.finish(), Err(NetError::Usage(_))));
        world.finish()
    })
    .unwrap();
}
