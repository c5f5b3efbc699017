//! A run from the first byte read to the last one written.

use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::schedule::fair_share;
use aeolian::harp::{Max, allreduce_slice};
use aeolian_examples::agree::{agree, all};
use aeolian_examples::matrix::block;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Result, rss};

use crate::cli::Options;
use crate::model::Shape;
use crate::outputs::{self, Directory};
use crate::place::place;
use crate::ratings::{HoldOut, Part};
use crate::report::{Seconds, Summary};
use crate::sgd::epochs;
use crate::{read, synthetic};

/// Factorises as `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    let threads = match options.threads {
        Some(threads) => threads,
        None => fair_share(world)?,
    };
    let workers = agree(world, Workers::new(threads))?;
    let directory = if world.rank() == 0 { Directory::check(options) } else { Ok(None) };
    let directory = agree(world, directory)?;

    let part = ratings(world, &workers, options, mode)?;
    let read_time = begin.elapsed();

    let building = Instant::now();
    let progress = Progress::new("mf: build", mode).after(Duration::from_millis(500));
    let shape = Shape::new(options.rank);
    let placed = place(world, &workers, part, shape, !options.no_bias, options.seed)?;
    // Its threads would only be in the way of the scheduler's.
    drop(workers);
    let totals = placed.totals;
    if totals.ratings == 0 {
        let what = match totals.held_out {
            0 => "there are no ratings in it".to_owned(),
            n => format!("all {n} ratings are held out: there is nothing to learn from"),
        };
        let help = "give more ratings, or a smaller --test";
        return Err(Error::data(options.input_name(), what, help));
    }
    let build_time = building.elapsed();
    progress.finish(&format!("{} users, {} items in {}", totals.users, totals.items, seconds(build_time)));

    let progress = Progress::new("mf", mode);
    let trained = epochs(world, &placed, options, threads, &progress)?;
    let done = trained.history.len();
    let updates = (totals.ratings * done as u64) as f64 / trained.time.as_secs_f64().max(f64::MIN_POSITIVE);
    progress.finish(&format!(
        "{done} epochs in {}, {:.2} million updates/s",
        seconds(trained.time),
        updates / 1e6
    ));

    let mut peak = [rss::peak()];
    allreduce_slice(world, &mut peak, Max)?;
    let last = trained.history.last();
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        threads,
        input: options.input_name(),
        users: totals.users,
        items: totals.items,
        ratings: totals.ratings,
        held_out: totals.held_out,
        cold: totals.cold,
        mean: totals.mean,
        factors: options.rank,
        epochs: done,
        learning_rate: options.learning_rate,
        regularisation: options.regularisation,
        biases: !options.no_bias,
        seed: options.seed,
        blocks: [placed.grid.rows, placed.grid.slices * placed.grid.cols],
        train_rmse: last.map_or(0.0, |e| e.train_rmse),
        test_rmse: last.and_then(|e| e.test_rmse),
        updates_per_second: updates,
        seconds: Seconds {
            read: read_time.as_secs_f64(),
            build: build_time.as_secs_f64(),
            train: trained.time.as_secs_f64(),
            per_epoch: trained.time.as_secs_f64() / done.max(1) as f64,
            total: begin.elapsed().as_secs_f64(),
        },
        peak_rss_bytes: peak[0],
        version: env!("CARGO_PKG_VERSION"),
        history: trained.history.clone(),
    };
    if options.output.is_some() {
        outputs::write(world, directory.as_ref(), &summary, shape, &placed, &trained)?;
    }
    let printed = if world.rank() == 0 { outputs::print(&summary, options) } else { Ok(()) };
    agree(world, printed)?;
    if trained.stopped {
        return Err(Error::Stopped {
            what: format!("stopped on request after epoch {done}; the model so far is written"),
            help: "run again with fewer --epochs if the error was small enough".into(),
        });
    }
    Ok(())
}

/// Reads or makes this rank's ratings. Collective.
fn ratings(world: &mut World, workers: &Workers, options: &Options, mode: Mode) -> Result<Part> {
    let begin = Instant::now();
    let progress = Progress::new("mf: read", mode).after(Duration::from_millis(500));
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let rule = HoldOut::share(options.held_out(), options.seed);
    let Some(input) = &options.input else {
        let made = synthetic::make(options, block(options.ratings, rank, size), rule, workers);
        return agree(world, made);
    };
    let mut part = Part::default();
    for (path, rule) in [(Some(input), rule), (options.test_file.as_ref(), HoldOut::All)] {
        let Some(path) = path else { continue };
        let tick = |done, total| progress.tick(done, total, String::new);
        let read = read::read(path, options.format(), rule, (rank, size), workers, &tick);
        let (piece, bytes) = agree(world, read)?;
        let lengths = all(world, bytes)?;
        if let Some(odd) = (0..size).find(|r| lengths[*r] != lengths[0]) {
            return Err(Error::data(
                path,
                format!("rank {odd} sees a file of {} bytes, but rank 0 one of {}", lengths[odd], lengths[0]),
                "every host must see the same file under this path, and nobody may write to it meanwhile",
            ));
        }
        let both = part.with(piece);
        part = agree(world, both)?;
    }
    progress.finish(&format!("in {}", seconds(begin.elapsed())));
    Ok(part)
}
