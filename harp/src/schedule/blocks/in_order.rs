//! Blocks in an order that only the seed decides.

use super::Next;
use crate::schedule::random::Random;

/// Rounds: of a square with as many rows and columns as there are of the more numerous splits, shuffled, each round is a diagonal
/// (which wraps around), without the blocks that do not exist. The blocks of a round share no row and no column.
///
/// They are given out strictly in this order, each as soon as the blocks before it in its row and in its column have ended. This
/// does more at once than waiting for a whole round, and each row and column sees the same blocks in the same order.
pub(super) struct InOrder {
    rows: usize,
    cols: usize,
    row_busy: Vec<bool>,
    col_busy: Vec<bool>,
    random: Random,
    /// The blocks of this epoch that are to come, the next one last.
    epoch: Vec<(usize, usize)>,
}

impl InOrder {
    pub(super) fn new(rows: usize, cols: usize, random: Random) -> InOrder {
        InOrder {
            rows,
            cols,
            row_busy: vec![false; rows],
            col_busy: vec![false; cols],
            random,
            epoch: Vec::new(),
        }
    }

    fn shuffle(&mut self) {
        let side = self.rows.max(self.cols);
        let (rows, cols) = (self.random.permutation(side), self.random.permutation(side));
        for round in self.random.permutation(side) {
            let diagonal = (0..side).map(|i| (rows[i], cols[(i + round) % side]));
            self.epoch.extend(diagonal.filter(|&(row, col)| row < self.rows && col < self.cols));
        }
    }
}

impl Next for InOrder {
    fn next(&mut self) -> Option<(usize, usize)> {
        if self.epoch.is_empty() {
            self.shuffle();
        }
        let &(row, col) = self.epoch.last()?;
        if self.row_busy[row] || self.col_busy[col] {
            return None;
        }
        (self.row_busy[row], self.col_busy[col]) = (true, true);
        self.epoch.pop()
    }

    fn end(&mut self, row: usize, col: usize) {
        (self.row_busy[row], self.col_busy[col]) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_each_block_once_and_rounds_share_nothing() {
        for (rows, cols) in [(1, 1), (1, 4), (3, 3), (5, 2), (4, 7)] {
            let mut order = InOrder::new(rows, cols, Random::new(9, 9));
            let mut seen = vec![0; rows * cols];
            for _ in 0..rows * cols {
                let (row, col) = order.next().unwrap();
                seen[row * cols + col] += 1;
                order.end(row, col);
            }
            assert_eq!(seen, vec![1; rows * cols]);
            assert!(order.epoch.is_empty());
            // Without ends, as many as one whole diagonal of the square can be under way.
            if rows == cols {
                assert_eq!((0..rows).filter(|_| order.next().is_some()).count(), rows);
                assert_eq!(order.next(), None);
            }
        }
    }
}
