//! The ratings that a rank has read or made, by names of its own numbering, and which of them are held out.

use aeolian_examples::names::{Names, hash};
use aeolian_examples::random::at;
use aeolian_examples::{Error, Result};

/// What draws which ratings are held out.
const STREAM: u64 = 0x7e57;

/// Which ratings are held out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HoldOut {
    /// All: those of a test file.
    All,
    /// Those whose number, drawn from the seed and the names of user and item, is below a limit. It depends on nothing else, so it
    /// is the same for any number of ranks; and ratings of one user and item are never on both sides.
    Below { limit: u64, seed: u64 },
}

impl HoldOut {
    /// A share of at least 0 and less than 1.
    pub(crate) fn share(share: f64, seed: u64) -> HoldOut {
        HoldOut::Below { limit: (share * 2f64.powi(64)) as u64, seed }
    }

    fn takes(self, user: &[u8], item: &[u8]) -> bool {
        match self {
            HoldOut::All => true,
            HoldOut::Below { limit: 0, .. } => false,
            HoldOut::Below { limit, seed } => at(at(seed, STREAM, 0), hash(user), hash(item)) < limit,
        }
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rating {
    /// By the numbers of [`Part::users`].
    pub(crate) user: u32,
    /// By the numbers of [`Part::items`].
    pub(crate) item: u32,
    pub(crate) value: f32,
    pub(crate) held_out: bool,
}

/// The ratings of a rank, or of a piece of its file.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) users: Names,
    pub(crate) items: Names,
    pub(crate) ratings: Vec<Rating>,
}

impl Part {
    pub(crate) fn add(&mut self, user: &[u8], item: &[u8], value: f32, hold_out: HoldOut) -> Result<()> {
        let held_out = hold_out.takes(user, item);
        let (user, item) = (intern(&mut self.users, user)?, intern(&mut self.items, item)?);
        self.ratings.push(Rating { user, item, value, held_out });
        Ok(())
    }

    /// The ratings of two files together.
    pub(crate) fn with(mut self, other: Part) -> Result<Part> {
        if self.ratings.is_empty() {
            return Ok(other);
        }
        self.append(&other)?;
        Ok(self)
    }

    /// Adds what a thread has read, which has numbers of its own.
    pub(crate) fn append(&mut self, piece: &Part) -> Result<()> {
        let users = piece.users.iter().map(|n| intern(&mut self.users, n)).collect::<Result<Vec<u32>>>()?;
        let items = piece.items.iter().map(|n| intern(&mut self.items, n)).collect::<Result<Vec<u32>>>()?;
        let own = |r: &Rating| Rating { user: users[r.user as usize], item: items[r.item as usize], ..*r };
        self.ratings.extend(piece.ratings.iter().map(own));
        Ok(())
    }
}

fn intern(names: &mut Names, name: &[u8]) -> Result<u32> {
    names.intern(name).ok_or_else(|| {
        let what = "there are more than 4 billion users or items, but they are numbered with 32 bits";
        Error::data("the input", what, "use a part of it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_was_asked_for_whatever_the_names() {
        for share in [0.0, 0.1, 0.5, 0.999] {
            let rule = HoldOut::share(share, 3);
            let pair =
                |i: u32| (format!("user {}", i / 100).into_bytes(), (i % 100).to_string().into_bytes());
            let taken = (0..10_000).map(pair).filter(|(u, i)| rule.takes(u, i)).count();
            // Five standard deviations at most; the sequence is fixed.
            assert!((taken as f64 - 1e4 * share).abs() <= 250.0, "{share}: {taken}");
        }
        assert!(HoldOut::All.takes(b"a", b"b"));
    }

    #[test]
    fn appended_pieces_are_one_part() {
        let rule = HoldOut::share(0.0, 1);
        let (mut a, mut b, mut whole) = (Part::default(), Part::default(), Part::default());
        for (i, (user, item)) in [("x", "1"), ("y", "2"), ("z", "1"), ("x", "3")].iter().enumerate() {
            let part = if i < 2 { &mut a } else { &mut b };
            part.add(user.as_bytes(), item.as_bytes(), i as f32, rule).unwrap();
            whole.add(user.as_bytes(), item.as_bytes(), i as f32, rule).unwrap();
        }
        a.append(&b).unwrap();
        assert_eq!(a.ratings, whole.ratings);
        assert!(a.users.iter().eq(whole.users.iter()) && a.items.iter().eq(whole.items.iter()));
    }
}
