//! The rotator, and computing while it moves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use aeolian_harp::schedule::*;
use aeolian_harp::*;
use aeolian_net::{NetError, World, exit};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

const RANKS: [u32; 5] = [1, 2, 3, 5, 8];
const ORDERS: [RingOrder; 2] = [RingOrder::Ranks, RingOrder::Random { seed: 12 }];

type Guests = Serde<Vec<u32>>;

fn keep() -> impl Combiner<Vec<u32>> + 'static {
    Custom::new("keep", |_: &mut Vec<u32>, _: &Vec<u32>| {})
}

#[test]
fn in_each_epoch_a_slice_visits_every_rank_and_comes_home() {
    const EPOCHS: u32 = 3;
    const SLICES: usize = 3;
    for (n, order) in RANKS.into_iter().flat_map(|n| ORDERS.map(|order| (n, order))) {
        World::local(n, |mut world| {
            let me = world.rank();
            let guest_book = |slice: usize| {
                let mut table = Table::<Guests, _>::new(keep());
                table.insert(u64::from(me) * 10 + slice as u64, Vec::new());
                table
            };
            let mut rotator = Rotator::new(&mut world, (0..SLICES).map(guest_book).collect(), order)?;
            for _ in 0..n * EPOCHS {
                // Ranks need not agree on the order of slices.
                for slice in (0..SLICES).map(|s| (s + me as usize) % SLICES) {
                    let home = rotator.home(slice)?;
                    let mut table = rotator.get(slice)?;
                    assert!(!rotator.has(slice)?);
                    assert_eq!(table.ids().collect::<Vec<_>>(), [u64::from(home) * 10 + slice as u64]);
                    table.apply(|_, guests| guests.push(me));
                    rotator.rotate(slice, table)?;
                }
            }
            for (slice, table) in rotator.stop()?.into_iter().enumerate() {
                let guests = table.get(u64::from(me) * 10 + slice as u64).unwrap();
                assert_eq!(guests.len(), (n * EPOCHS) as usize);
                for epoch in guests.chunks(n as usize) {
                    assert_eq!(epoch[0], me, "an epoch begins at home");
                    let mut epoch = epoch.to_vec();
                    epoch.sort_unstable();
                    assert_eq!(epoch, (0..n).collect::<Vec<_>>());
                }
            }
            world.finish()
        })
        .unwrap();
    }
}

/// Every rank adds its part to every element of a model that is spread over them.
fn trained(n: u32, order: RingOrder, slices: u64) -> Vec<Vec<i64>> {
    World::local(n, |mut world| {
        let me = world.rank();
        let part = |s: u64| {
            let mut table = Table::<i64, Sum>::new(Sum);
            for p in 0..3 {
                let id = (u64::from(me) * slices + s) * 3 + p;
                table.insert(id, vec![id as i64; 20_000]); // longer than what goes without being waited for
            }
            table
        };
        let mut rotator = Rotator::new(&mut world, (0..slices).map(part).collect(), order)?;
        let mut scheduler = BlockScheduler::new(2, 0);
        for _ in 0..n {
            for s in 0..rotator.slices() {
                let mut table = rotator.get(s)?;
                let mut rows = [1, i64::from(me)];
                let mut cols: Vec<&mut [i64]> = table.iter_mut().map(|(_, part)| &mut part[..]).collect();
                overlap(&mut world, || {
                    Ok(scheduler.run(&mut rows, &mut cols, Until::Epochs(1), |_, row, _, col| {
                        col.iter_mut().for_each(|x| *x += *row);
                        Ok(())
                    })?)
                })?;
                rotator.rotate(s, table)?;
            }
        }
        let mut mine = Vec::new();
        for table in rotator.stop()? {
            mine.extend(table.iter().map(|(_, part)| {
                assert!(part.iter().all(|x| *x == part[0]));
                part[0]
            }));
        }
        world.finish()?;
        Ok(mine)
    })
    .unwrap()
}

