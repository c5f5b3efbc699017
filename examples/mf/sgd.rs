//! The epochs. Users stay where they are; the slices of items go round the ranks, one on its way while the other is computed on.
//! Inside a rank, no two threads work on the same split of users or of items.

use aeolian::World;
use aeolian::harp::schedule::{BlockScheduler, RingOrder, Rotator, Until, overlap};
use aeolian::harp::{Array, Sum, Table, allreduce_slice};
use aeolian_examples::progress::Progress;
use aeolian_examples::{Error, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

use crate::blocks::{Blocks, Entry, Grid};
use crate::cli::Options;
use crate::kernel::{Rows, Steps, squares, train};
use crate::model::{First, Shape};
use crate::place::{Owned, Placed, SLICES};

/// What became of an epoch: root mean square errors.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Epoch {
    pub(crate) epoch: u32,
    /// Of the ratings trained on, each just before its update.
    pub(crate) train_rmse: f64,
    /// Of those held out, after the epoch, if they were looked at.
    pub(crate) test_rmse: Option<f64>,
}

/// What the epochs led to.
pub(crate) struct Trained {
    /// This rank's users, by split.
    pub(crate) users: Vec<Array<f32>>,
    /// This rank's items, by split.
    pub(crate) items: Vec<Array<f32>>,
    pub(crate) history: Vec<Epoch>,
    /// Time in which updates were made.
    pub(crate) time: Duration,
    /// Whether somebody asked the job to stop.
    pub(crate) stopped: bool,
}

/// A split of this rank's users, and what their ratings' errors add up to in a pass. The blocks of a split come in the same order in
/// every run, so that the sum is the same.
struct Split {
    numbers: Array<f32>,
    squares: f64,
}

/// What a rank has while it trains.
struct Trainer {
    shape: Shape,
    grid: Grid,
    users: Vec<Split>,
    rotator: Rotator<f32, Sum>,
    scheduler: BlockScheduler,
}

impl Trainer {
    fn new(world: &mut World, placed: &Placed, options: &Options, threads: usize) -> Result<Trainer> {
        let (shape, grid) = (Shape::new(options.rank), placed.grid);
        // Without mean and biases, products of factors have to be about the mean from the beginning.
        let centre = match options.no_bias {
            true => (placed.totals.true_mean.abs() / options.rank as f64).sqrt(),
            false => 0.0,
        };
        let first = |side: u64, centre: f64| First::new(options.seed, side, centre);
        let users = splits(shape, &placed.users, 0, first(First::USERS, centre));
        let users = users.into_iter().map(|numbers| Split { numbers, squares: 0.0 }).collect();
        let first_split = world.rank() * (SLICES * grid.cols) as u32;
        let signed = centre * placed.totals.true_mean.signum();
        let mut items = splits(shape, &placed.items, first_split, first(First::ITEMS, signed)).into_iter();
        let mut slices = Vec::with_capacity(SLICES);
        for slice in 0..SLICES {
            let mut table = Table::<f32, Sum>::new(Sum);
            for (split, id) in items.by_ref().take(grid.cols).zip((slice * grid.cols) as u64..) {
                table.add(u64::from(first_split) + id, split)?;
            }
            slices.push(table);
        }
        let order = RingOrder::Random { seed: options.seed };
        let scheduler = BlockScheduler::new(threads, options.seed);
        Ok(Trainer { shape, grid, users, rotator: Rotator::new(world, slices, order)?, scheduler })
    }

    /// Takes all items past the users of this rank, and returns the sum of what `work` says of the blocks here. Collective.
    fn pass(
        &mut self,
        world: &mut World,
        ratings: &Blocks,
        work: impl Fn(Rows<'_>, Rows<'_>, &[Entry]) -> f64 + Sync,
    ) -> Result<f64> {
        let (shape, grid) = (self.shape, self.grid);
        for _ in 0..world.size() {
            for slice in 0..self.rotator.slices() {
                let mut table = self.rotator.get(slice)?;
                let number = self.rotator.home(slice)? as usize * SLICES + slice;
                let mut items: Vec<&mut [f32]> = table.iter_mut().map(|(_, split)| &mut split[..]).collect();
                let (users, scheduler) = (&mut self.users, &mut self.scheduler);
                let mut compute = || {
                    scheduler.run_in_order(users, &mut items, Until::Epochs(1), |row, users, col, items| {
                        let block = ratings.get(grid, number, row, col);
                        let rows = Rows::new(shape, &mut users.numbers);
                        users.squares += work(rows, Rows::new(shape, items), block);
                        Ok(())
                    })
                };
                if world.size() == 1 {
                    compute()?;
                } else {
                    overlap(world, || Ok(compute()?))?;
                }
                self.rotator.rotate(slice, table)?;
            }
        }
        Ok(self.users.iter_mut().map(|split| std::mem::take(&mut split.squares)).sum())
    }
}

