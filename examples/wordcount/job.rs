//! A run from the first byte read to the last one written.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian::net::bytes::Bytes;
use aeolian::ops::{Batch, Dataflow, Insert, KeyedReduce, LogicalPlan, Operator, taking};
use aeolian_examples::agree::agree;
use aeolian_examples::output::Target;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::stop::{insert, listen, not_stopped, until};
use aeolian_examples::summary::plural;
use aeolian_examples::{Error, Result, rss};
use serde::Serialize;

use crate::classify::Level;
use crate::cli::{Options, Words};
use crate::files::Files;
use crate::outputs::{self, Top};
use crate::pieces::Pieces;
use crate::rounds;
use crate::sorter::{Row, Sorter};
use crate::table::{Counted, Table};
use crate::word::Word;

/// Wall-clock seconds, each of the rank that took longest: a stretch ends when the last rank is through with it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    /// Finding the files; reading and counting what each rank reads.
    pub(crate) count: f64,
    /// Bringing the counts of a word together.
    pub(crate) reduce: f64,
    /// Sorting, and writing the file.
    pub(crate) write: f64,
    /// From the joined world on: the sum of these.
    pub(crate) total: f64,
}

impl Seconds {
    /// Of the latest ends of the stretches on all ranks, in microseconds.
    fn new([counted, reduced, written]: [u64; 3]) -> Seconds {
        let seconds = |from, to: u64| to.saturating_sub(from) as f64 / 1e6;
        let [count, reduce, write] =
            [seconds(0, counted), seconds(counted, reduced), seconds(reduced, written)];
        Seconds { count, reduce, write, total: count + reduce + write }
    }
}

/// What `--json` prints, and the table shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) input: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) word_is: Words,
    pub(crate) ignore_case: bool,
    /// All words.
    pub(crate) words: u64,
    /// Each counted once.
    pub(crate) distinct: u64,
    /// Bytes that went to disk for lack of memory, of all ranks together.
    pub(crate) spilled_bytes: u64,
    pub(crate) seconds: Seconds,
    /// The largest of all ranks.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) version: &'static str,
    pub(crate) top: Vec<Top>,
}

/// What a rank has when all words are where they belong.
struct Done {
    sorter: Sorter,
    words: u64,
    /// When all that was read was counted.
    counted: Duration,
}

/// Counts words as `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    listen(world)?;
    if options.input.is_empty()
        && let Some(output) = outputs::output(options)
    {
        Progress::new("wordcount", mode).finish(&format!(
            "no --input: counts {}, writes {} (and replaces it)",
            options.input_name(),
            output.display()
        ));
    }
    let (summary, target) = work(world, options, mode)?;
    let printed = if world.rank() == 0 { outputs::print(&summary, target.as_ref(), options) } else { Ok(()) };
    agree(world, printed)
}

/// All but what is printed at the end. Collective; only rank 0 has a target.
pub(crate) fn work(world: &mut World, options: &Options, mode: Mode) -> Result<(Summary, Option<Target>)> {
    let begin = Instant::now();
    let files = Files::list(world, options)?;
    let target = if world.rank() == 0 { outputs::check(options, &files) } else { Ok(None) };
    let target = agree(world, target)?;
    let flow = options.flow.dataflow(world, "wordcount", mode);
    let flow = agree(world, flow)?;

    let done = count(world, options, &flow, &files, (begin, mode))?;
    let reduced = begin.elapsed();

    let distinct = done.sorter.distinct;
    let (top, samples, sorted) = done.sorter.finish()?;
    let mut top = rounds::all_rows(world, top)?;
    top.sort();
    top.truncate(options.top);
    if outputs::wanted(options) {
        let progress = Progress::new("wordcount: write", mode).after(Duration::from_millis(500));
        let written =
            rounds::write(world, target.as_ref(), samples, sorted, flow.memory().limit(), &progress);
        progress.finish("");
        agree(world, written)?;
    }
    let spilled = flow.spill().report().bytes_written;
    let mut sums = [done.words, distinct, spilled];
    allreduce_slice(world, &mut sums, Sum)?;
    let [counted, reduced, written] =
        [done.counted, reduced, begin.elapsed()].map(|time| time.as_micros() as u64);
    let mut most = [rss::peak(), counted, reduced, written];
    allreduce_slice(world, &mut most, Max)?;
    let [peak_rss_bytes, ends @ ..] = most;
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        input: options.input_name(),
        files: files.many(),
        bytes: files.bytes,
        word_is: options.words,
        ignore_case: options.ignore_case,
        words: sums[0],
        distinct: sums[1],
        spilled_bytes: sums[2],
        seconds: Seconds::new(ends),
        peak_rss_bytes,
        version: env!("CARGO_PKG_VERSION"),
        top: top.iter().map(Top::new).collect(),
    };
    Ok((summary, target))
}

