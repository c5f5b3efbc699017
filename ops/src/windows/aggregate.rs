//! [`Aggregate`]: what is made of the records of a window.

use std::marker::PhantomData;

/// What is made of the records of a window, one by one, without keeping them: init, add, merge, finish (Gray and others, 1997, call these distributive and
/// algebraic; one that needs all records is a [`List`] to begin with).
pub trait Aggregate<V> {
    /// What is kept.
    type Acc;
    /// What comes out.
    type Out;

    /// Of no records.
    fn init(&self) -> Self::Acc;

    /// With one more.
    fn add(&self, acc: &mut Self::Acc, value: &V);

    /// With those of another one, which came later: of sessions that turn out to be one.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);

    /// What comes out. (More records may come after that.)
    fn finish(&self, acc: &Self::Acc) -> Self::Out;
}

/// How many records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count;

impl<V> Aggregate<V> for Count {
    type Acc = u64;
    type Out = u64;

    #[inline]
    fn init(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, acc: &mut u64, _value: &V) {
        *acc += 1;
    }

    #[inline]
    fn merge(&self, acc: &mut u64, other: u64) {
        *acc += other;
    }

    #[inline]
    fn finish(&self, acc: &u64) -> u64 {
        *acc
    }
}

/// All records, as they came: for what needs the whole window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct List;

impl<V: Clone> Aggregate<V> for List {
    type Acc = Vec<V>;
    type Out = Vec<V>;

    fn init(&self) -> Vec<V> {
        Vec::new()
    }

    #[inline]
    fn add(&self, acc: &mut Vec<V>, value: &V) {
        acc.push(value.clone());
    }

    fn merge(&self, acc: &mut Vec<V>, mut other: Vec<V>) {
        acc.append(&mut other);
    }

    fn finish(&self, acc: &Vec<V>) -> Vec<V> {
        acc.clone()
    }
}

/// One value of all, by a function of two: made by [`reduced`].
#[derive(Debug, Clone, Copy)]
pub struct Reduced<F>(F);

/// One value of all, by a function that adds one to another. (`None` comes of no records: of a discarding window to which none came since its last pane.)
///
/// ```
/// use aeolian_ops::windows::{Windowing, Windows, reduced};
/// let mut highest = Windows::new(Windowing::tumbling(10)?, reduced(|a: &mut i32, b: &i32| *a = *b.max(a)))?;
/// for (time, value) in [(1, 3), (2, 8), (3, 5)] {
///     highest.insert(0u8, time, value, &mut |_| {}).unwrap();
/// }
/// highest.advance(10, &mut |pane| assert_eq!(pane.value, Some(8)));
/// # Ok::<(), aeolian_ops::OpsError>(())
/// ```
pub fn reduced<V: Clone, F: Fn(&mut V, &V)>(add: F) -> Reduced<F> {
    Reduced(add)
}

impl<V: Clone, F: Fn(&mut V, &V)> Aggregate<V> for Reduced<F> {
    type Acc = Option<V>;
    type Out = Option<V>;

    fn init(&self) -> Option<V> {
        None
    }

    #[inline]
    fn add(&self, acc: &mut Option<V>, value: &V) {
        match acc {
            Some(acc) => (self.0)(acc, value),
            None => *acc = Some(value.clone()),
        }
    }

    fn merge(&self, acc: &mut Option<V>, other: Option<V>) {
        if let Some(other) = other {
            self.add(acc, &other);
        }
    }

    fn finish(&self, acc: &Option<V>) -> Option<V> {
        acc.clone()
    }
}

/// A value that records are added to: made by [`fold`].
#[derive(Debug, Clone, Copy)]
pub struct Fold<Acc, F, M> {
    first: Acc,
    add: F,
    merge: M,
    acc: PhantomData<Acc>,
}

/// A value to begin with, a function that adds a record to it, and one that adds another such value (of a session that came later).
pub fn fold<V, Acc: Clone, F: Fn(&mut Acc, &V), M: Fn(&mut Acc, Acc)>(
    first: Acc,
    add: F,
    merge: M,
) -> Fold<Acc, F, M> {
    Fold { first, add, merge, acc: PhantomData }
}

impl<V, Acc: Clone, F: Fn(&mut Acc, &V), M: Fn(&mut Acc, Acc)> Aggregate<V> for Fold<Acc, F, M> {
    type Acc = Acc;
    type Out = Acc;

    fn init(&self) -> Acc {
        self.first.clone()
    }

    #[inline]
    fn add(&self, acc: &mut Acc, value: &V) {
        (self.add)(acc, value);
    }

    fn merge(&self, acc: &mut Acc, other: Acc) {
        (self.merge)(acc, other);
    }

    fn finish(&self, acc: &Acc) -> Acc {
        acc.clone()
    }
}
