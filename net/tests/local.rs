//! Worlds of threads: messages, bounds and failures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use aeolian_net::{Buf, NetError, TrySendError, WINDOW, World, exit};
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn every_rank_to_every_rank_also_to_itself_and_with_nothing() {
    for n in [1, 2, 3, 5, 8, 16] {
        World::local(n, |mut world| {
            let edge = world.open_edge()?;
            for to in 0..n {
                let body = vec![world.rank() * 100 + to; (world.rank() * 1000 * to) as usize];
                world.send(edge, to, u64::from(to), Buf::from_pod(&body))?;
            }
            for from in 0..n {
                let m = world.recv_from(edge, from)?;
                let want = vec![from * 100 + world.rank(); (from * 1000 * world.rank()) as usize];
                assert_eq!((m.from, m.tag, m.body.cast::<u32>()), (from, u64::from(world.rank()), &want[..]));
            }
            assert!(world.try_recv(edge)?.is_none());
            world.finish()
        })
        .unwrap();
    }
}

#[test]
fn sixty_four_ranks_sleep_and_wake() {
    let sums = World::local(64, |mut world| {
        let edge = world.open_edge()?;
        let next = (world.rank() + 1) % 64;
        let mut carried = u64::from(world.rank());
        let mut sum = 0;
        for _ in 0..64 {
            world.send(edge, next, 0, Buf::from_pod(&[carried]))?;
            carried = world.recv(edge)?.body.cast::<u64>()[0];
            sum += carried;
        }
        world.finish()?;
        Ok(sum)
    })
    .unwrap();
    assert!(sums.iter().all(|&s| s == 64 * 63 / 2));
}

