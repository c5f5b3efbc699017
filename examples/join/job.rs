//! A run from the first byte read to the last one written.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian::ops::{
    Ascending, Batch, Dataflow, Insert, Join, JoinReport, LogicalPlan, Operator, Partition, RoundRobin, Sort,
    taking,
};
use aeolian_examples::agree::agree;
use aeolian_examples::output::Target;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::readat::ReadAt;
use aeolian_examples::stop::{insert, listen};
use aeolian_examples::summary::plural;
use aeolian_examples::tabular::{Chain, Dialect, Lines, Table, Value, check, complete, unless_wires, write};
use aeolian_examples::{Result, flights, rss};

use crate::cli::{Options, word};
use crate::columns::Columns;
use crate::outputs::{self, Seconds, Side, Summary};

/// Joins as `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    listen(world)?;
    let inputs: Vec<&PathBuf> = options.left.iter().chain(&options.right).collect();
    let target = check(world, options.output(), &inputs)?;
    if inputs.is_empty() {
        Progress::new("join", mode).finish(&format!(
            "no --left and --right: reads the bundled {}, and their planes, writes {} (and replaces it)",
            flights::DAY,
            options.output().display()
        ));
    }
    let mut left = open(world, options.left.as_deref(), flights::flights, options)?;
    let mut right = open(world, options.right.as_deref(), flights::planes, options)?;
    // Before either file is read as a whole.
    let columns = Columns::new(&left, &right, options)?;
    scan(world, "left", &mut left, mode)?;
    scan(world, "right", &mut right, mode)?;
    columns.align(&mut left, &mut right);
    let types = begin.elapsed();

    let joining = Instant::now();
    let job = Joining { left: &left, right: &right, columns: &columns, options, mode };
    let (rows, report, on_disk) = job.run(world, target.as_ref())?;
    let time = joining.elapsed();

    let JoinReport { broadcast, hashed, sorted, cut, spilled, shared, got, bytes, largest_part } = report;
    let mut sums = [rows, on_disk, hashed, sorted, cut, spilled, shared, got, bytes];
    allreduce_slice(world, &mut sums, Sum)?;
    let mut most = [rss::peak(), largest_part, u64::from(broadcast)];
    allreduce_slice(world, &mut most, Max)?;
    let way = JoinReport {
        broadcast: most[2] > 0,
        hashed: sums[2],
        sorted: sums[3],
        cut: sums[4],
        spilled: sums[5],
        shared: sums[6],
        got: sums[7],
        bytes: sums[8],
        largest_part: most[1],
    };
    let side = |table: &Table| Side { file: table.name(), rows: table.rows, columns: table.names.len() };
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        kind: word(options.kind),
        algorithm: word(options.algorithm),
        chosen: word(options.algorithm.chosen(&way)),
        on: options.on.clone(),
        left: side(&left),
        right: side(&right),
        rows: sums[0],
        columns: columns.names.clone(),
        sorted: options.sorted,
        output: options.output().display().to_string(),
        way,
        spilled_bytes: sums[1],
        seconds: Seconds {
            types: types.as_secs_f64(),
            join: time.as_secs_f64(),
            total: begin.elapsed().as_secs_f64(),
        },
        peak_rss_bytes: most[0],
        version: env!("CARGO_PKG_VERSION"),
    };
    let printed = if world.rank() == 0 { outputs::print(&summary, options) } else { Ok(()) };
    agree(world, printed)
}

/// Opens a file, or without one what is bundled.
fn open(world: &mut World, path: Option<&Path>, bundled: fn() -> ReadAt, options: &Options) -> Result<Table> {
    match path {
        Some(path) => Table::open(world, ReadAt::open(path), &options.table.dialect()?),
        None => Table::open(world, Ok(bundled()), &Dialect::default()),
    }
}

