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

#[test]
fn a_wait_with_an_end_gets_what_comes_before_it_and_is_no_deadlock() {
    use std::time::Instant;
    // All ranks wait for nothing, much longer than it takes to find that they do so for ever.
    World::local_with(3, Duration::from_millis(100), |mut world| {
        let (nothing, edge) = (world.open_edge()?, world.open_edge()?);
        let end = Instant::now() + Duration::from_millis(2500);
        assert!(world.wait_until_or(end, |world| world.try_recv(nothing))?.is_none());
        assert!(Instant::now() >= end);
        world.send(edge, (world.rank() + 1) % 3, 7, Buf::empty())?;
        let end = Instant::now() + Duration::from_secs(60);
        let message = world.wait_until_or(end, |world| world.try_recv(edge))?.expect("it has been sent");
        assert!(message.tag == 7 && Instant::now() < end);
        // What is ready is so even if the time is over.
        assert_eq!(world.wait_until_or(Instant::now(), |_| Ok(Some(1)))?, Some(1));
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_part_of_a_world_that_cannot_be_is_refused() {
    World::local(3, |mut world| {
        let me = world.rank();
        let context = world.next_context();
        let part = world.sub(&[2, 1, 0], context)?;
        assert_eq!((part.rank(), part.size(), part.job_rank(0)?), (2 - me, 3, 2));
        for (ranks, context, what) in [
            (vec![0, 1, 2], context, "was used before"),
            (vec![0, 1, 2], 0, "context 0 was used before"),
            (vec![0, 1, 2, 1], context + 1, "a rank is twice"),
            (vec![0, 1, 2, 3], context + 2, "no rank 3 in a world of 3"),
            (vec![(me + 1) % 3], context + 3, "is not in the part of the world that it makes"),
            (vec![me], 1 << 16, "more than 65536 worlds"),
        ] {
            let error = world.sub(&ranks, context).unwrap_err();
            assert!(matches!(&error, NetError::Usage(text) if text.contains(what)), "{error}");
        }
        assert!(part.job_rank(3).is_err() && part.raw_communicator().is_none());
        // What was refused has done no harm.
        let edge = world.open_edge()?;
        world.send(edge, (me + 1) % 3, 7, Buf::empty())?;
        assert_eq!(world.recv(edge)?.tag, 7);
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_part_of_a_world_ranks_senders_by_its_own_numbers_and_keeps_its_messages_apart() {
    World::local(4, |mut world| {
        let me = world.rank();
        let mut part = world.sub(&[3, 2, 1, 0], 1)?;
        let (edge, there) = (world.open_edge()?, part.open_edge()?);
        for to in 0..4 {
            part.send(there, to, u64::from(me), Buf::from_slice(b"part"))?;
            world.send(edge, to, u64::from(me), Buf::from_slice(b"whole"))?;
        }
        for from in 0..4 {
            let (whole, here) = (world.recv_from(edge, from)?, part.recv_from(there, from)?);
            assert_eq!((whole.from, whole.tag, &whole.body[..]), (from, u64::from(from), &b"whole"[..]));
            assert_eq!((here.from, here.tag, &here.body[..]), (from, u64::from(3 - from), &b"part"[..]));
        }
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_message_of_an_earlier_call_passes_the_full_window_of_a_later_one() {
    World::local(2, |mut world| {
        let (edge, first) = world.next_collective()?;
        let (_, second) = world.next_collective()?;
        assert_eq!((first, second), (1, 2));
        let go = world.open_edge()?;
        if world.rank() == 0 {
            world.try_send_call(edge, 1, second << 32, Buf::zeroed(WINDOW as usize)).unwrap();
            let held = world.try_send_call(edge, 1, second << 32, Buf::empty());
            assert!(matches!(held, Err(TrySendError::Full(_))), "{held:?}");
            world.try_send_call(edge, 1, first << 32 | 5, Buf::empty()).unwrap();
            world.send(go, 1, 0, Buf::empty())?;
        } else {
            world.recv(go)?;
            // In the order of the calls, though it came after.
            assert_eq!(world.try_recv_call(edge, 0, first)?.unwrap().tag, first << 32 | 5);
            assert!(world.try_recv_call(edge, 0, first)?.is_none());
            assert_eq!(world.try_recv_call(edge, 0, second)?.unwrap().body.len() as u64, WINDOW);
        }
        world.end_collective(first);
        world.end_collective(second);
        world.finish()
    })
    .unwrap();
}

#[test]
fn a_message_of_a_call_that_is_over_or_never_taken_is_a_mismatch() {
    let err = local_err(|mut world| {
        let (edge, seq) = world.next_collective()?;
        if world.rank() == 2 {
            world.try_send_call(edge, 0, seq << 32, Buf::empty()).unwrap();
        }
        world.end_collective(seq);
        let (edge, next) = world.next_collective()?;
        world.wait_until(|w| if w.rank() == 0 { w.try_recv_call(edge, 2, next) } else { Ok(None) }).map(drop)
    });
    assert!(
        matches!(&err, NetError::Mismatch { rank: 0, peer: 2, theirs, .. } if theirs.contains("#1")),
        "{err}"
    );
    let err = local_err(|world| {
        let (edge, seq) = world.next_collective()?;
        if world.rank() == 2 {
            world.try_send_call(edge, 0, seq << 32, Buf::empty()).unwrap();
        }
        world.end_collective(seq);
        world.finish()
    });
    assert_eq!(err.exit_code(), exit::MISMATCH);
    assert!(err.to_string().contains("rank 2 is in collective #1, of which"), "{err}");
}

#[test]
fn the_error_of_a_spawned_operation_that_nobody_waits_for_ends_the_job_with_its_code() {
    for at_once in [true, false] {
        let heard = std::sync::Mutex::new(Vec::new());
        let err = local_err(|world| {
            let mut looks = if at_once { 0 } else { 3 };
            let fails = world.rank() == 1;
            let spawned = world.spawn(
                None,
                std::future::poll_fn(move |_| {
                    if looks == 0 {
                        let error = NetError::Above { what: "no more".into(), code: 65 };
                        return std::task::Poll::Ready(if fails { Err(error) } else { Ok(()) });
                    }
                    looks -= 1;
                    std::task::Poll::Pending
                }),
            );
            drop(spawned);
            let outcome = world.finish();
            heard.lock().unwrap().push(outcome.as_ref().unwrap_err().exit_code());
            outcome
        });
        assert_eq!((err.exit_code(), err.to_string().as_str()), (65, "no more"));
        assert_eq!(heard.into_inner().unwrap(), [65; 3], "every rank ends with that code");
    }
}

#[test]
fn a_handle_on_a_world_that_has_ended_says_so() {
    World::local(2, |world| {
        let (handle, edge) = (world.handle(), world.open_edge()?);
        let refused = world.handle().finish();
        assert!(matches!(refused, Err(NetError::Usage(_))), "{refused:?}");
        world.finish()?;
        assert!(matches!(handle.progress(), Err(NetError::Usage(_))));
        assert!(matches!(handle.next_collective(), Err(NetError::Usage(_))));
        let sent = handle.try_send(edge, 0, 0, Buf::empty());
        assert!(matches!(sent, Err(TrySendError::Failed(NetError::Usage(_)))), "{sent:?}");
        Ok(())
    })
    .unwrap();
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
