//! The threads inside a rank.

use std::ops::Range;
use std::sync::Mutex;

use crate::{Error, Result};

/// A fixed number of threads that split rows among them.
///
/// Rows are always split in the same way and results come back in the order of the rows, so that sums of floating
/// point numbers depend on the number of threads, never on who was faster.
pub struct Workers {
    pool: Option<rayon::ThreadPool>,
}

impl Workers {
    /// `threads` threads (at least 1). With one, everything runs on the caller's thread and none is started.
    pub fn new(threads: usize) -> Result<Self> {
        if threads <= 1 {
            return Ok(Workers { pool: None });
        }
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("worker-{i}"));
        let pool = pool.build().map_err(|e| Error::Os {
            what: format!("cannot start {threads} threads: {e}"),
            help: "ask for fewer with --threads, or raise the limit (ulimit -u, cgroup pids)".into(),
        })?;
        Ok(Workers { pool: Some(pool) })
    }

    /// How many threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Calls `work` on consecutive ranges that cover `0..n`, one per thread, and returns the results in their order.
    ///
    /// ```
    /// let workers = aeolian_examples::workers::Workers::new(3)?;
    /// let parts = workers.split(10, |range| range.sum::<usize>());
    /// assert_eq!(parts.iter().sum::<usize>(), 45);
    /// # Ok::<(), aeolian_examples::Error>(())
    /// ```
    pub fn split<R: Send>(&self, n: usize, work: impl Fn(Range<usize>) -> R + Sync + Send) -> Vec<R> {
        let parts = self.threads().min(n).max(1);
        self.each((0..parts).map(|i| n * i / parts..n * (i + 1) / parts).collect(), work)
    }

    /// Like [`split`](Self::split), each call with its rows of `data` (`width` elements a row) to change.
    pub fn split_mut<T: Send, R: Send>(
        &self,
        data: &mut [T],
        width: usize,
        work: impl Fn(Range<usize>, &mut [T]) -> R + Sync + Send,
    ) -> Vec<R> {
        let n = data.len() / width.max(1);
        let parts = self.threads().min(n).max(1);
        let mut pieces = Vec::with_capacity(parts);
        let mut rest = data;
        for i in 0..parts {
            let range = n * i / parts..n * (i + 1) / parts;
            let (head, tail) = rest.split_at_mut(range.len() * width);
            pieces.push((range, head));
            rest = tail;
        }
        self.each(pieces, |(range, piece)| work(range, piece))
    }

    /// Runs `work` where rayon's own functions use these threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            None => work(),
            Some(pool) => pool.install(work),
        }
    }

    /// Calls `work` for each of `items` on the pool and returns the results in their order.
    pub fn each<I: Send, R: Send>(&self, items: Vec<I>, work: impl Fn(I) -> R + Sync + Send) -> Vec<R> {
        let Some(pool) = &self.pool else { return items.into_iter().map(work).collect() };
        let places: Vec<_> = items.into_iter().map(|item| Mutex::new((Some(item), None))).collect();
        let one = |i: usize| {
            let item = places[i].lock().ok().and_then(|mut place| place.0.take());
            let result = item.map(&work);
            if let Ok(mut place) = places[i].lock() {
                place.1 = result;
            }
        };
        run(pool, places.len(), &one);
        places.into_iter().filter_map(|place| place.into_inner().ok()?.1).collect()
    }
}

/// Calls `one` with each number below `n`. (Whatever it does: rayon's iterators would be compiled once more for each closure, which was half of what took
/// time to compile of some programs.)
fn run(pool: &rayon::ThreadPool, n: usize, one: &(dyn Fn(usize) + Sync)) {
    pool.scope(|scope| (0..n).for_each(|i| scope.spawn(move |_| one(i))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_once_in_order() {
        for threads in [1, 2, 3, 8] {
            let workers = Workers::new(threads).unwrap();
            for n in [0, 1, 2, 7, 100] {
                let rows: Vec<usize> = workers.split(n, |r| r.collect::<Vec<_>>()).concat();
                assert_eq!(rows, (0..n).collect::<Vec<_>>());
                let mut data = vec![0; n * 3];
                workers.split_mut(&mut data, 3, |range, piece| {
                    for (row, out) in range.zip(piece.chunks_mut(3)) {
                        out.fill(row);
                    }
                });
                assert!(data.chunks(3).enumerate().all(|(i, c)| c == [i; 3]));
            }
        }
    }
}
