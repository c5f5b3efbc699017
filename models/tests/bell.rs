//! The doorbell (`net/src/transport/bell.rs`): who publishes work and then finds nobody asleep has not left one who sleeps through it.
//!
//! Loom does not know `membarrier`. Where `net/src/fences.rs` uses it, the sleeper's fence is also one of the waker's, at whatever place
//! that is then: the kernel's promise, which takes the part of the waker's own fence here.

use aeolian_models::{Pipe, explore, fails, mirrors};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

/// What may be taken away.
#[derive(Clone, Copy)]
struct Bell {
    sleeper_fence: bool,
    waker_fence: bool,
    /// The sleeper looks for work once more after it has raised its flag.
    second_look: bool,
}

const AS_IT_IS: Bell = Bell { sleeper_fence: true, waker_fence: true, second_look: true };

#[derive(Default)]
struct Shared {
    work: AtomicU32,
    asleep: AtomicU32,
    pipe: Pipe,
}

/// A rank waits until another one has published `rounds` times.
fn handshake(bell: Bell, rounds: u32) {
    let shared = Arc::new(Shared::default());
    let waker = {
        let shared = shared.clone();
        thread::spawn(move || {
            for round in 1..=rounds {
                shared.work.store(round, Ordering::Release);
                // `Ringer::ring_if_asleep`
                if bell.waker_fence {
                    fence(Ordering::SeqCst);
                }
                if shared.asleep.load(Ordering::Relaxed) != 0 && shared.asleep.swap(0, Ordering::Relaxed) != 0
                {
                    shared.pipe.ring();
                }
            }
            shared.pipe.over();
        })
    };
    while shared.work.load(Ordering::Acquire) < rounds {
        // `fall_asleep`
        shared.asleep.store(1, Ordering::Relaxed);
        if bell.sleeper_fence {
            fence(Ordering::SeqCst);
        }
        if !bell.second_look || shared.work.load(Ordering::Acquire) < rounds {
            shared.pipe.sleep();
        }
        // `Transport::disarm`
        shared.asleep.store(0, Ordering::Relaxed);
        shared.pipe.clear();
    }
    waker.join().unwrap();
}

#[test]
fn nobody_sleeps_through_work() {
    explore(|| handshake(AS_IT_IS, 1));
    explore(|| handshake(AS_IT_IS, 2));
}

#[test]
fn the_sleepers_fence_is_needed() {
    fails("asleep for ever", || handshake(Bell { sleeper_fence: false, ..AS_IT_IS }, 1));
}

#[test]
fn the_wakers_fence_is_needed() {
    fails("asleep for ever", || handshake(Bell { waker_fence: false, ..AS_IT_IS }, 1));
}

#[test]
fn the_second_look_is_needed() {
    fails("asleep for ever", || handshake(Bell { second_look: false, ..AS_IT_IS }, 1));
}

#[test]
fn the_code_is_as_it_was_modelled() {
    mirrors(
        include_str!("../../net/src/transport/bell.rs"),
        &[
            "fn ring_if_asleep",
            "fence(Ordering::SeqCst);",
            "asleep.load(Ordering::Relaxed) != 0 && asleep.swap(0, Ordering::Relaxed) != 0",
            "self.ring();",
            "fn fall_asleep",
            "asleep.store(1, Ordering::Relaxed);",
            "fences::heavy();",
        ],
    );
    mirrors(
        include_str!("../../net/src/transport/shm/mod.rs"),
        &[
            "fn nudge",
            "ring_after_fence",
            "fn disarm",
            "store(0, std::sync::atomic::Ordering::Relaxed);",
            "bell.clear();",
        ],
    );
}
