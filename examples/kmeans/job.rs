//! A run from the first byte read to the last one written.

use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::schedule::fair_share;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian_examples::agree::{agree, all};
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Matrix, Result, input, rss};
use serde::Serialize;

use crate::cli::{Dtype, Options, is_keyword};
use crate::lloyd::{self, Fit, Limits};
use crate::models::{Kind, Own};
use crate::outputs::{self, Outputs};
use crate::{Number, digits, last, moments, start};

/// Wall-clock seconds of rank 0, which waits for all ranks at the end of each stretch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    pub(crate) read: f64,
    pub(crate) init: f64,
    pub(crate) iterate: f64,
    pub(crate) per_iteration: f64,
    /// From the joined world to the last result computed; writing it comes after.
    pub(crate) total: f64,
}

/// What `--json` prints, and the other outputs show.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) threads: usize,
    pub(crate) input: String,
    pub(crate) n: u64,
    pub(crate) d: usize,
    pub(crate) k: usize,
    pub(crate) dtype: &'static str,
    pub(crate) init: String,
    pub(crate) seed: u64,
    pub(crate) model: Kind,
    pub(crate) iterations: usize,
    pub(crate) converged: bool,
    pub(crate) inertia: f64,
    pub(crate) seconds: Seconds,
    /// The largest of all ranks.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) version: &'static str,
}

/// One row of the result.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// Coordinates of the centroid.
    pub(crate) centroid: Vec<f64>,
    pub(crate) points: u64,
    /// Sum of squared distances.
    pub(crate) squares: f64,
    /// Distance of the farthest point.
    pub(crate) radius: f64,
    /// Bundled data: the digit that most of the images show, and their share.
    pub(crate) digit: Option<(usize, f64)>,
}

/// All that rank 0 needs to tell the user.
pub(crate) struct Outcome {
    pub(crate) summary: Summary,
    pub(crate) clusters: Vec<Cluster>,
    /// Inertia at the start of each iteration.
    pub(crate) history: Vec<f64>,
    /// Column names, if the input has them.
    pub(crate) names: Option<Vec<String>>,
    /// Some of the points with their clusters, for the picture.
    pub(crate) sample: Vec<f64>,
}

/// Runs k-means as `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    match options.dtype {
        Dtype::F64 => run_as::<f64>(world, options),
        Dtype::F32 => run_as::<f32>(world, options),
    }
}

