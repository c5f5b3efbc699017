//! A run: each rank checks its part, and what is between the parts is checked of all together.

use std::time::{Duration, Instant};

use aeolian::World;
use aeolian_examples::agree::agree;
use aeolian_examples::matrix::block;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::summary::{self, plural, ranks_on};
use aeolian_examples::tera::checksum::Checksum;
use aeolian_examples::tera::input::{self, Input};
use aeolian_examples::tera::record::{SIZE, shown};
use aeolian_examples::{Error, Result};
use serde::Serialize;

use crate::cli::Options;
use crate::order::Stretch;

/// What `--json` prints, and the text shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) input: String,
    pub(crate) files: usize,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Hexadecimal, as of `valsort`.
    pub(crate) checksum: Checksum,
    /// Records with the key of the one before them.
    pub(crate) duplicate_keys: u64,
    /// Records with a smaller key than the one before them.
    pub(crate) unordered: u64,
    pub(crate) sorted: bool,
    /// Wall-clock seconds of rank 0.
    pub(crate) seconds: f64,
    pub(crate) version: &'static str,
}

/// Checks what `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    let progress = Progress::new("teravalidate", mode).after(Duration::from_millis(500));
    let input = input::look(world, &options.input)?;
    let range = block(input.records(), world.rank() as usize, world.size() as usize);
    let all = range.end - range.start;
    let mut mine = Stretch::default();
    let read = input.read(range.clone(), |records| {
        if world.stop_requested() {
            return Err(Error::Stopped {
                what: "stopped on request before all records were checked".into(),
                help: "run again".into(),
            });
        }
        mine.add(mine.records, records);
        progress.tick(mine.records, all, String::new);
        Ok(())
    });
    agree(world, read)?;
    mine.begin_at(range.start);
    let whole = mine.of_all(world)?;
    progress.finish("");
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        input: input::shown(&options.input),
        files: input.files(),
        records: whole.records,
        bytes: whole.records * SIZE as u64,
        checksum: whole.checksum,
        duplicate_keys: whole.duplicates,
        unordered: whole.unordered,
        sorted: whole.unordered == 0,
        seconds: begin.elapsed().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let text = || {
        format!(
            "{}: {} in {}, {}, wires: {}\nchecked in {}\nchecksum {}\nduplicate keys {}\n{}\n",
            summary.input,
            plural(summary.records, "record"),
            plural(summary.files as u64, "file"),
            ranks_on(summary.ranks, summary.nodes),
            summary.transport,
            seconds(begin.elapsed()),
            summary.checksum,
            summary.duplicate_keys,
            match summary.unordered {
                0 => "all records are in order".to_owned(),
                n => format!("not in order: records with a smaller key than the one before: {n}"),
            }
        )
    };
    let printed = match world.rank() {
        0 => summary::print(&summary, options.json, options.quiet, text),
        _ => Ok(()),
    };
    agree(world, printed)?;
    verdict(&input, &whole, options)
}

/// What is wrong with the records, on all ranks alike.
fn verdict(input: &Input, whole: &Stretch, options: &Options) -> Result<()> {
    if let Some(it) = whole.first_break {
        return Err(Error::data(
            input.place(it.at),
            format!(
                "its key {} is smaller than {} of the record before it ({}); {} of {} {} not in order",
                shown(&it.keys[1]),
                shown(&it.keys[0]),
                input.place(it.at - 1),
                plural(whole.unordered, "record"),
                whole.records,
                if whole.unordered == 1 { "is" } else { "are" }
            ),
            "sort it with terasort; files are taken in the order in which they are named, part files by their numbers",
        ));
    }
    let help = "these are not the records that teragen has made, or not all of them: compare the two files' sizes and names";
    match (options.records, options.checksum) {
        (Some(want), _) if want != whole.records => Err(Error::data(
            input::shown(&options.input),
            format!("the number of records is {}, not {want}", whole.records),
            help,
        )),
        (_, Some(want)) if want != whole.checksum => Err(Error::data(
            input::shown(&options.input),
            format!("the checksum is {}, not {want}", whole.checksum),
            help,
        )),
        _ => Ok(()),
    }
}
