//! What joins are made of: [`Joiner`] and [`JoinKind`], and how the two sides of a part are matched.
//!
//! * [`hash`]: a table of the smaller side, which the other one is looked up in. Sides that are too large for that are cut by other bits
//!   of the hash (*grace* hashing: Kitsuregawa, Tanaka, Moto-oka, *Application of hash to data base machine and its architecture*, 1983).
//! * [`merge`]: both sides sorted, and walked along together. This takes sides of any size, and keys with any number of rows.
//! * [`share`]: what one rank has too much of is shared with others.
//! * [`small`]: a right side that is small enough to go to all targets.

pub(crate) mod hash;
pub(crate) mod merge;
pub(crate) mod share;
pub(crate) mod small;

use crate::record::Record;

/// Which rows a join gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// Each pair of a left and a right row that match.
    Inner,
    /// These, and left rows that match none.
    Left,
    /// These, and right rows that match none.
    Right,
    /// These, and rows of both sides that match none.
    Full,
    /// Left rows that match any, once.
    Semi,
    /// Left rows that match none.
    Anti,
}

/// Makes what a join gives.
///
/// A closure is one: of a key, the left row and the right row, of which one is missing where nothing matches (and in semi and anti joins
/// the right one always). With [`Where`], rows must also match by more than their keys.
pub trait Joiner<K, L, R> {
    /// What is made.
    type Output: Record;

    /// Of two rows that match, or one that none does.
    fn join(&mut self, key: &K, left: Option<&L>, right: Option<&R>) -> Self::Output;

    /// Whether two rows with this key match.
    fn matches(&mut self, key: &K, left: &L, right: &R) -> bool {
        let _ = (key, left, right);
        true
    }
}

impl<K, L, R, O: Record, F: FnMut(&K, Option<&L>, Option<&R>) -> O> Joiner<K, L, R> for F {
    type Output = O;

    #[inline]
    fn join(&mut self, key: &K, left: Option<&L>, right: Option<&R>) -> O {
        self(key, left, right)
    }
}

/// A [`Joiner`] with a predicate: rows match if their keys are the same and the predicate, the first, says so of key, left and right. The
/// second makes what is given.
#[derive(Debug, Clone, Copy)]
pub struct Where<P, F>(pub P, pub F);

impl<K, L, R, O, P, F> Joiner<K, L, R> for Where<P, F>
where
    O: Record,
    P: FnMut(&K, &L, &R) -> bool,
    F: FnMut(&K, Option<&L>, Option<&R>) -> O,
{
    type Output = O;

    fn join(&mut self, key: &K, left: Option<&L>, right: Option<&R>) -> O {
        (self.1)(key, left, right)
    }

    fn matches(&mut self, key: &K, left: &L, right: &R) -> bool {
        (self.0)(key, left, right)
    }
}

/// What is given of the rows of the two sides: those that are walked through, and those that are held meanwhile.
#[derive(Debug, Clone, Copy)]
struct Given {
    pairs: bool,
    /// Of the side that is walked through: rows that match none, rows that match any.
    walked_alone: bool,
    walked_once: bool,
    held_alone: bool,
    held_once: bool,
}

impl JoinKind {
    /// Whether what is given is known where the left rows are: so right ones may go to all targets.
    pub(crate) fn goes_by_left(self) -> bool {
        !matches!(self, JoinKind::Right | JoinKind::Full)
    }

    /// If the left side is walked through, or else the right one.
    fn given(self, left_is_walked: bool) -> Given {
        use JoinKind::{Anti, Full, Inner, Left, Right, Semi};
        let left_alone = matches!(self, Left | Full | Anti);
        let right_alone = matches!(self, Right | Full);
        let left_once = self == Semi;
        let (walked_alone, held_alone, walked_once, held_once) = match left_is_walked {
            true => (left_alone, right_alone, left_once, false),
            false => (right_alone, left_alone, false, left_once),
        };
        let pairs = matches!(self, Inner | Left | Right | Full);
        Given { pairs, walked_alone, walked_once, held_alone, held_once }
    }
}
