//! A run from the first byte read to the last one written.

use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::schedule::fair_share;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian_examples::agree::{agree, all};
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::workers::Workers;
use aeolian_examples::{Error, Result, rss};
use serde::Serialize;

use crate::cells::blocks;
use crate::cli::{Options, Sampler};
use crate::gibbs::{Fit, Gibbs};
use crate::layout::Layout;
use crate::local::Local;
use crate::mixtures::Packing;
use crate::outputs::{Results, Targets};
use crate::read::Documents;
use crate::sampler::Priors;
use crate::topics::{Topic, entries, top};
use crate::{outputs, read, vocabulary};

/// Wall-clock seconds of rank 0, which waits for all ranks at the end of each stretch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    /// Reading the texts, or drawing them.
    pub(crate) read: f64,
    /// Numbering the words, dealing them out, counting the first topics.
    pub(crate) place: f64,
    pub(crate) sample: f64,
    pub(crate) per_iteration: f64,
    /// Within `sample`: the longest that a rank has waited for slices.
    pub(crate) waited: f64,
    /// From the joined world to the last result computed; writing it comes after.
    pub(crate) total: f64,
}

/// What `--json` prints, and the table shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) threads: usize,
    pub(crate) input: String,
    pub(crate) documents: u64,
    /// Those without words that were kept.
    pub(crate) empty_documents: u64,
    /// In the vocabulary.
    pub(crate) words: usize,
    pub(crate) tokens: u64,
    /// Words dropped: stop words, short and rare ones.
    pub(crate) dropped: u64,
    pub(crate) topics: u32,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) seed: u64,
    pub(crate) sampler: Sampler,
    pub(crate) blocks: usize,
    pub(crate) iterations: usize,
    /// log p(w, z) at the end.
    pub(crate) log_likelihood: f64,
    pub(crate) log_likelihood_per_token: f64,
    pub(crate) tokens_per_second: f64,
    /// Bytes of the word-topic table that ranks send in an iteration, all together (one rank: 0).
    pub(crate) rotated_bytes: u64,
    pub(crate) seconds: Seconds,
    /// The largest of all ranks.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) version: &'static str,
    /// By iteration.
    pub(crate) fit: Vec<Fit>,
    pub(crate) top: Vec<Topic>,
}

/// Finds topics as `options` say, writes and prints. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let Found { summary, targets, stopped } = find(world, options)?;
    let printed =
        if world.rank() == 0 { outputs::print(&summary, targets.as_ref(), options) } else { Ok(()) };
    agree(world, printed)?;
    if stopped {
        return Err(Error::Stopped {
            what: format!(
                "stopped on request after iteration {}; the results so far are written",
                summary.iterations
            ),
            help: "they are those of a run with so many --iterations".into(),
        });
    }
    Ok(())
}

/// What a run has led to, once its files are written.
pub(crate) struct Found {
    pub(crate) summary: Summary,
    /// The files; on rank 0.
    targets: Option<Targets>,
    /// Whether somebody asked the job to stop.
    stopped: bool,
}