#[test]
fn a_slow_receiver_bounds_the_sender_and_gets_everything() {
    World::local(2, |mut world| {
        let (edge, done) = (world.open_edge()?, world.open_edge()?);
        const PIECE: usize = 100_000;
        const N: u64 = 500;
        if world.rank() == 0 {
            let mut body = Buf::zeroed(PIECE);
            let mut free = 0;
            while let Ok(()) = world.try_send(edge, 1, free, body) {
                body = Buf::zeroed(PIECE);
                free += 1;
            }
            assert_eq!(
                free,
                WINDOW.div_ceil(PIECE as u64 + aeolian_net::MESSAGE_COST),
                "a window and not more"
            );
            // Another edge is not held up by the full one.
            world.send(done, 1, 0, Buf::empty())?;
            for i in free..N {
                world.send(edge, 1, i, Buf::zeroed(PIECE))?;
            }
        } else {
            world.recv(done)?;
            for i in 0..N {
                assert_eq!(world.recv(edge)?.tag, i);
            }
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn full_hands_the_bytes_back() {
    World::local(2, |mut world| {
        let edge = world.open_edge()?;
        if world.rank() == 0 {
            world.send(edge, 1, 0, Buf::zeroed(WINDOW as usize))?;
            match world.try_send(edge, 1, 1, Buf::from_slice(b"mine")) {
                Err(TrySendError::Full(back)) => assert_eq!(&back[..], b"mine"),
                other => panic!("{other:?}"),
            }
        } else {
            world.recv(edge)?;
        }
        world.finish()
    })
    .unwrap();
}

fn local_err(f: impl Fn(World) -> aeolian_net::Result<()> + Sync) -> NetError {
    World::local_with(3, Duration::from_millis(1500), f).unwrap_err()
}

#[test]
fn a_deadlock_is_named() {
    let err = local_err(|mut world| {
        let edge = world.open_edge()?;
        world.recv(edge)?;
        Ok(())
    });
    assert_eq!(err.exit_code(), exit::MISMATCH);
    assert!(err.to_string().contains("rank 1 is in recv"), "{err}");
}

#[test]
fn a_rank_that_leaves_or_fails_ends_the_others() {
    let err = local_err(|mut world| {
        let edge = world.open_edge()?;
        if world.rank() == 1 {
            return Ok(());
        }
        world.recv(edge).map(drop)
    });
    assert_eq!(err.exit_code(), exit::LEFT_EARLY);
    let err = local_err(|mut world| {
        let edge = world.open_edge()?;
        if world.rank() == 2 {
            return Err(NetError::Usage("my own trouble".into()));
        }
        world.recv(edge).map(drop)
    });
    assert!(err.to_string().contains("my own trouble"), "{err}");
}

#[test]
fn a_panic_comes_through() {
    let caught = std::panic::catch_unwind(|| {
        let _ = World::local(3, |mut world| {
            let edge = world.open_edge()?;
            if world.rank() == 1 {
                panic!("rank {} gives up", world.rank());
            }
            world.recv(edge).map(drop)
        });
    });
    let text = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("rank 1 gives up"), "{text}");
}

#[test]
fn misuse_is_an_error() {
    World::local(2, |mut world| {
        let edge = world.open_edge()?;
        assert!(matches!(world.send(edge, 2, 0, Buf::empty()), Err(NetError::Usage(_))));
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_rank_that_waits_for_itself_is_told_so() {
    for size in [1, 3] {
        let error = |f: fn(&mut World) -> aeolian_net::Result<()>| {
            let error =
                World::local(size, |mut world| f(&mut world).and_then(|()| world.finish())).unwrap_err();
            assert!(matches!(error, NetError::Usage(_)), "{error}");
            error.to_string()
        };
        let nothing = error(|world| {
            let edge = world.open_edge()?;
            world.recv_from(edge, world.rank()).map(drop)
        });
        assert!(nothing.contains("waits for a message that only itself could send"), "{nothing}");
        let full = error(|world| {
            let (edge, me) = (world.open_edge()?, world.rank());
            (0..64).try_for_each(|tag| world.send(edge, me, tag, Buf::from_slice(&[0; WINDOW as usize / 16])))
        });
        assert!(full.contains("room to send to itself"), "{full}");
    }
    let lonely = World::local(1, |mut world| {
        let edge = world.open_edge()?;
        world.recv(edge).map(drop)
    });
    assert!(matches!(lonely, Err(NetError::Usage(_))), "{lonely:?}");
}

#[test]
fn a_world_of_one_may_wait_for_something_else_and_take_its_own_messages_one_by_one() {
    let mut world = World::alone();
    let edge = world.open_edge().unwrap();
    for tag in 0..10_000 {
        world.send(edge, 0, tag, Buf::empty()).unwrap();
    }
    let mut next = 0;
    world
        .wait_until(|world| {
            let message = world.try_recv(edge)?.expect("all have arrived");
            assert_eq!(message.tag, next);
            next += 1;
            Ok((next == 10_000).then_some(()))
        })
        .unwrap();
    // Longer than it spins.
    let begin = std::time::Instant::now();
    world.wait_until(|_| Ok((begin.elapsed() > Duration::from_millis(50)).then_some(()))).unwrap();
    world.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn random_traffic_keeps_order_a_pair(plan in prop::collection::vec((0u32..4, 0u32..4, 0usize..50_000), 1..60)) {
        World::local(4, |mut world| {
            let edge = world.open_edge()?;
            let me = world.rank();
            let mut mine = plan.iter().enumerate().filter(|(_, s)| s.0 == me).map(|(i, s)| (i, s.1, s.2));
            let mut waiting = None;
            let expected = plan.iter().filter(|s| s.1 == me).count();
            let mut last = [None; 4];
            let mut got = 0;
            world.wait_until(|w| {
                while let Some((i, to, len)) = waiting.take().or_else(|| mine.next()) {
                    match w.try_send(edge, to, i as u64, Buf::zeroed(len)) {
                        Ok(()) => {}
                        Err(TrySendError::Full(_)) => { waiting = Some((i, to, len)); break }
                        Err(TrySendError::Failed(e)) => return Err(e),
                    }
                }
                while let Some(m) = w.try_recv(edge)? {
                    assert!(last[m.from as usize] < Some(m.tag));
                    assert_eq!(m.body.len(), plan[m.tag as usize].2);
                    last[m.from as usize] = Some(m.tag);
                    got += 1;
                }
                Ok((got == expected && waiting.is_none()).then_some(()))
            })?;
            world.finish()
        }).unwrap();
    }
}
