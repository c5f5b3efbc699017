//! A run from the first byte read to the last one written.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::time::{Duration, Instant};

use aeolian::World;
use aeolian::harp::{Max, Sum, allreduce_slice};
use aeolian::ops::{Batch, ByKey, Insert, KeyedReduce, LogicalPlan, Operator, Sort, taking};
use aeolian_examples::output::Target;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::readat::ReadAt;
use aeolian_examples::stop::{insert, listen};
use aeolian_examples::summary::{self, plural, ranks_on, spilled};
use aeolian_examples::tabular::{Chain, Dialect, Kind, Table, Value, check, complete, unless_wires, write};
use aeolian_examples::{Error, Result, agree::agree, flights, rss};
use serde::Serialize;

use crate::aggregate::{Part, Wanted, What};
use crate::cli::Options;

/// A column of the output.
#[derive(Debug, Clone, Serialize)]
struct Column {
    name: String,
    r#type: Kind,
}

/// What `--json` prints, and the text shows.
#[derive(Debug, Clone, Serialize)]
struct Summary {
    ranks: u32,
    nodes: usize,
    transport: String,
    input: String,
    rows: u64,
    groups: u64,
    columns: Vec<Column>,
    output: String,
    /// Bytes that operators of all ranks wrote to disk.
    spilled_bytes: u64,
    seconds: Seconds,
    /// The largest of all ranks.
    peak_rss_bytes: u64,
    version: &'static str,
}

/// Wall-clock seconds of rank 0, which waits for all ranks at the end of each stretch.
#[derive(Debug, Clone, Serialize)]
struct Seconds {
    /// Finding out the types.
    types: f64,
    /// Reading and reducing, sorting and writing.
    groups: f64,
    total: f64,
}

/// Groups as `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    listen(world)?;
    let target = check(world, options.output(), &options.input.iter().collect::<Vec<_>>())?;
    let mut table = match &options.input {
        Some(path) => Table::open(world, ReadAt::open(path), &options.table.dialect()?)?,
        None => {
            Progress::new("groupby", mode).finish(&format!(
                "no --input: reads the bundled {}, writes {} (and replaces it)",
                flights::DAY,
                options.output().display()
            ));
            Table::open(world, Ok(flights::flights()), &Dialect::default())?
        }
    };
    // Before the file is read as a whole.
    let mut columns = Columns::new(&table, options)?;
    let progress = Progress::new("groupby: types", mode).after(Duration::from_millis(500));
    table.scan(world, &progress)?;
    columns.take_types(world, &table)?;
    let types = begin.elapsed();
    progress.finish(&format!("{} in {}", table.size(), seconds(types)));

    let grouping = Instant::now();
    let (groups, on_disk) = group(world, target.as_ref(), &table, &columns, options, mode)?;
    let time = grouping.elapsed();
    Progress::new("groupby", mode).finish(&format!("{} in {}", plural(groups, "group"), seconds(time)));

    let mut sums = [groups, on_disk];
    allreduce_slice(world, &mut sums, Sum)?;
    let mut peak = [rss::peak()];
    allreduce_slice(world, &mut peak, Max)?;
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        input: table.name(),
        rows: table.rows,
        groups: sums[0],
        columns: columns.described(&table),
        output: options.output().display().to_string(),
        spilled_bytes: sums[1],
        seconds: Seconds {
            types: types.as_secs_f64(),
            groups: time.as_secs_f64(),
            total: begin.elapsed().as_secs_f64(),
        },
        peak_rss_bytes: peak[0],
        version: env!("CARGO_PKG_VERSION"),
    };
    let printed = if world.rank() == 0 {
        summary::print(&summary, options.json, options.quiet, || text(&summary))
    } else {
        Ok(())
    };
    agree(world, printed)
}

/// Which columns are read: those of the key first, then each that an aggregate is of.
struct Columns<'a> {
    keys: usize,
    read: Vec<usize>,
    aggregates: Vec<(&'a Wanted, Kind)>,
}

