//! A run: each rank makes its records and writes them.

use std::time::{Duration, Instant};

use aeolian::World;
use aeolian_examples::Result;
use aeolian_examples::agree::agree;
use aeolian_examples::matrix::block;
use aeolian_examples::progress::{Mode, Progress, seconds};
use aeolian_examples::stop::{listen, not_stopped};
use aeolian_examples::summary::{self, plural, ranks_on};
use aeolian_examples::tera::checksum::{self, Checksum};
use aeolian_examples::tera::directory::{Directory, Part, Replace, Whole};
use aeolian_examples::tera::gensort::Generator;
use aeolian_examples::tera::record::SIZE;
use clap::ValueEnum;
use serde::Serialize;

use crate::cli::Options;
use crate::room;

/// Records that are made at once: they stay in the cache.
const PIECE: u64 = 2500;

/// What `--json` prints, and the text shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ranks: u32,
    pub(crate) nodes: usize,
    pub(crate) transport: String,
    pub(crate) output: String,
    pub(crate) format: String,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Hexadecimal, as of `gensort -c`.
    pub(crate) checksum: Checksum,
    /// Wall-clock seconds of rank 0.
    pub(crate) seconds: f64,
    pub(crate) version: &'static str,
}

/// Makes what `options` say. Errors are the same on every rank, except those of the wires.
pub(crate) fn run(world: &mut World, options: &Options) -> Result<()> {
    let begin = Instant::now();
    listen(world)?;
    let mode = Mode::choose(world.rank() as usize, options.quiet);
    let progress = Progress::new("teragen", mode).after(Duration::from_millis(500));
    let replace = if options.overwrite { Replace::Parts } else { Replace::Nothing };
    let directory = Directory::create(world, &options.output, replace)?;
    let room = match world.rank() {
        0 => room::check(&options.output, options.records * SIZE as u64),
        _ => Ok(()),
    };
    agree(world, room)?;
    let made = directory.part().and_then(|part| make(world, options, part, &progress));
    let (part, checksum) = agree(world, made)?;
    let checksum = checksum::of_all(world, checksum)?;
    directory.finish(world, part)?;
    let summary = Summary {
        ranks: world.size(),
        nodes: world.layout().hosts.len(),
        transport: world.transport(),
        output: options.output.display().to_string(),
        format: options.format.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned()),
        records: options.records,
        bytes: options.records * SIZE as u64,
        checksum,
        seconds: begin.elapsed().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION"),
    };
    progress.finish("");
    let text = || {
        format!(
            "{} of {SIZE} bytes, {}, wires: {}\nmade in {}\nchecksum {}\nwritten: {} in {}\n",
            plural(summary.records, "record"),
            ranks_on(summary.ranks, summary.nodes),
            summary.transport,
            seconds(begin.elapsed()),
            summary.checksum,
            plural(summary.ranks.into(), "part file"),
            summary.output
        )
    };
    let printed = match world.rank() {
        0 => summary::print(&summary, options.json, options.quiet, text),
        _ => Ok(()),
    };
    agree(world, printed)
}

/// Makes and writes this rank's records.
fn make(world: &World, options: &Options, mut part: Part, progress: &Progress) -> Result<(Whole, Checksum)> {
    let range = block(options.records, world.rank() as usize, world.size() as usize);
    let mut generator =
        Generator::new(options.format, options.seed, options.skew, options.first + range.start);
    let mut checksum = Checksum::default();
    let mut buffer = vec![0; PIECE as usize * SIZE];
    let all = range.end - range.start;
    for at in range.clone().step_by(PIECE as usize) {
        not_stopped(world)?;
        // Nothing else tells this rank that another one is gone.
        world.progress()?;
        let records = &mut buffer[..PIECE.min(range.end - at) as usize * SIZE];
        generator.fill(records);
        checksum.add(records);
        part.write(records)?;
        progress.tick(at - range.start + (records.len() / SIZE) as u64, all, String::new);
    }
    Ok((part.finish()?, checksum))
}
