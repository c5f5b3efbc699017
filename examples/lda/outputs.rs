//! The files that were asked for, and standard output.

use std::io::Write;
use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian_examples::agree::{agree, all, to_first};
use aeolian_examples::error::plain;
use aeolian_examples::output::Target;
use aeolian_examples::{Error, Result, summary};

use crate::cells::Block;
use crate::cli::Options;
use crate::job::Summary;
use crate::sampler::Priors;
use crate::sources::Source;
use crate::topics;
use crate::topics::{Entry, together};
use crate::vocabulary::Vocabulary;

/// Documents whose lines travel at once.
const DOCUMENTS: usize = 1 << 12;

/// Where files are written by default if the bundled book is read.
const BUNDLED: &str = "book-topics";

/// Where the three files go.
pub(crate) struct Targets {
    directory: PathBuf,
    topics: Target,
    documents: Target,
    vocabulary: Target,
}

/// Whether files will be written: known on every rank.
pub(crate) fn wanted(options: &Options) -> bool {
    options.output.is_some() || options.bundled()
}

/// Makes the directory if need be and checks that the files can be written, before anything is sampled. For rank 0.
pub(crate) fn check(options: &Options, sources: &[Source]) -> Result<Option<Targets>> {
    let path = options.output.clone().or_else(|| options.bundled().then(|| PathBuf::from(BUNDLED)));
    let Some(directory) = path else { return Ok(None) };
    if let Err(e) = std::fs::create_dir(&directory)
        && !directory.is_dir()
    {
        let (what, help) = match directory.exists() {
            true => ("is not a directory".into(), "name a directory, or one that is not there yet"),
            false => {
                (format!("cannot be made: {}", plain(&e)), "make the directory that it is in (mkdir -p)")
            }
        };
        let place = directory.display().to_string();
        return Err(Error::CannotWrite { place, what, help: help.into() });
    }
    for name in ["topics.tsv", "documents.tsv", "vocabulary.tsv"] {
        // One that is not there yet is no input.
        let Ok(file) = directory.join(name).canonicalize() else { continue };
        if sources.iter().any(|s| Path::new(&s.path).canonicalize().is_ok_and(|input| input == file)) {
            let what = format!("--output {}: {name} in it is an input", directory.display());
            return Err(Error::usage(what, "name another directory"));
        }
    }
    Ok(Some(Targets {
        topics: Target::check(&directory.join("topics.tsv"))?,
        documents: Target::check(&directory.join("documents.tsv"))?,
        vocabulary: Target::check(&directory.join("vocabulary.tsv"))?,
        directory,
    }))
}

impl Targets {
    /// The directory, for messages.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A rank's results.
pub(crate) struct Results<'a> {
    pub(crate) priors: Priors,
    pub(crate) vocabulary: &'a Vocabulary,
    pub(crate) entries: &'a [Entry],
    pub(crate) totals: &'a [i64],
    pub(crate) names: &'a [String],
    pub(crate) blocks: &'a [Block],
}

/// Writes all files, whose content comes to rank 0 a piece at a time. Collective; only rank 0 has targets.
pub(crate) fn write(world: &mut World, targets: Option<&Targets>, results: &Results) -> Result<()> {
    let written = write_topics(world, targets.map(|t| &t.topics), results);
    agree(world, written)?;
    let written = write_documents(world, targets.map(|t| &t.documents), results);
    agree(world, written)?;
    let written = targets.map_or(Ok(()), |t| {
        t.vocabulary.write(|out| {
            out.write_all(b"word\tcount\n")?;
            let words = &results.vocabulary.words;
            words.iter().zip(&results.vocabulary.counts).try_for_each(|(w, n)| writeln!(out, "{w}\t{n}"))
        })
    });
    agree(world, written)
}

fn write_topics(world: &mut World, target: Option<&Target>, results: &Results) -> Result<()> {
    let (mut rest, priors) = (results.entries, results.priors);
    let pieces = results.totals.iter().enumerate().map(|(topic, tokens)| {
        let (mine, others) = rest.split_at(rest.partition_point(|e| e.topic as usize == topic));
        rest = others;
        move |world: &mut World| -> Result<Vec<u8>> {
            let mut out = Vec::new();
            for e in together(world, mine)? {
                let share = (f64::from(e.count) + priors.beta) / (*tokens as f64 + priors.beta_sum);
                let word = &results.vocabulary.words[e.word as usize];
                out.extend(format!("{topic}\t{word}\t{}\t{share:e}\n", e.count).bytes());
            }
            Ok(out)
        }
    });
    pour(world, target, "topic\tword\tcount\tprobability\n", pieces)
}

fn write_documents(world: &mut World, target: Option<&Target>, results: &Results) -> Result<()> {
    let places: Vec<(&Block, usize)> =
        results.blocks.iter().flat_map(|b| (0..b.mixtures.len()).map(move |d| (b, d))).collect();
    let (places, priors, me) = (&places[..], results.priors, world.rank() as usize);
    let line = |out: &mut Vec<u8>, i: usize| {
        let (block, d) = places[i];
        let mut list: Vec<_> =
            block.mixtures.of(d).iter().map(|e| block.mixtures.packing.unpack(*e)).collect();
        list.sort_unstable_by_key(|(topic, count)| (u32::MAX - count, *topic));
        let whole = f64::from(block.lengths[d]) + priors.alpha * priors.topics as f64;
        // Names are of files: what would break the table is shown as a blank.
        let name = results.names[i].replace(['\t', '\n', '\r'], " ");
        for (topic, count) in list {
            let share = (f64::from(count) + priors.alpha) / whole;
            out.extend(format!("{name}\t{topic}\t{count}\t{share:e}\n").bytes());
        }
    };
    let counts = all(world, places.len() as u64)?;
    let starts = counts
        .iter()
        .enumerate()
        .flat_map(|(rank, n)| (0..*n as usize).step_by(DOCUMENTS).map(move |at| (rank, at)));
    let pieces = starts.map(|(rank, at)| {
        move |world: &mut World| -> Result<Vec<u8>> {
            let mut piece = Vec::new();
            if rank == me {
                (at..places.len().min(at + DOCUMENTS)).for_each(|i| line(&mut piece, i));
            }
            to_first(world, piece)
        }
    });
    pour(world, target, "document\ttopic\tcount\tprobability\n", pieces)
}

/// Writes a head and pieces, each of which comes to rank 0 in a collective of its own. Collective.
fn pour<P: FnOnce(&mut World) -> Result<Vec<u8>>>(
    world: &mut World,
    target: Option<&Target>,
    head: &str,
    mut pieces: impl Iterator<Item = P>,
) -> Result<()> {
    let mut wires = Ok(());
    let mut pull = |out: &mut dyn Write| -> std::io::Result<()> {
        out.write_all(head.as_bytes())?;
        for piece in pieces.by_ref() {
            match piece(world) {
                Ok(piece) => out.write_all(&piece)?,
                Err(e) => {
                    wires = Err(e);
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        Ok(())
    };
    let written = match target {
        Some(target) => target.write(&mut pull),
        None => Ok(()),
    };
    // After a failed write the others' pieces must still be taken: they are on their way. Elsewhere than on rank 0 nothing else
    // is done.
    if wires.is_ok() {
        for piece in pieces {
            piece(world)?;
        }
    }
    wires?;
    written
}

/// Prints. For rank 0.
pub(crate) fn print(summary: &Summary, targets: Option<&Targets>, options: &Options) -> Result<()> {
    summary::print(summary, options.json, options.quiet, || {
        topics::text(summary, targets.map(|t| t.directory().display().to_string()))
    })
}