#[test]
fn a_model_is_trained_while_it_rotates() {
    for (n, order) in RANKS.into_iter().flat_map(|n| ORDERS.map(|order| (n, order))) {
        for slices in [1, 2] {
            let all: Vec<i64> = trained(n, order, slices).concat();
            let added = i64::from(n) + (0..i64::from(n)).sum::<i64>();
            let want: Vec<i64> = (0..i64::from(n) * slices as i64 * 3).map(|id| id + added).collect();
            assert_eq!(all, want, "{n} ranks, {order:?}");
        }
    }
}

#[test]
fn misuse_is_named() {
    World::local(2, |mut world| {
        let mut rotator = Rotator::new(&mut world, vec![Table::<u8, Sum>::new(Sum)], RingOrder::Ranks)?;
        let usage = |error: HarpError| matches!(error, HarpError::Usage(_));
        assert!(rotator.has(0)?);
        assert!(usage(rotator.rotate(0, Table::new(Sum)).unwrap_err()));
        let table = rotator.get(0)?;
        assert!(usage(rotator.get(0).unwrap_err()));
        assert!(usage(rotator.get(1).unwrap_err()));
        assert!(usage(rotator.rotate(1, Table::new(Sum)).unwrap_err()));
        assert!(usage(rotator.home(1).unwrap_err()));
        rotator.rotate(0, table)?;
        assert_eq!((rotator.rotations(0)?, rotator.slices()), (1, 1));
        let _out = rotator.get(0)?;
        assert!(usage(rotator.stop().unwrap_err()));
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_rotator_of_no_slices() {
    World::local(2, |mut world| {
        let rotator = Rotator::<u8, Sum>::new(&mut world, Vec::new(), RingOrder::Ranks)?;
        assert!(rotator.stop()?.is_empty());
        world.finish()
    })
    .unwrap();
}

#[test]
fn messages_move_while_a_rank_computes() {
    let arrived = AtomicBool::new(false);
    World::local(2, |mut world| {
        let mut table = Table::<u64, Sum>::new(Sum);
        table.insert(0, vec![u64::from(world.rank()); 4 << 20]); // many windows
        let mut rotator = Rotator::new(&mut world, vec![table], RingOrder::Ranks)?;
        let table = rotator.get(0)?;
        rotator.rotate(0, table)?;
        if world.rank() == 0 {
            assert_eq!(rotator.get(0)?.get(0).unwrap()[0], 1);
            arrived.store(true, SeqCst);
        } else {
            // Computes until the other rank has all of a slice, most of which this rank sends meanwhile.
            overlap(&mut world, || {
                let begin = Instant::now();
                while !arrived.load(SeqCst) {
                    if begin.elapsed() > Duration::from_secs(60) {
                        return Err("nothing moves".into());
                    }
                    std::thread::yield_now();
                }
                Ok(())
            })?;
            rotator.stop()?;
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn what_goes_wrong_in_the_computation_comes_back() {
    let mut world = World::alone();
    let error = overlap(&mut world, || Err::<(), _>("no wind".into())).unwrap_err();
    assert_eq!(error.to_string(), "the computation: no wind");
    let error =
        overlap(&mut world, || -> std::result::Result<(), TaskError> { panic!("storm") }).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.exit_code()),
        ("the computation: panicked: storm", exit::PANICKED)
    );
    world.finish().unwrap();
}

#[test]
fn a_failed_job_ends_the_computation() {
    let a_while = || {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    };
    let error = World::local(2, |mut world| {
        if world.rank() == 1 {
            return Err(NetError::Usage("gone".into()));
        }
        loop {
            if let Err(e) = overlap(&mut world, a_while) {
                let e = NetError::from(e);
                assert!(matches!(e, NetError::JobFailed(_)), "{e}");
                return Err::<(), _>(e);
            }
        }
    });
    assert!(matches!(error, Err(NetError::Usage(_))), "{error:?}");
}

#[test]
fn a_share_is_at_least_one_thread() {
    for n in RANKS {
        let shares = World::local(n, |mut world| {
            let share = fair_share(&mut world)?;
            world.finish()?;
            Ok(share)
        })
        .unwrap();
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(shares, vec![(cores / n as usize).max(1); n as usize]);
    }
}
