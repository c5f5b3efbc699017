//! The file that was asked for, and standard output.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};

use aeolian::World;
use aeolian_examples::agree::{all, to_first};
use aeolian_examples::output::Target;
use aeolian_examples::{Error, Result, summary};

use crate::cli::Options;
use crate::job::Summary;
use crate::names::Labels;
use crate::{sorted, top};

/// Lines that travel at once.
const LINES: usize = 1 << 16;

/// Where the ranks are written by default if the bundled graph is ranked.
const BUNDLED: &str = "debian-ranks.tsv";

/// Whether a file will be written: known on every rank.
pub(crate) fn wanted(options: &Options) -> bool {
    options.output.is_some() || options.bundled()
}

/// Checks that the file can be written, before anything is computed. For rank 0.
pub(crate) fn check(options: &Options) -> Result<Option<Target>> {
    let path = options.output.clone().or_else(|| options.bundled().then(|| PathBuf::from(BUNDLED)));
    let Some(path) = path else { return Ok(None) };
    let input = options.input.as_deref().map(|i| Path::new(i).canonicalize());
    if matches!((input, path.canonicalize()), (Some(Ok(a)), Ok(b)) if a == b) {
        let what = format!("--output {}: this file is an input", path.display());
        return Err(Error::usage(what, "name another file"));
    }
    Target::check(&path).map(Some)
}

/// Writes all vertices, which come to rank 0 a piece at a time. Collective; only rank 0 has a target.
pub(crate) fn ranks(
    world: &mut World,
    target: Option<&Target>,
    labels: &Labels,
    ranks: &[f64],
) -> Result<()> {
    // Generated vertices are in order already.
    let sorted = match labels {
        Labels::Text(names) => Some(sorted::sort(world, names, ranks)?),
        Labels::Numbers(_) => None,
    };
    let line = |out: &mut Vec<u8>, i: usize| {
        let rank = match &sorted {
            Some(sorted) => {
                let (name, rank) = sorted.get(i);
                out.extend_from_slice(name);
                rank
            }
            None => {
                out.extend_from_slice(&labels.get(i));
                ranks[i]
            }
        };
        // As short as it can be and still read back as the same bits.
        out.extend(format!("\t{rank:e}\n").bytes());
    };
    let mine = sorted.as_ref().map_or(ranks.len(), sorted::Sorted::len);
    let rows = all(world, mine as u64)?;
    let pulled = Cell::new(false);
    let mut pull = |out: &mut dyn Write| -> Result<std::io::Result<()>> {
        pulled.set(true);
        let mut failed = Ok(());
        for (rank, rows) in rows.iter().enumerate() {
            for at in (0..*rows as usize).step_by(LINES) {
                let mut piece = Vec::new();
                if rank == world.rank() as usize {
                    (at..mine.min(at + LINES)).for_each(|i| line(&mut piece, i));
                }
                let piece = to_first(world, piece)?;
                // After a failed write the others' pieces must still be taken: they are on their way.
                if failed.is_ok() {
                    failed = out.write_all(&piece);
                }
            }
        }
        Ok(failed)
    };
    let Some(target) = target else {
        return pull(&mut std::io::sink()).map(|_| ());
    };
    let mut wires = Ok(());
    let written = target.write(|out| {
        pull(out).unwrap_or_else(|e| {
            wires = Err(e);
            Err(std::io::ErrorKind::ConnectionAborted.into())
        })
    });
    wires?;
    if !pulled.get() {
        // It failed before the first line; the others are on their way with theirs.
        let _ = pull(&mut std::io::sink())?;
    }
    written
}

/// Prints. For rank 0.
pub(crate) fn print(summary: &Summary, target: Option<&Target>, options: &Options) -> Result<()> {
    summary::print(summary, options.json, options.quiet, || {
        top::text(summary, target.map(|t| t.path().display().to_string()))
    })
}
