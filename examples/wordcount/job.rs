//! A run from the first byte read to the last one written.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian::ops::{Batch, Dataflow, Insert, KeyedReduce, LogicalPlan, Operator, taking};
use aeolian_examples::agree::agree;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::stop::{complete, insert, listen, not_stopped};
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

/// Wall-clock seconds of rank 0, which waits for all ranks at the end of each stretch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seconds {
    /// Reading and counting what each rank reads.
    pub(crate) count: f64,
    /// Bringing the counts of a word together.
    pub(crate) reduce: f64,
    /// Sorting, and writing the file.
    pub(crate) write: f64,
    /// From the joined world on.
    pub(crate) total: f64,
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
    let begin = Instant::now();
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
    let files = Files::list(world, options)?;
    let target = if world.rank() == 0 { outputs::check(options, &files) } else { Ok(None) };
    let target = agree(world, target)?;
    let flow = options.flow.dataflow(world);
    let flow = agree(world, flow)?;

    let done = count(world, options, &flow, &files, mode)?;
    let reduced = begin.elapsed();

    let distinct = done.sorter.distinct;
    let (top, samples, sorted) = done.sorter.finish()?;
    let mut top = rounds::all_rows(world, top)?;
    top.sort();
    top.truncate(options.top);
    if outputs::wanted(options) {
        let written = rounds::write(world, target.as_ref(), samples, sorted, flow.memory().limit());
        agree(world, written)?;
    }
    let spilled = flow.spill().report().bytes_written;
    let mut sums = [done.words, distinct, spilled];
    allreduce_slice(world, &mut sums, Sum)?;
    let mut most = [rss::peak(), done.counted.as_micros() as u64, reduced.as_micros() as u64];
    allreduce_slice(world, &mut most, Max)?;
    let total = begin.elapsed().as_secs_f64();
    let [counted, reduced] = [most[1], most[2]].map(|micros| micros as f64 / 1e6);
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
        seconds: Seconds { count: counted, reduce: reduced - counted, write: total - reduced, total },
        peak_rss_bytes: most[0],
        version: env!("CARGO_PKG_VERSION"),
        top: top.iter().map(Top::new).collect(),
    };
    let printed = if world.rank() == 0 { outputs::print(&summary, target.as_ref(), options) } else { Ok(()) };
    agree(world, printed)
}

/// Counts this rank's words and brings each to the rank that it belongs to. Collective.
fn count(world: &mut World, options: &Options, flow: &Dataflow, files: &Files, mode: Mode) -> Result<Done> {
    let begin = Instant::now();
    let progress = Progress::new("wordcount", mode).after(Duration::from_millis(500));
    let rank = world.rank();
    let (bytes, parts) = files.part(rank, world.size());
    let mut sorter = Sorter::new(flow, options.top, outputs::wanted(options));
    // A receiver cannot fail: what went wrong is told when the operator is complete.
    let kept = RefCell::new(Ok(()));
    let take = taking(|_, batch: Batch<(Word, u64)>| {
        let mut kept = kept.borrow_mut();
        if kept.is_ok() {
            *kept = batch.into_iter().try_for_each(|(word, count)| sorter.push(Row { count, word }));
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
                format!("{:.0} MiB", (before + at.saturating_sub(start)) as f64 / f64::from(1 << 20))
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
    op.finish(rank)?;
    let completed = complete(world, &mut op);
    // The operator is still there: what is under way must find it.
    agree(world, read.and(completed).and_then(|()| kept.replace(Ok(()))))?;
    drop(op);
    progress.finish(&format!(
        "{:.1} MiB on this rank counted in {}, all together in {}",
        bytes as f64 / f64::from(1 << 20),
        seconds(counted),
        seconds(begin.elapsed())
    ));
    Ok(Done { sorter, words, counted })
}
