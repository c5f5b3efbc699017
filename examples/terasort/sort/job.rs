//! A run from the first byte read to the last one written.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian::ops::{Batch, ByKey, Dataflow, Insert, LogicalPlan, Operator, Sort, taking};
use aeolian_examples::agree::agree;
use aeolian_examples::matrix::block;
use aeolian_examples::progress::{Mode, Progress};
use aeolian_examples::stop::{complete, listen, not_stopped};
use aeolian_examples::tera::directory::{Directory, Part};
use aeolian_examples::tera::record::{Record, SIZE};
use aeolian_examples::{Error, Result, rss, summary};

use crate::cli::Options;
use crate::report::{Seconds, Spilled, Summary};
use crate::source::Source;

/// What a rank's part of the result is written to, from within the operator.
struct Output<'a> {
    part: RefCell<Option<Part>>,
    /// The first error: it is told when the operator is done, since the other ranks wait for this one.
    failed: RefCell<Option<Error>>,
    records: Cell<u64>,
    /// When the first records came.
    began: Cell<Option<Instant>>,
    progress: &'a Progress,
    /// About so many will come.
    expected: u64,
}

impl Output<'_> {
    fn take(&self, batch: &Batch<Record>) {
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
        }
        let records = batch.as_slice();
        self.records.set(self.records.get() + records.len() as u64);
        if let Some(part) = self.part.borrow_mut().as_mut()
            && let Err(e) = part.write(bytemuck::cast_slice(records))
        {
            self.failed.borrow_mut().get_or_insert(e);
        }
        if self.failed.borrow().is_some() {
            // Whatever room it took is free again.
            *self.part.borrow_mut() = None;
        }
        let done = self.expected + self.records.get().min(self.expected);
        self.progress.tick(done, 2 * self.expected, || "writing".into());
    }
}

/// Sorts what `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    agree(world, options.check())?;
    if options.is_demo() {
        let output = options.output().display();
        Progress::new("terasort", mode).finish(&format!(
            "no --input: sorts records of teragen, made in memory, to the directory {output}"
        ));
    }
    listen(world)?;
    let source = Source::look(world, options)?;
    let flow = options.flow.dataflow(world, "terasort", mode)?;
    let directory = Directory::create(world, options.output(), options.replace())?;
    let part = agree(world, directory.part())?;

    let mine = block(source.records(), world.rank() as usize, world.size() as usize);
    let expected = mine.end - mine.start;
    let progress = Progress::new("terasort", mode).after(Duration::from_millis(500));
    let output = Output {
        part: RefCell::new(Some(part)),
        failed: RefCell::new(None),
        records: Cell::new(0),
        began: Cell::new(None),
        progress: &progress,
        expected,
    };
    let mut read_time = 0.0;
    sort(world, &flow, &source, &output, || read_time = begin.elapsed().as_secs_f64())?;
    let sort_end = output.began.get().map_or(begin.elapsed(), |at| at - begin).as_secs_f64();
    let write_end = begin.elapsed().as_secs_f64();

    let records = output.records.get();
    let finished = match (output.failed.into_inner(), output.part.into_inner()) {
        (Some(e), _) => Err(e),
        (None, Some(part)) => part.finish(),
        (None, None) => Err(Error::Os { what: "there is no part".into(), help: "please report this".into() }),
    };
    let part = agree(world, finished)?;
    agree(world, not_stopped(world))?;
    let report = flow.spill().report();
    let mut sums = [records, report.files, report.bytes_written, report.stored_bytes];
    allreduce_slice(world, &mut sums, Sum)?;
    let mut most = [flow.memory().limit(), flow.memory().peak(), rss::peak(), records];
    allreduce_slice(world, &mut most, Max)?;
    if sums[0] != source.records() {
        return Err(Error::Os {
            what: format!("{} records were read, but {} came out", source.records(), sums[0]),
            help: "please report this".into(),
        });
    }
    directory.finish(world, part)?;
    let total = begin.elapsed().as_secs_f64();
    progress.finish("");
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        input: options.input_name(),
        output: options.output().display().to_string(),
        records: sums[0],
        bytes: sums[0] * SIZE as u64,
        largest_part: most[3],
        seconds: Seconds {
            read: read_time,
            exchange: sort_end - read_time,
            write: write_end - sort_end,
            flush: total - write_end,
            total,
        },
        spilled: Spilled { files: sums[1], bytes: sums[2], stored_bytes: sums[3] },
        memory_limit_bytes: most[0],
        memory_peak_bytes: most[1],
        peak_rss_bytes: most[2],
        version: env!("CARGO_PKG_VERSION"),
    };
    let printed = match world.rank() {
        0 => summary::print(&summary, options.json, options.quiet, || summary.text()),
        _ => Ok(()),
    };
    agree(world, printed)
}

/// Moves all records. `read` is called when all ranks have read theirs.
fn sort(
    world: &mut World,
    flow: &Dataflow,
    source: &Source,
    output: &Output<'_>,
    read: impl FnOnce(),
) -> Result<()> {
    let take = taking(|_target, batch: Batch<Record>| output.take(&batch));
    let mut op = Sort::new(flow, &LogicalPlan::each_rank(world), ByKey, take)?;
    let rank = world.rank();
    let mut done = 0;
    let inserted = source.read(world, |records| {
        not_stopped(world)?;
        // Nothing else tells this rank that another one is gone.
        world.progress()?;
        op.insert_all(
            rank,
            records.as_chunks::<SIZE>().0.iter().map(|r| bytemuck::pod_read_unaligned::<Record>(r)),
        )?;
        done += (records.len() / SIZE) as u64;
        output.progress.tick(done, 2 * output.expected, || "reading".into());
        Ok(())
    });
    agree(world, inserted)?;
    read();
    op.finish(rank)?;
    let completed = complete(world, &mut op);
    agree(world, completed)
}
