//! Random blocks whose row and column are free.

use super::Next;
use crate::schedule::random::Random;

/// How many random pairs are tried before all free ones are looked through.
const TRIES: usize = 4;

/// A block among those that were given out least; if none of them is free, one that was given out at most `ahead` times more.
pub(super) struct Free {
    cols: usize,
    free_rows: Vec<usize>,
    free_cols: Vec<usize>,
    /// How many times each block was given out.
    given: Vec<u64>,
    /// The least of these, how many blocks have it, and how many of each row.
    least: u64,
    left: usize,
    left_of_row: Vec<usize>,
    ahead: u64,
    random: Random,
}

impl Free {
    pub(super) fn new(rows: usize, cols: usize, ahead: u64, random: Random) -> Free {
        Free {
            cols,
            free_rows: (0..rows).collect(),
            free_cols: (0..cols).collect(),
            given: vec![0; rows * cols],
            least: 0,
            left: rows * cols,
            left_of_row: vec![cols; rows],
            ahead,
            random,
        }
    }

    /// A random place in the lists of free rows and columns whose block was given out `times` times.
    fn find(&mut self, times: u64) -> Option<(usize, usize)> {
        let (rows, cols) = (self.free_rows.len(), self.free_cols.len());
        if rows == 0 || cols == 0 {
            return None;
        }
        let fits =
            |i: usize, j: usize| self.given[self.free_rows[i] * self.cols + self.free_cols[j]] == times;
        for _ in 0..TRIES {
            let (i, j) = (self.random.below(rows), self.random.below(cols));
            if fits(i, j) {
                return Some((i, j));
            }
        }
        let (first_row, first_col) = (self.random.below(rows), self.random.below(cols));
        (0..rows)
            .map(|i| (first_row + i) % rows)
            .filter(|&i| times > self.least || self.left_of_row[self.free_rows[i]] > 0)
            .flat_map(|i| (0..cols).map(move |j| (i, (first_col + j) % cols)))
            .find(|&(i, j)| fits(i, j))
    }

    /// All blocks were given out more than `least` times.
    fn next_level(&mut self) {
        self.least += 1;
        self.left_of_row.fill(0);
        for (at, &given) in self.given.iter().enumerate() {
            self.left_of_row[at / self.cols] += usize::from(given == self.least);
        }
        self.left = self.left_of_row.iter().sum();
    }
}

impl Next for Free {
    fn next(&mut self) -> Option<(usize, usize)> {
        let (i, j) = (self.least..=self.least + self.ahead).find_map(|times| self.find(times))?;
        let (row, col) = (self.free_rows.swap_remove(i), self.free_cols.swap_remove(j));
        let given = &mut self.given[row * self.cols + col];
        *given += 1;
        if *given == self.least + 1 {
            self.left -= 1;
            self.left_of_row[row] -= 1;
        }
        // Once more than one level is needed only after a level of which all were given out ahead.
        while self.left == 0 {
            self.next_level();
        }
        Some((row, col))
    }

    fn end(&mut self, row: usize, col: usize) {
        self.free_rows.push(row);
        self.free_cols.push(col);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_gives_each_once_an_epoch() {
        let mut free = Free::new(3, 4, 0, Random::new(1, 1));
        for epoch in 1..=3 {
            for _ in 0..12 {
                let (row, col) = free.next().unwrap();
                free.end(row, col);
            }
            assert_eq!(free.given, [epoch; 12]);
        }
    }

    #[test]
    fn a_slow_block_holds_others_up_only_when_they_are_two_ahead() {
        let mut free = Free::new(2, 2, 1, Random::new(5, 1));
        let slow = free.next().unwrap();
        let other = (1 - slow.0, 1 - slow.1);
        // Only the other corner is free: it is done twice, which is one ahead of those never done.
        for _ in 0..2 {
            assert_eq!(free.next(), Some(other));
            free.end(other.0, other.1);
        }
        assert_eq!(free.next(), None);
        free.end(slow.0, slow.1);
        assert!(![slow, other].contains(&free.next().unwrap()));
    }
}
