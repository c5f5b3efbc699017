//! Models of the protocols by which ranks of a node share memory, explored by [`loom`]: every interleaving of a few steps, with every value
//! that the memory model of Rust (C11) lets a load see.
//!
//! A model has the same atomics, in the same order and with the same orderings, as the code that it mirrors (each test file says which, and
//! [`mirrors`] fails when the code does not say so any more), with one or two ranks, small numbers, and [`loom::cell::UnsafeCell`] for
//! memory that is only ordered by them. Each is also run with one ordering, fence or wait taken away, and must then fail: so what
//! it shows is that they suffice, and that this one is needed.

use loom::sync::atomic::{AtomicU32, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Explores all executions of a model.
pub fn explore(model: impl Fn() + Sync + Send + 'static) {
    loom::model(model);
}

/// Explores a model until an execution goes wrong, which one must: by a data race or an assertion.
///
/// # Panics
/// If all executions are fine, or one goes wrong in another way than `how` says.
pub fn fails(how: &str, model: impl Fn() + Sync + Send + 'static) {
    let outcome = catch_unwind(AssertUnwindSafe(|| loom::model(model)));
    let error = outcome.expect_err("nothing went wrong, though something was taken away");
    let text = error.downcast_ref::<String>().cloned();
    let text = text.or_else(|| error.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default();
    assert!(text.contains(how), "it went wrong in another way: {text:?}, not {how:?}");
}

/// The code that a model stands for still has these pieces, in this order.
///
/// # Panics
/// If it has not: the model is to be looked at again.
pub fn mirrors(source: &str, pieces: &[&str]) {
    let mut rest = source;
    for piece in pieces {
        let at = rest.find(piece);
        let at = at
            .unwrap_or_else(|| panic!("the code has no {piece:?} any more here: does the model still hold?"));
        rest = &rest[at + piece.len()..];
    }
}

/// The pipe of a doorbell (`net/src/transport/bell.rs`): the bytes in it, and `poll`. The kernel puts
/// all that is done with it in one order, by a lock.
#[derive(Default)]
pub struct Pipe {
    rings: AtomicU32,
    over: AtomicU32,
}

impl Pipe {
    /// `write`.
    pub fn ring(&self) {
        self.rings.fetch_add(1, Ordering::AcqRel);
    }

    /// Nobody rings any more.
    pub fn over(&self) {
        self.over.store(1, Ordering::Release);
    }

    /// `poll` without a time limit.
    ///
    /// # Panics
    /// If it would last for ever: all is quiet, and nobody will ring.
    pub fn sleep(&self) {
        while self.rings.load(Ordering::Acquire) == 0 {
            if self.over.load(Ordering::Acquire) != 0 {
                assert!(self.rings.load(Ordering::Acquire) > 0, "asleep for ever");
                return;
            }
            loom::thread::yield_now();
        }
    }

    /// `read` of all.
    pub fn clear(&self) {
        self.rings.swap(0, Ordering::AcqRel);
    }
}
