//! The block scheduler: row splits x column splits, such that no two threads ever touch the same row or column split.

mod free;
mod in_order;

use super::task::{TaskError, Work, guarded, lock, wait};
use crate::error::{HarpError, Result};
use aeolian_net::NetError;
use free::Free;
use in_order::InOrder;
use std::sync::{Condvar, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long a [`BlockScheduler`] hands out blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Each block so many times.
    Epochs(u64),
    /// So many blocks in all. Counts of two blocks differ by at most one.
    Blocks(u64),
    /// For so long; blocks that were begun are ended. Counts of two blocks differ by at most two: where all blocks that were done
    /// least have a row or column that is busy, the next ones are taken.
    Time(Duration),
}

/// How many times each block was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockCounts {
    cols: usize,
    counts: Vec<u64>,
}

impl BlockCounts {
    fn new(rows: usize, cols: usize) -> BlockCounts {
        BlockCounts { cols, counts: vec![0; rows * cols] }
    }

    /// How many times a block was done; 0 for one that does not exist.
    pub fn of(&self, row: usize, col: usize) -> u64 {
        if col < self.cols { self.counts.get(row * self.cols + col).copied().unwrap_or(0) } else { 0 }
    }

    /// How many were done in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many times that block was done which was done least (0 without blocks).
    pub fn least(&self) -> u64 {
        self.counts.iter().min().copied().unwrap_or(0)
    }

    /// How many times that block was done which was done most (0 without blocks).
    pub fn most(&self) -> u64 {
        self.counts.iter().max().copied().unwrap_or(0)
    }
}

/// Harp's scheduler of model rotation (dymoro) for algorithms such as SGD of a matrix factorisation: work on block `(row, col)` changes
/// what belongs to its row split and to its column split, so that only blocks which share neither may be worked on at once.
///
/// [`run`](Self::run) takes a random pair of a free row and a free column whenever a thread has nothing to do.
/// [`run_in_order`](Self::run_in_order) gives the same bits for one seed, whatever the number of threads.
///
/// As many threads as there are are useful only if both kinds of splits are more: two to three times the threads is a good number.
///
/// ```
/// use aeolian_harp::schedule::{BlockScheduler, Until};
/// // Each column gets the sum of all rows, each row counts its blocks.
/// let (mut rows, mut cols) = ([(10, 0), (20, 0), (30, 0)], [0; 4]);
/// let mut scheduler = BlockScheduler::new(2, 7);
/// let counts = scheduler.run(&mut rows, &mut cols, Until::Epochs(1), |_, row, _, col| {
///     *col += row.0;
///     row.1 += 1;
///     Ok(())
/// })?;
/// assert_eq!(cols, [60; 4]);
/// assert_eq!(rows.map(|row| row.1), [4; 3]);
/// assert_eq!((counts.total(), counts.of(2, 3)), (12, 1));
/// # Ok::<(), aeolian_harp::HarpError>(())
/// ```
#[derive(Debug)]
pub struct BlockScheduler {
    threads: usize,
    seed: u64,
    /// Runs so far: each has random numbers of its own.
    runs: u64,
}

impl BlockScheduler {
    /// With so many threads (at least one, and never more than can be at work at once) and a seed for its choices.
    ///
    /// [`fair_share`](crate::schedule::fair_share) is a good number of threads.
    pub fn new(threads: usize, seed: u64) -> BlockScheduler {
        BlockScheduler { threads: threads.max(1), seed, runs: 0 }
    }

    /// Calls `work(row number, row split, column number, column split)` for blocks, each time of a random one among those that were
    /// done least and whose row and column are free. Who gets what first depends on how fast threads are: the fast way, not one
    /// that gives the same bits again (but with one thread).
    ///
    /// # Errors
    /// The first error or panic of `work`, with its block. No more blocks are begun then, and those that are under way are ended; what the
    /// splits have become is whatever `work` has made of them.
    pub fn run<R: Send, C: Send>(
        &mut self,
        rows: &mut [R],
        cols: &mut [C],
        until: Until,
        work: impl Fn(usize, &mut R, usize, &mut C) -> Result<(), TaskError> + Sync,
    ) -> Result<BlockCounts> {
        let blocks = (rows.len() * cols.len()) as u64;
        let (limit, deadline) = match until {
            Until::Epochs(epochs) => (epochs.saturating_mul(blocks), None),
            Until::Blocks(blocks) => (blocks, None),
            // A time that no clock can tell is for ever.
            Until::Time(time) => (u64::MAX, Instant::now().checked_add(time)),
        };
        let ahead = u64::from(matches!(until, Until::Time(_)));
        let next = Free::new(rows.len(), cols.len(), ahead, self.random());
        hand_out(self.threads, rows, cols, limit, deadline, next, work)
    }