impl<'a> Columns<'a> {
    /// Checks that the columns are there. All ranks alike.
    fn new(table: &Table, options: &'a Options) -> Result<Columns<'a>> {
        let mut read = Vec::new();
        for name in &options.key {
            read.push(table.column(name)?);
        }
        let keys = read.len();
        let mut aggregates = Vec::new();
        for wanted in &options.agg {
            let Some(name) = &wanted.column else {
                aggregates.push((wanted, Kind::Null));
                continue;
            };
            let column = table.column(name)?;
            read.push(column);
            // Its type is not known yet.
            aggregates.push((wanted, Kind::Null));
        }
        let columns = Columns { keys, read, aggregates };
        let mut names = columns.names(table);
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::usage(
                format!("the output would have two columns with the name {:?}", twice[0]),
                "ask for each key and aggregate once, or rename the column of the input",
            ));
        }
        Ok(columns)
    }

    /// Takes the columns' types, and checks that sums are of numbers. Collective.
    fn take_types(&mut self, world: &mut World, table: &Table) -> Result<()> {
        let of_columns = self.aggregates.iter_mut().filter(|(wanted, _)| wanted.column.is_some());
        for ((wanted, kind), column) in of_columns.zip(&self.read[self.keys..]) {
            *kind = table.kinds[*column];
            if *kind == Kind::Text && matches!(wanted.what, What::Sum | What::Mean) {
                agree(world, table.numbers(*column))?;
            }
        }
        Ok(())
    }

    /// Names of the output's columns.
    fn names(&self, table: &Table) -> Vec<String> {
        let keys = self.read[..self.keys].iter().map(|i| table.names[*i].clone());
        keys.chain(self.aggregates.iter().map(|(wanted, _)| wanted.name.clone())).collect()
    }

    fn described(&self, table: &Table) -> Vec<Column> {
        let keys = self.read[..self.keys].iter().map(|i| table.kinds[*i]);
        let aggregates = self.aggregates.iter().map(|(wanted, kind)| match wanted.what {
            What::Count => Kind::Int,
            What::Mean => Kind::Float,
            _ => *kind,
        });
        let kinds = keys.chain(aggregates);
        self.names(table).into_iter().zip(kinds).map(|(name, kind)| Column { name, r#type: kind }).collect()
    }

    /// A row's key, and what it is of each aggregate.
    fn pair(&self, mut row: Vec<Value>) -> (Vec<Value>, Vec<Part>) {
        let mut values = row.split_off(self.keys).into_iter();
        let part = |(wanted, kind): &(&Wanted, Kind)| match wanted.column {
            Some(_) => Part::of(wanted.what, *kind, values.next().unwrap_or(Value::Null)),
            None => Part::Count(1),
        };
        let parts = self.aggregates.iter().map(part).collect();
        (row.into_iter().map(Value::as_key).collect(), parts)
    }

    /// A row of the output.
    fn row(&self, (mut key, parts): (Vec<Value>, Vec<Part>), table: &Table) -> Result<Vec<Value>> {
        for ((wanted, _), part) in self.aggregates.iter().zip(parts) {
            let value = part.end(wanted.what).map_err(|what| {
                let group = table.shown(&key[..self.keys]);
                Error::data(
                    table.name(),
                    format!("{} of the group {group} is {what}", wanted.name),
                    "take mean, or write the numbers with a decimal point to get a rounded sum",
                )
            })?;
            key.push(value);
        }
        Ok(key)
    }
}

/// Reads, reduces, sorts and writes. Returns the groups that this rank wrote, and the bytes that it spilled. Collective.
fn group(
    world: &mut World,
    target: Option<&Target>,
    table: &Table,
    columns: &Columns<'_>,
    options: &Options,
    mode: Mode,
) -> Result<(u64, u64)> {
    let flow = agree(world, options.flow.dataflow(world, "groupby", mode))?;
    let dialect = options.table.dialect()?;
    write(world, target, |world, lines| {
        let me = world.rank();
        lines.put(&dialect.header(&columns.names(table)));
        let (groups, wrong) = (Cell::new(0), RefCell::new(None));
        let take = taking(|_target, batch: Batch<(Vec<Value>, Vec<Part>)>| {
            let mut text = Vec::new();
            for pair in batch {
                match columns.row(pair, table) {
                    Ok(row) => dialect.put(&row, &mut text),
                    Err(e) => drop(wrong.borrow_mut().get_or_insert(e)),
                }
                groups.set(groups.get() + 1);
            }
            lines.put(&text);
        });
        let to_first = LogicalPlan::new(world, world.size(), 1).targets_on(&[0])?;
        let sort = RefCell::new(Sort::new(&flow, &to_first, ByKey, take)?);
        let failed = RefCell::new(None);
        let combine = |into: &mut Vec<Part>, more: Vec<Part>| {
            into.iter_mut().zip(more).for_each(|(part, more)| part.add(more));
        };
        let each = LogicalPlan::each_rank(world);
        let mut reduce = KeyedReduce::new(&flow, &each, combine, Chain::new(&sort, me, &failed))?;
        let progress = |what: &str| Progress::new(what, mode).after(Duration::from_millis(500));
        let reading = progress("groupby: read");
        let read = table.read(world, &columns.read, &reading, |row| {
            insert(world, &mut reduce, columns.pair(row), |reduce, pair| reduce.insert(me, pair))
        });
        let read = unless_wires(read)?;
        reading.finish("");
        // Also after an error of the file: the others count on this rank.
        reduce.finish(me)?;
        let writing = progress("groupby: write");
        let tick = || writing.step(|| format!("{} written", plural(groups.get(), "group")));
        let done = complete(world, &mut reduce, &sort, &failed, tick);
        writing.finish("");
        // Here, not only by the caller: what is under way must find its operators.
        agree(world, read.and(done))?;
        let wrong = wrong.borrow_mut().take();
        wrong.map_or(Ok(()), Err)?;
        Ok((groups.get(), flow.spill().report().bytes_written))
    })
}

/// The text on standard output.
fn text(s: &Summary) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {}, {}, {}, wires: {}",
        s.input,
        plural(s.rows, "row"),
        plural(s.groups, "group"),
        ranks_on(s.ranks, s.nodes),
        s.transport
    );
    let time = |x: f64| seconds(Duration::from_secs_f64(x));
    let Seconds { types, groups, total } = s.seconds;
    let _ = writeln!(
        out,
        "{} (types {}, groups {}), {}",
        time(total),
        time(types),
        time(groups),
        spilled(s.spilled_bytes)
    );
    let columns: Vec<String> =
        s.columns.iter().map(|c| format!("{} ({})", c.name, c.r#type.name())).collect();
    let _ = writeln!(out, "columns: {}", columns.join(", ").replace(char::is_control, " "));
    let _ = writeln!(out, "written: {}", s.output);
    out
}
