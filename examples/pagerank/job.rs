//! A run from the first byte read to the last one written.

use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::schedule::fair_share;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian_examples::agree::{agree, all};
use aeolian_examples::intern::intern;
use aeolian_examples::matrix::block;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Result, rss};
use serde::Serialize;

use crate::cli::Options;
use crate::graph::InEdges;
use crate::labels::Labels;
use crate::plan::{Plan, plan};
use crate::power::{Ranking, iterate};
use crate::rmat::Rmat;
use crate::route::route;
use crate::top::Vertex;
use crate::{outputs, read, top};

/// Wall-clock seconds of rank 0, which waits for all ranks at the end of each stretch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    /// Reading the edges (a random graph: 0).
    pub(crate) read: f64,
    /// Numbering the vertices, (drawing and) moving the edges, making the plan.
    pub(crate) build: f64,
    pub(crate) iterate: f64,
    pub(crate) per_iteration: f64,
    /// From the joined world to the last result computed; writing it comes after.
    pub(crate) total: f64,
}

/// What moves between ranks in an iteration.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Moved {
    /// `none` (one rank), `needed` or `whole`.
    pub(crate) way: &'static str,
    /// Values that move, of all ranks together.
    pub(crate) values: u64,
    /// Those that would if every rank got the whole vector.
    pub(crate) of: u64,
}

impl Moved {
    /// For the table.
    pub(crate) fn words(&self) -> String {
        let mib = self.values as f64 * 8.0 / f64::from(1 << 20);
        match self.way {
            "none" => "none, one rank has all".into(),
            "whole" => format!("the whole vector ({mib:.1} MiB an iteration)"),
            _ => format!(
                "needed values ({:.0} % of the vector, {mib:.1} MiB an iteration)",
                100.0 * self.values as f64 / self.of.max(1) as f64
            ),
        }
    }
}

/// What `--json` prints, and the table shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) threads: usize,
    pub(crate) input: String,
    pub(crate) vertices: u64,
    /// Without the duplicates.
    pub(crate) edges: u64,
    pub(crate) duplicates: u64,
    /// Vertices without out-edges.
    pub(crate) dangling: u64,
    pub(crate) damping: f64,
    pub(crate) tolerance: f64,
    pub(crate) iterations: usize,
    pub(crate) converged: bool,
    /// What the last iteration changed.
    pub(crate) change: f64,
    /// All ranks together: 1, up to rounding.
    pub(crate) sum: f64,
    pub(crate) exchange: Moved,
    pub(crate) seconds: Seconds,
    /// The largest of all ranks.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) version: &'static str,
    pub(crate) top: Vec<Vertex>,
}

/// This rank's part of the graph.
struct Part {
    labels: Labels,
    edges: InEdges,
    plan: Plan,
    /// Vertices of all ranks.
    n: u64,
}

/// Ranks as `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    let threads = match options.threads {
        Some(threads) => threads,
        None => fair_share(world)?,
    };
    let workers = agree(world, Workers::new(threads))?;
    let target = if world.rank() == 0 { outputs::check(options) } else { Ok(None) };
    let target = agree(world, target)?;

    let input = match options.scale {
        Some(_) => read::Part::default(),
        None => read_edges(world, &workers, options, mode)?,
    };
    let read_time = begin.elapsed();

    let building = Instant::now();
    let progress = Progress::new("pagerank: build", mode).after(Duration::from_millis(500));
    let part = build(world, &workers, options, input)?;
    let dangling = part.plan.out_degree.iter().filter(|d| **d == 0).count() as u64;
    let mut counts = [part.edges.sources.len() as u64, part.edges.duplicates, dangling];
    allreduce_slice(world, &mut counts, Sum)?;
    let build_time = building.elapsed();
    progress.finish(&format!("{} vertices, {} edges in {}", part.n, counts[0], seconds(build_time)));

    let iterating = Instant::now();
    let progress = Progress::new("pagerank", mode);
    let ranking = iterate(world, &workers, &part.edges, &part.plan, part.n, options, &progress)?;
    let iterate_time = iterating.elapsed();
    progress.finish(&ending(&ranking, iterate_time));

    let mut sum = [ranking.ranks.iter().sum::<f64>()];
    allreduce_slice(world, &mut sum, Sum)?;
    let first =
        top::top(world, &part.labels, &ranking.ranks, &part.edges, &part.plan.out_degree, options.top)?;
    let mut peak = [rss::peak()];
    allreduce_slice(world, &mut peak, Max)?;
    let way = match (world.size(), part.plan.whole) {
        (1, _) => "none",
        (_, true) => "whole",
        _ => "needed",
    };
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        threads,
        input: options.input_name(),
        vertices: part.n,
        edges: counts[0],
        duplicates: counts[1],
        dangling: counts[2],
        damping: options.damping,
        tolerance: options.tolerance,
        iterations: ranking.iterations,
        converged: ranking.converged,
        change: ranking.change,
        sum: sum[0],
        exchange: Moved { way, values: part.plan.moved, of: part.plan.all },
        seconds: Seconds {
            read: read_time.as_secs_f64(),
            build: build_time.as_secs_f64(),
            iterate: iterate_time.as_secs_f64(),
            per_iteration: iterate_time.as_secs_f64() / ranking.iterations.max(1) as f64,
            total: begin.elapsed().as_secs_f64(),
        },
        peak_rss_bytes: peak[0],
        version: env!("CARGO_PKG_VERSION"),
        top: first,
    };
    if outputs::wanted(options) {
        let written = outputs::ranks(world, target.as_ref(), &part.labels, &ranking.ranks);
        agree(world, written)?;
    }
    let printed = if world.rank() == 0 { outputs::print(&summary, target.as_ref(), options) } else { Ok(()) };
    agree(world, printed)?;
    if ranking.stopped {
        return Err(Error::Stopped {
            what: format!(
                "stopped on request after iteration {}; the results so far are written",
                ranking.iterations
            ),
            help: "run again with a larger --tolerance if the change was small enough".into(),
        });
    }
    Ok(())
}