/// Finds topics and writes the files. Collective.
pub(crate) fn find(world: &mut World, options: &Options) -> Result<Found> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    let threads = match options.threads {
        Some(threads) => threads,
        None => fair_share(world)?,
    };
    let workers = agree(world, Workers::new(threads))?;

    let progress = Progress::new("lda: read", mode).after(Duration::from_millis(500));
    let tick = |done, total| progress.tick(done, total, String::new);
    let (mut documents, sources) = read::read(world, &workers, options, &tick)?;
    let read_time = begin.elapsed();
    let targets = if world.rank() == 0 { outputs::check(options, &sources) } else { Ok(None) };
    let targets = agree(world, targets)?;

    let placing = Instant::now();
    let vocabulary = vocabulary::agree(world, &mut documents, options.min_count)?;
    let packing = Packing::new(options.topics);
    let fits = agree(world, check_lengths(&documents, packing, options.topics))?;
    let priors = Priors {
        topics: options.topics as usize,
        alpha: options.alpha,
        beta: options.beta,
        beta_sum: options.beta * vocabulary.words.len() as f64,
    };
    let layout = Layout::new(&vocabulary.counts, priors.topics, world.size() as usize, options.blocks);
    let counts = all(world, documents.names.len() as u64)?;
    let first = counts[..world.rank() as usize].iter().sum();
    let blocks = blocks(&documents, &layout, packing, priors.topics, first, options.seed);
    let mut sums = [documents.tokens.len() as u64, documents.dropped, fits];
    allreduce_slice(world, &mut sums, Sum)?;
    let [tokens, dropped, empty] = sums;
    let Documents { names, .. } = documents;
    let local = Local::new(&layout, &workers, blocks, priors, options.sampler, options.seed);
    let mut gibbs = Gibbs::new(world, local)?;
    let place_time = placing.elapsed();
    progress.finish(&format!(
        "{} documents, {tokens} tokens of {} words in {}",
        counts.iter().sum::<u64>(),
        vocabulary.words.len(),
        seconds(begin.elapsed())
    ));

    let sampling = Instant::now();
    gibbs.waited = Duration::ZERO;
    let progress = Progress::new("lda", mode);
    let (fit, stopped) = iterate(world, &mut gibbs, options, tokens, &progress)?;
    let sample_time = sampling.elapsed();
    let last = fit.last().copied().unwrap_or(Fit { iteration: 0, log_likelihood: f64::NAN });
    progress.finish(&format!(
        "{} after {} iterations in {}, log-likelihood {:.6e}",
        if stopped { "stopped on request" } else { "done" },
        last.iteration,
        seconds(sample_time),
        last.log_likelihood
    ));

    let mut largest = [gibbs.waited.as_micros() as u64, rss::peak()];
    allreduce_slice(world, &mut largest, Max)?;
    let (blocks, slices, totals) = gibbs.finish()?;
    let entries = entries(&layout, &slices);
    drop(slices);
    let top = top(world, &entries, &totals, &vocabulary, options.top)?;
    let done = last.iteration;
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        threads,
        input: options.input_name(),
        documents: counts.iter().sum(),
        empty_documents: empty,
        words: vocabulary.words.len(),
        tokens,
        dropped,
        topics: options.topics,
        alpha: options.alpha,
        beta: options.beta,
        seed: options.seed,
        sampler: options.sampler,
        blocks: options.blocks,
        iterations: done,
        log_likelihood: last.log_likelihood,
        log_likelihood_per_token: last.log_likelihood / tokens as f64,
        tokens_per_second: tokens as f64 * done as f64 / sample_time.as_secs_f64(),
        rotated_bytes: match world.size() {
            1 => 0,
            ranks => u64::from(ranks) * 8 * layout.elements() as u64,
        },
        seconds: Seconds {
            read: read_time.as_secs_f64(),
            place: place_time.as_secs_f64(),
            sample: sample_time.as_secs_f64(),
            per_iteration: sample_time.as_secs_f64() / done.max(1) as f64,
            waited: largest[0] as f64 / 1e6,
            total: begin.elapsed().as_secs_f64(),
        },
        peak_rss_bytes: largest[1],
        version: env!("CARGO_PKG_VERSION"),
        fit,
        top,
    };
    if outputs::wanted(options) {
        let results = Results {
            priors,
            vocabulary: &vocabulary,
            entries: &entries,
            totals: &totals,
            names: &names,
            blocks: &blocks,
        };
        outputs::write(world, targets.as_ref(), &results)?;
    }
    Ok(Found { summary, targets, stopped })
}

/// How many documents are empty; an error if one is too long to be counted.
fn check_lengths(documents: &Documents, packing: Packing, topics: u32) -> Result<u64> {
    let mut empty = 0;
    for (d, name) in documents.names.iter().enumerate() {
        let length = documents.range(d).len();
        empty += u64::from(length == 0);
        if length > packing.longest() {
            return Err(Error::data(
                name,
                format!("it has {length} tokens, but with {topics} topics at most {} fit", packing.longest()),
                "cut it into several documents (--documents lines), or ask for fewer topics",
            ));
        }
    }
    Ok(empty)
}

/// All iterations. Returns the likelihoods, and whether somebody asked to stop. Collective.
fn iterate(
    world: &mut World,
    gibbs: &mut Gibbs,
    options: &Options,
    tokens: u64,
    progress: &Progress,
) -> Result<(Vec<Fit>, bool)> {
    let mut fit = Vec::new();
    let mut stopped = false;
    for iteration in 1..=options.iterations {
        // All ranks decide alike, before the last iteration, so that its likelihood is known.
        let mut stop = [u64::from(world.stop_requested())];
        if iteration < options.iterations {
            allreduce_slice(world, &mut stop, Max)?;
            stopped = stop[0] > 0;
        }
        let last = stopped || iteration == options.iterations;
        let judge = last || (options.likelihood > 0 && iteration % options.likelihood == 0);
        if let Some(log_likelihood) = gibbs.iterate(world, iteration, judge)? {
            fit.push(Fit { iteration, log_likelihood });
        }
        progress.tick(iteration as u64, options.iterations as u64, || {
            let value = fit.last().map_or(f64::NAN, |f| f.log_likelihood / tokens as f64);
            format!("iteration {iteration} of {}  log-likelihood {value:.4} a token", options.iterations)
        });
        if last {
            break;
        }
    }
    Ok((fit, stopped))
}