/// Rows of users or items by split, with their first factors. What has no ratings to train on stays 0: it is predicted by the mean
/// and the other side's bias.
fn splits(shape: Shape, owned: &Owned, first_split: u32, first: First) -> Vec<Array<f32>> {
    let mut splits: Vec<Array<f32>> = owned.cut.sizes.iter().map(|rows| shape.zeroed(*rows)).collect();
    for (i, name) in owned.names.iter().enumerate().filter(|(i, _)| owned.ratings[*i] > 0) {
        let split = &mut splits[(owned.cut.split[i] - first_split) as usize];
        first.fill(name, &mut split[shape.row(owned.cut.place[i] as usize)]);
    }
    splits
}

/// Trains as `options` say. Collective.
pub(crate) fn epochs(
    world: &mut World,
    placed: &Placed,
    options: &Options,
    threads: usize,
    progress: &Progress,
) -> Result<Trained> {
    let mut trainer = Trainer::new(world, placed, options, threads)?;
    let steps = Steps::new(options.learning_rate, options.regularisation, !options.no_bias);
    let (shape, totals) = (trainer.shape, placed.totals);
    let mut history = Vec::new();
    let (mut time, mut stopped) = (Duration::ZERO, false);
    for epoch in 1..=options.epochs {
        let begin = Instant::now();
        let work = |u: Rows<'_>, i: Rows<'_>, block: &[Entry]| train(shape, steps, u, i, block);
        let mine = trainer.pass(world, &placed.train, work)?;
        let mut sums = [mine, f64::from(u8::from(world.stop_requested()))];
        allreduce_slice(world, &mut sums, Sum)?;
        time += begin.elapsed();
        stopped = sums[1] > 0.0 && epoch < options.epochs;
        let last = stopped || epoch == options.epochs;
        let wanted = last || options.test_every.is_some_and(|n| epoch.is_multiple_of(n));
        let test_rmse = match wanted && totals.held_out > 0 {
            true => {
                let work = |u: Rows<'_>, i: Rows<'_>, block: &[Entry]| squares(shape, u, i, block);
                let mut sum = [trainer.pass(world, &placed.test, work)?];
                allreduce_slice(world, &mut sum, Sum)?;
                Some((sum[0] / totals.held_out as f64).sqrt())
            }
            false => None,
        };
        let train_rmse = (sums[0] / totals.ratings as f64).sqrt();
        // The sums are the same on all ranks, so all fail here together.
        if !train_rmse.is_finite() || test_rmse.is_some_and(|rmse| !rmse.is_finite()) {
            let what = format!("the factors have grown beyond all bounds in epoch {epoch}");
            let help = "try a tenth of --learning-rate, or bring the ratings to a scale such as 0 to 5";
            return Err(Error::data(options.input_name(), what, help));
        }
        progress.tick(u64::from(epoch), u64::from(options.epochs), || {
            let held_out = test_rmse.map_or_else(String::new, |rmse| format!(", {rmse:.4} held out"));
            format!("epoch {epoch} of {}  RMSE {train_rmse:.4}{held_out}", options.epochs)
        });
        history.push(Epoch { epoch, train_rmse, test_rmse });
        if last {
            break;
        }
    }
    // Each slice has been round all ranks some times: they are at home.
    let slices = trainer.rotator.stop()?;
    let split = |(mut table, slice): (Table<f32, Sum>, usize)| {
        let first = (world.rank() as usize * SLICES + slice) * placed.grid.cols;
        let splits = (first..first + placed.grid.cols).map(move |id| table.remove(id as u64));
        splits.map(|split| split.unwrap_or_else(|| Array::zeroed(0))).collect::<Vec<_>>()
    };
    let items = slices.into_iter().zip(0..).flat_map(split).collect();
    let users = trainer.users.into_iter().map(|split| split.numbers).collect();
    Ok(Trained { users, items, history, time, stopped })
}