/// Reads this rank's part and agrees with the others on the whole.
fn read_edges(world: &mut World, workers: &Workers, options: &Options, mode: Mode) -> Result<read::Part> {
    let begin = Instant::now();
    let progress = Progress::new("pagerank: read", mode).after(Duration::from_millis(500));
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let tick = |done, total| progress.tick(done, total, String::new);
    let part = agree(world, read::read(options, rank, size, workers, &tick))?;
    let lengths = all(world, part.bytes)?;
    if let Some(odd) = (0..size).find(|r| lengths[*r] != lengths[0]) {
        return Err(Error::data(
            options.input_name(),
            format!("rank {odd} sees a file of {} bytes, but rank 0 one of {}", lengths[odd], lengths[0]),
            "every host must see the same file under this path, and nobody may write to it meanwhile",
        ));
    }
    let edges: u64 = all(world, part.edges.len() as u64)?.iter().sum();
    if edges == 0 {
        let help = "give at least one line with SOURCE, a TAB and TARGET";
        return Err(Error::data(options.input_name(), "there are no edges in it", help));
    }
    progress.finish(&format!("{edges} edges in {}", seconds(begin.elapsed())));
    Ok(part)
}

/// Numbers the vertices, brings the edges to the owners of their targets, and plans the exchange. Collective.
fn build(world: &mut World, workers: &Workers, options: &Options, input: read::Part) -> Result<Part> {
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let (labels, first, edges) = match options.scale {
        Some(scale) => {
            let rmat = Rmat::new(scale, options.seed);
            let first: Vec<u64> = (0..=size).map(|r| block(rmat.vertices(), r, size).start).collect();
            let mine = block(options.drawn(), rank, size);
            let edge = |i: usize| rmat.edge(mine.start + i as u64);
            let edges = route(world, workers, &first, (mine.end - mine.start) as usize, edge)?;
            (Labels::Numbers(first[rank]), first, edges)
        }
        None => {
            let read::Part { names, edges, .. } = input;
            let interned = intern(world, &names, "vertices")?;
            let number = |i: u32| interned.numbers[i as usize];
            let edge = |i: usize| (number(edges[i][0]), number(edges[i][1]));
            let routed = route(world, workers, &interned.first, edges.len(), edge)?;
            (Labels::Text(interned.owned), interned.first, routed)
        }
    };
    let mut edges = InEdges::new(workers, (first[rank + 1] - first[rank]) as usize, edges);
    let plan = plan(world, workers, &first, &mut edges, options.exchange)?;
    Ok(Part { labels, edges, plan, n: first[size] })
}

fn ending(ranking: &Ranking, time: Duration) -> String {
    let how = match (ranking.converged, ranking.stopped) {
        (true, _) => "converged",
        (_, true) => "stopped on request",
        _ => "not converged yet",
    };
    format!(
        "{how} after {} iterations in {}, last change {:.2e}",
        ranking.iterations,
        seconds(time),
        ranking.change
    )
}
