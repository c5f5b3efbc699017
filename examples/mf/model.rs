//! Factors and biases of users or items.

use std::ops::Range;

use aeolian::harp::Array;
use aeolian_examples::names::hash;
use aeolian_examples::random::at;

use crate::synthetic::normal;

/// Deviation of the first factors (that of Surprise's SVD).
const DEVIATION: f64 = 0.1;

/// How rows lie in an array: the factors of all rows, each padded with zeros to a whole number of [`LANES`](Shape::LANES), then a bias
/// each. Padding stays 0 in all updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Factors of a row.
    pub(crate) factors: usize,
    /// Numbers that they take.
    pub(crate) width: usize,
}

impl Shape {
    /// Numbers in a vector register of AVX2; a loop over whole ones has no end to treat otherwise.
    pub(crate) const LANES: usize = 8;

    pub(crate) fn new(factors: usize) -> Shape {
        Shape { factors, width: factors.next_multiple_of(Shape::LANES) }
    }

    /// Rows in an array of so many numbers.
    pub(crate) fn rows(self, len: usize) -> usize {
        len / (self.width + 1)
    }

    /// An array of rows.
    pub(crate) fn zeroed(self, rows: usize) -> Array<f32> {
        Array::zeroed(rows * (self.width + 1))
    }

    /// Factors, with their padding, and biases.
    pub(crate) fn parts(self, numbers: &mut [f32]) -> (&mut [f32], &mut [f32]) {
        let rows = self.rows(numbers.len());
        numbers.split_at_mut(rows * self.width)
    }

    /// Where the factors of a row are, without padding.
    pub(crate) fn row(self, row: usize) -> Range<usize> {
        row * self.width..row * self.width + self.factors
    }

    /// Where the bias of a row is in an array of so many numbers.
    pub(crate) fn bias(self, len: usize, row: usize) -> usize {
        self.rows(len) * self.width + row
    }
}

/// What decides the first factors: the seed and the row's name, so that they are the same for any number of ranks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct First {
    seed: u64,
    /// What they are about.
    centre: f64,
}

impl First {
    /// Of users.
    pub(crate) const USERS: u64 = 1;
    /// Of items.
    pub(crate) const ITEMS: u64 = 2;

    pub(crate) fn new(seed: u64, side: u64, centre: f64) -> First {
        First { seed: at(seed, 0xfac7, side), centre }
    }

    /// Fills in the factors of a row that has ratings.
    pub(crate) fn fill(self, name: &[u8], factors: &mut [f32]) {
        let name = hash(name);
        for (factor, f) in factors.iter_mut().zip(0..) {
            *factor = (self.centre + DEVIATION * normal(at(self.seed, name, f))) as f32;
        }
    }
}