/// Finds out what is in a file.
fn scan(world: &mut World, side: &str, table: &mut Table, mode: Mode) -> Result<()> {
    let begin = Instant::now();
    let progress = Progress::new(&format!("join: {side} types"), mode).after(Duration::from_millis(500));
    table.scan(world, &progress)?;
    progress.finish(&format!("{} in {}", table.size(), seconds(begin.elapsed())));
    Ok(())
}

/// What a join is made from.
struct Joining<'a> {
    left: &'a Table,
    right: &'a Table,
    columns: &'a Columns,
    options: &'a Options,
    mode: Mode,
}

impl Joining<'_> {
    /// Reads, joins and writes. Returns the rows that this rank wrote, how it went here, and the bytes that were spilled. Collective.
    fn run(&self, world: &mut World, target: Option<&Target>) -> Result<(u64, JoinReport, u64)> {
        let flow = self.options.flow.dataflow(world, "join", self.mode);
        let flow = agree(world, flow)?;
        let dialect = self.options.table.dialect()?;
        write(world, target, |world, lines: &Lines<'_>| {
            lines.put(&dialect.header(&self.columns.names));
            let rows = Cell::new(0);
            let take = taking(|_target, batch: Batch<Vec<Value>>| {
                let mut text = Vec::new();
                for row in batch {
                    dialect.put(&row, &mut text);
                    rows.set(rows.get() + 1);
                }
                lines.put(&text);
            });
            let to_first = LogicalPlan::new(world, world.size(), 1).targets_on(&[0])?;
            let report = if self.options.sorted {
                self.join(world, &flow, &RefCell::new(Sort::new(&flow, &to_first, Ascending, take)?), &rows)
            } else {
                let out = Partition::new(&flow, &to_first, RoundRobin::default(), take)?;
                self.join(world, &flow, &RefCell::new(out), &rows)
            }?;
            Ok((rows.get(), report, flow.spill().report().bytes_written))
        })
    }

    /// Joins into `out`, from which so many rows have been written.
    fn join<O: Insert<Vec<Value>>>(
        &self,
        world: &mut World,
        flow: &Dataflow,
        out: &RefCell<O>,
        written: &Cell<u64>,
    ) -> Result<JoinReport> {
        let me = world.rank();
        let failed = RefCell::new(None);
        let joined = Cell::new(0);
        let joiner = |key: &Vec<Value>, left: Option<&Vec<Value>>, right: Option<&Vec<Value>>| {
            joined.set(joined.get() + 1);
            self.columns.row(key, left, right)
        };
        let mut join = Join::new(
            flow,
            &LogicalPlan::each_rank(world),
            self.options.kind.into(),
            self.options.algorithm.into(),
            joiner,
            Chain::new(out, me, &failed),
        )?;
        let progress =
            |side: &str| Progress::new(&format!("join: {side}"), self.mode).after(Duration::from_millis(500));
        let mut number = 0;
        // The right side first: if it is small, it goes to all ranks, and the left side stays where it is.
        let reading = progress("right");
        let right = self.right.read(world, &self.columns.right, &reading, |values| {
            number += 1;
            let row = self.columns.right_row(values, number);
            row.map_or(Ok(()), |row| insert(world, &mut join, row, |join, row| join.insert_right(me, row)))
        });
        let right = unless_wires(right)?;
        reading.finish("");
        join.finish_right(me)?;
        let reading = progress("left");
        let left = self.left.read(world, &self.columns.left, &reading, |values| {
            number += 1;
            let row = self.columns.left_row(values, number);
            row.map_or(Ok(()), |row| insert(world, &mut join, row, |join, row| join.insert_left(me, row)))
        });
        let left = unless_wires(left)?;
        reading.finish("");
        // Also after an error of a file: the others count on this rank.
        join.finish(me)?;
        let joining = progress("join");
        let tick = || {
            joining.step(|| {
                format!("{} joined on rank {me}, {} written", plural(joined.get(), "row"), written.get())
            });
        };
        let done = complete(world, &mut join, out, &failed, tick);
        joining.finish("");
        // Here, not only by the caller: what is under way must find its operators.
        agree(world, right.and(left).and(done))?;
        Ok(join.report())
    }
}