    /// As [`run`](Self::run), with the blocks of each row and of each column in an order that depends on the seed and on how many runs
    /// there were before: rounds of the diagonals of a shuffled square. What becomes of the splits is the same, bit by bit,
    /// for any number of threads, if `work` depends on nothing but its arguments.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`HarpError::Usage`] for [`Until::Time`], which cannot be the same twice.
    ///
    /// ```
    /// use aeolian_harp::schedule::{BlockScheduler, Until};
    /// let with = |threads| {
    ///     let (mut rows, mut cols) = ([1.0; 5], [0.5; 3]);
    ///     BlockScheduler::new(threads, 42).run_in_order(&mut rows, &mut cols, Until::Epochs(2), |r, row, c, col| {
    ///         *row += *col / (1.0 + c as f64);
    ///         *col = (*col + *row).sin() * r as f64;
    ///         Ok(())
    ///     })?;
    ///     Ok::<_, aeolian_harp::HarpError>((rows, cols))
    /// };
    /// assert_eq!(with(1)?, with(3)?);
    /// # Ok::<(), aeolian_harp::HarpError>(())
    /// ```
    pub fn run_in_order<R: Send, C: Send>(
        &mut self,
        rows: &mut [R],
        cols: &mut [C],
        until: Until,
        work: impl Fn(usize, &mut R, usize, &mut C) -> Result<(), TaskError> + Sync,
    ) -> Result<BlockCounts> {
        let limit = match until {
            Until::Epochs(epochs) => epochs.saturating_mul((rows.len() * cols.len()) as u64),
            Until::Blocks(blocks) => blocks,
            Until::Time(_) => {
                return Err(HarpError::Usage(
                    "blocks in order until a time: bound their number, or use run, which promises no order"
                        .into(),
                ));
            }
        };
        let next = InOrder::new(rows.len(), cols.len(), self.random());
        hand_out(self.threads, rows, cols, limit, None, next, work)
    }

    fn random(&mut self) -> super::random::Random {
        self.runs += 1;
        super::random::Random::new(self.seed, self.runs)
    }
}

/// Which block comes next.
trait Next {
    /// One whose row and column are free, which they then are not; `None` if a block must end first. With no block under way
    /// there is always one.
    fn next(&mut self) -> Option<(usize, usize)>;

    /// A block that was given out has ended.
    fn end(&mut self, row: usize, col: usize);
}

struct State<'a, R, C, N> {
    next: N,
    /// The splits, but those that are given out.
    rows: Vec<Option<&'a mut R>>,
    cols: Vec<Option<&'a mut C>>,
    left: u64,
    counts: BlockCounts,
    error: Option<HarpError>,
}

/// Gives blocks to threads until `limit` are given out, or time is over.
fn hand_out<R: Send, C: Send>(
    threads: usize,
    rows: &mut [R],
    cols: &mut [C],
    limit: u64,
    deadline: Option<Instant>,
    next: impl Next + Send,
    work: impl Fn(usize, &mut R, usize, &mut C) -> Result<(), TaskError> + Sync,
) -> Result<BlockCounts> {
    let counts = BlockCounts::new(rows.len(), cols.len());
    let useful = threads.min(rows.len()).min(cols.len());
    if useful == 0 {
        return Ok(counts);
    }
    let state = Mutex::new(State {
        next,
        rows: rows.iter_mut().map(Some).collect(),
        cols: cols.iter_mut().map(Some).collect(),
        left: limit,
        counts,
        error: None,
    });
    let ended = Condvar::new();
    std::thread::scope(|scope| {
        // This thread is one of them.
        for i in 1..useful {
            let thread = Builder::new()
                .name(format!("block-{i}"))
                .spawn_scoped(scope, || worker(&state, &ended, deadline, &work));
            if let Err(e) = thread {
                let mut state = lock(&state);
                state.left = 0;
                state.error = Some(NetError::os(format!("cannot start {useful} threads"))(e).into());
                break;
            }
        }
        worker(&state, &ended, deadline, &work);
    });
    let state = state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    state.error.map_or(Ok(state.counts), Err)
}

fn worker<R, C, N: Next>(
    state: &Mutex<State<'_, R, C, N>>,
    ended: &Condvar,
    deadline: Option<Instant>,
    work: &(impl Fn(usize, &mut R, usize, &mut C) -> Result<(), TaskError> + Sync),
) {
    let mut guard = lock(state);
    loop {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            guard.left = 0;
        }
        if guard.left == 0 {
            return;
        }
        let Some((row, col)) = guard.next.next() else {
            guard = wait(ended, guard);
            continue;
        };
        let (r, c) = (guard.rows[row].take(), guard.cols[col].take());
        guard.left -= 1;
        drop(guard);
        let outcome = match (r, c) {
            (Some(r), Some(c)) => {
                let outcome = guarded(Work::Block { row, col }, || work(row, r, col, c));
                guard = lock(state);
                (guard.rows[row], guard.cols[col]) = (Some(r), Some(c));
                outcome
            }
            _ => {
                guard = lock(state);
                Err(NetError::Internal(format!("block ({row}, {col}) was given out twice")).into())
            }
        };
        guard.next.end(row, col);
        match outcome {
            Ok(()) => {
                let at = row * guard.counts.cols + col;
                guard.counts.counts[at] += 1;
            }
            Err(e) => {
                guard.left = 0;
                guard.error.get_or_insert(e);
            }
        }
        // One row and one column are free: that may let two threads go on.
        ended.notify_all();
    }
}