/// Counts this rank's words and brings each to the rank that it belongs to. Collective.
fn count(
    world: &mut World,
    options: &Options,
    flow: &Dataflow,
    files: &Files,
    (begin, mode): (Instant, Mode),
) -> Result<Done> {
    let progress = Progress::new("wordcount", mode).after(Duration::from_millis(500));
    let rank = world.rank();
    let (bytes, parts) = files.part(rank, world.size());
    let mut sorter = Sorter::new(flow, options.top, outputs::wanted(options));
    // A receiver cannot fail: what went wrong is told when the operator is complete.
    let kept = RefCell::new(Ok(()));
    let came = Cell::new(0);
    let take = taking(|_, batch: Batch<(Word, u64)>| {
        let mut kept = kept.borrow_mut();
        if kept.is_ok() {
            *kept = batch.into_iter().try_for_each(|(word, count)| sorter.push(Row { count, word }));
            came.set(sorter.distinct);
        }
    });
    let plan = LogicalPlan::each_rank(world);
    let mut op = KeyedReduce::new(flow, &plan, |count: &mut u64, more| *count += more, take)?;

    // A quarter: the operator needs the rest as soon as the table is full.
    let most = usize::try_from(flow.memory().limit() / 4).unwrap_or(usize::MAX);
    let table = agree(world, Table::new(most))?;
    let mut pieces = Pieces::new(Level::best(), options.words, options.ignore_case, table);
    let mut room = flow.memory().reserve();
    let shared = RefCell::new(&mut op);
    let mut flush = |table: &mut Table| -> Result<()> {
        let word = |word| match word {
            Counted::Short(len, bytes) => Word::Short(len, bytes),
            Counted::Long(bytes) => Word::Long(bytes.into()),
        };
        // What the operator may take depends on what others hold.
        room.shrink(room.bytes());
        room.take(table.bytes() as u64);
        let mut op = shared.borrow_mut();
        table.iter().try_for_each(|(w, count)| {
            insert(world, &mut **op, (word(w), count), |op, pair| op.insert(rank, pair))
        })?;
        table.clear();
        Ok(())
    };
    let mut before = 0;
    let read = parts.into_iter().try_for_each(|(i, part)| {
        let source = files.open(i)?;
        let start = part.start;
        let mut ticked = |at: u64| {
            progress.tick(before + at.saturating_sub(start), bytes, || {
                Bytes(before + at.saturating_sub(start)).to_string()
            });
            shared.borrow_mut().progress()?;
            not_stopped(world)
        };
        pieces.count(&source, (part.start, part.end), &mut flush, &mut ticked)?;
        before += part.end - part.start;
        Ok::<(), Error>(())
    });
    let read = read.and_then(|()| flush(&mut pieces.table));
    if let Err(Error::Net(e)) = read {
        return Err(e.into());
    }
    // After any other error this rank has no more words: the others, who wait for them, hear of it below.
    drop(room);
    let words = pieces.counted;
    drop(pieces);
    let counted = begin.elapsed();
    progress.finish(&format!("rank {rank} has counted its {} after {}", Bytes(bytes), seconds(counted)));
    let progress = Progress::new("wordcount: reduce", mode).after(Duration::from_millis(500));
    op.finish(rank)?;
    let completed = until(world, &mut op, |op| {
        progress.step(|| format!("{} on rank {rank}", plural(came.get(), "distinct word")));
        Ok(op.is_complete())
    });
    // The operator is still there: what is under way must find it.
    agree(world, read.and(completed).and_then(|()| kept.replace(Ok(()))))?;
    drop(op);
    progress.finish(&format!("the counts of all ranks are together after {}", seconds(begin.elapsed())));
    Ok(Done { sorter, words, counted })
}