fn run_as<T: Number>(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    let threads = match options.threads {
        Some(threads) => threads,
        None => fair_share(world)?,
    };
    let workers = Workers::new(threads);
    let workers = agree(world, workers)?;
    let outputs = if world.rank() == 0 { Outputs::check(options) } else { Ok(Outputs::needs(options)) };
    let outputs = agree(world, outputs)?;

    let reading = Progress::new("kmeans: read", mode).after(Duration::from_millis(500));
    let (points, names) = read::<T>(world, &workers, options, &reading)?;
    let read_time = begin.elapsed();
    let (n, d) = (points.n_total, points.d());
    reading.finish(&format!("{n} points of {d} numbers in {}", seconds(read_time)));

    let beginning = Instant::now();
    let choosing = Progress::new("kmeans: init", mode).after(Duration::from_millis(500));
    let (k, from_file) = if is_keyword(&options.init) {
        (options.k.unwrap_or(10), None)
    } else {
        let wanted = options.k.or(options.input.is_none().then_some(10));
        let (centroids, k) = start::from_file(world, &workers, &options.init, wanted, d)?;
        (k, Some(centroids))
    };
    if k as u64 > n {
        let what = format!("{k} clusters of {n} points: every cluster needs a point");
        return Err(Error::data(input_name(options), what, format!("give --k {n} or less, or more points")));
    }
    if u32::try_from(k).is_err() {
        return Err(Error::usage(
            format!("--k {k}: clusters are numbered with 32 bits"),
            "give a smaller number",
        ));
    }
    if options.reproducible && options.model != Kind::Allreduce {
        return Err(Error::usage(
            format!(
                "--reproducible with --model {}: only allreduce adds up alike on any number of ranks",
                options.model.name()
            ),
            "leave one of them out",
        ));
    }
    let moments = moments::of(world, &workers, &points, &input_name(options), options.reproducible)?;
    let first = match from_file {
        Some(centroids) => centroids,
        None => start::centroids(world, &workers, &points, (&options.init, k, options.seed), &choosing)?,
    };
    let init_time = beginning.elapsed();
    choosing.finish("");

    let iterating = Instant::now();
    let progress = Progress::new("kmeans", mode);
    let limits = Limits { iterations: options.iterations, tolerance: options.tolerance };
    let own = Own { workers: &workers, points: &points, moments: &moments };
    let fit = lloyd::fit(world, own, first, options.model, &limits, &progress)?;
    let iterate_time = iterating.elapsed();
    let end = last::assign(world, &workers, &points, &fit.centroids, &moments, outputs.need_labels(d))?;
    progress.finish(&ending(&fit, end.inertia(), iterate_time));

    let majority = match options.input {
        None => {
            let truth = digits::truth();
            let mut counts = vec![0u64; k * 10];
            let mine = points.first_row as usize..points.first_row as usize + points.rows();
            let pairs = end.labels.iter().zip(truth.get(mine).unwrap_or_default());
            pairs.for_each(|(label, digit)| counts[*label as usize * 10 + usize::from(*digit)] += 1);
            allreduce_slice(world, &mut counts, Sum)?;
            Some(digits::majority(&counts))
        }
        Some(_) => None,
    };
    let clusters = (0..k)
        .map(|j| Cluster {
            centroid: fit.centroids[j * d..(j + 1) * d].to_vec(),
            points: end.counts[j] as u64,
            squares: end.squares[j],
            radius: end.farthest[j].sqrt(),
            digit: majority.as_ref().map(|m| m[j]),
        })
        .collect();
    let sample = outputs::sample(world, &points, &end.labels, outputs.need_labels(d))?;
    let mut peak = [rss::peak()];
    allreduce_slice(world, &mut peak, Max)?;
    let iterations = fit.history.len();
    let mut outcome = Outcome {
        summary: Summary {
            ranks: world.size(),
            nodes: world.layout().hosts.len(),
            transport: world.transport(),
            threads,
            input: input_name(options),
            n,
            d,
            k,
            dtype: T::NAME,
            init: options.init.clone(),
            seed: options.seed,
            model: options.model,
            iterations,
            converged: fit.converged,
            inertia: end.inertia(),
            seconds: Seconds {
                read: read_time.as_secs_f64(),
                init: init_time.as_secs_f64(),
                iterate: iterate_time.as_secs_f64(),
                per_iteration: iterate_time.as_secs_f64() / iterations.max(1) as f64,
                total: 0.0,
            },
            peak_rss_bytes: peak[0],
            version: env!("CARGO_PKG_VERSION"),
        },
        clusters,
        history: fit.history,
        names,
        sample,
    };
    let labels = outputs.labels(world, options.labels.is_some(), &end.labels);
    agree(world, labels)?;
    outcome.summary.seconds.total = begin.elapsed().as_secs_f64();
    let written = if world.rank() == 0 { outputs.results(&outcome, options) } else { Ok(()) };
    agree(world, written)?;
    if fit.stopped {
        return Err(Error::Stopped {
            what: format!("stopped on request after iteration {iterations}; the results so far are written"),
            help: "run again with --init and the centroids written so far to go on from here".into(),
        });
    }
    Ok(())
}

/// Reads this rank's part and agrees with the others on the whole.
fn read<T: Number>(
    world: &mut World,
    workers: &Workers,
    options: &Options,
    progress: &Progress,
) -> Result<(Matrix<T>, Option<Vec<String>>)> {
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let tick = |done, total| progress.tick(done, total, String::new);
    let part = match &options.input {
        Some(spec) => input::read::<T>(spec, rank, size, workers, &tick),
        None => input::read_text::<T>(&digits::source(), rank, size, workers, &tick),
    };
    let part = agree(world, part)?;
    let mut points = part.matrix;
    let rows = all(world, points.rows() as u64)?;
    let name = input_name(options);
    let lengths = all(world, part.text_bytes.unwrap_or(0))?;
    if let Some(odd) = (0..size).find(|r| lengths[*r] != lengths[0]) {
        return Err(Error::data(
            name,
            format!("rank {odd} sees a file of {} bytes, but rank 0 one of {}", lengths[odd], lengths[0]),
            "every host must see the same file under this path, and nobody may write to it meanwhile",
        ));
    }
    if part.text_bytes.is_some() {
        points.first_row = rows[..rank].iter().sum();
        points.n_total = rows.iter().sum();
    }
    let widths = all(world, points.d() as u64)?;
    let totals = all(world, points.n_total)?;
    if let Some(odd) = (0..size).find(|r| widths[*r] != widths[0] || totals[*r] != totals[0]) {
        return Err(Error::data(
            name,
            format!(
                "rank {odd} sees {} x {} numbers, but rank 0 {} x {}",
                totals[odd], widths[odd], totals[0], widths[0]
            ),
            "every host must see the same file under this path",
        ));
    }
    if points.n_total == 0 {
        return Err(Error::data(name, "there are no points in it", "give at least one row of numbers"));
    }
    Ok((points, part.names))
}

fn input_name(options: &Options) -> String {
    options.input.clone().unwrap_or_else(|| "digits (bundled)".into())
}

fn ending(fit: &Fit, inertia: f64, time: Duration) -> String {
    let how = match (fit.converged, fit.stopped) {
        (true, _) => "converged",
        (_, true) => "stopped on request",
        _ => "not converged yet",
    };
    let n = fit.history.len();
    format!("{how} after {n} iterations in {}, inertia {inertia:.6e}", seconds(time))
}
